"""Linear layers by oneDNN: those of PyTorch, and only where they are meant to be."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import clips_of, pad, tiny_model
from torch import nn

from modeling_toxmtl import kernels
from modeling_toxmtl.kernels import OneDNNLinear, with_fast_linears


pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch lacks oneDNN")


@pytest.fixture(params=[False, True], ids=["mkl", "onednn"])
def library(request, monkeypatch):
    """Both ways, whatever processor the tests run on."""
    monkeypatch.setattr(kernels, "MKL_MAY_BE_SLOW", request.param)
    return request.param


@pytest.fixture
def calls(monkeypatch):
    """Counts the layers that oneDNN ran."""
    monkeypatch.setattr(kernels, "MKL_MAY_BE_SLOW", True)
    calls = []
    apply = OneDNNLinear.apply
    monkeypatch.setattr(OneDNNLinear, "apply", lambda *args: calls.append(args[0].shape) or apply(*args))
    return calls


class Layer(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.linear = nn.Linear(5, 4, bias=bias)

    @with_fast_linears
    def forward(self, rows):
        return self.linear(rows)


def leaves(*shapes):
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 1, 5), (2, 3, 2, 5)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients(shape, has_bias):
    """The second derivatives too."""
    inputs = leaves(shape, (4, 5), *[(4,)] * has_bias)

    def derivatives(linear):
        output = linear(*inputs)
        first = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), inputs)
        return output, *first, *second

    for found, expected in zip(derivatives(OneDNNLinear.apply), derivatives(F.linear), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_rows_with_gaps():
    rows, weight = torch.randn(3, 2, 10)[..., ::2].transpose(0, 1), torch.randn(5, 8).T[::2]
    torch.testing.assert_close(OneDNNLinear.apply(rows, weight, None), F.linear(rows, weight))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_of_each_example(library):
    """As differential privacy asks for them."""
    layer, rows = Layer(), torch.randn(3, 2, 5)
    parameters = dict(layer.named_parameters())

    def loss(parameters, rows):
        return torch.func.functional_call(layer, parameters, (rows,)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, rows)
    for row, example in enumerate(rows):
        expected = torch.autograd.grad(loss(parameters, example), list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(found[name][row], gradient)


@pytest.mark.parametrize("frozen", ["rows", "weight", "bias"])
def test_a_frozen_part_gets_no_gradient(frozen):
    inputs = dict(zip(("rows", "weight", "bias"), leaves((2, 3, 5), (4, 5), (4,)), strict=True))
    inputs[frozen].requires_grad_(False)
    OneDNNLinear.apply(*inputs.values()).sum().backward()
    assert {name for name, tensor in inputs.items() if tensor.grad is not None} == set(inputs) - {frozen}


def test_takes_what_it_is_meant_for(calls):
    layer = Layer()
    layer(torch.randn(2, 3, 5))
    layer(torch.randn(1, 5))
    assert calls == [(2, 3, 5), (1, 5)]
    assert type(layer.linear) is nn.Linear


class OtherTensor(torch.Tensor):
    """Of another library, with products of its own."""


def test_leaves_the_rest_to_pytorch(calls):
    layer = Layer()
    layer(torch.randn(5))
    layer(torch.randn(0, 5))
    layer(torch.randn(2, 5).as_subclass(OtherTensor))
    layer.double()(torch.randn(2, 5, dtype=torch.float64))
    layer.bfloat16()(torch.randn(2, 5, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        layer.float()(torch.randn(2, 5))
    layer.to("meta")(torch.randn(2, 5, device="meta"))
    assert not calls


def test_exports_hold_pytorch_operators_alone(calls):
    exported = torch.export.export(Layer(), (torch.randn(2, 5),))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
    traced = torch.jit.trace(Layer(), torch.randn(2, 5), check_trace=False)
    assert "mkldnn" not in str(traced.inlined_graph)
    assert not calls


def test_whole_model_uses_it(calls):
    model = tiny_model(use_task_adapter=True)
    linears = [module for module in model.wavlm.encoder.modules() if isinstance(module, nn.Linear)]
    assert {type(module) for module in linears} == {nn.Linear}
    model(**pad(clips_of(300)))
    assert len(calls) == len(linears)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_runs_the_same_operations_again(library, norm, reentrant):
    model = tiny_model(use_task_adapter=True, **norm).train()
    batch = pad(clips_of(300, 95))
    gradients = []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.zero_grad()
        model(**batch).logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
