import pytest
import torch
from tiny_models import clips_of, pad, randomize_, tiny_config

from modeling_toxmtl import attention, kernels
from modeling_toxmtl.attention import GatedAttention
from modeling_toxmtl.wavlm import WavLMToxicityBackbone


SCALING = 0.5
LENGTHS = [9, 5]


@pytest.fixture(params=[1, 200, 10**6], ids=["heads", "pairs of heads", "all heads"])
def pieces(request, monkeypatch):
    """How many heads are taken at a time; two heads of nine frames in single precision are 648 bytes."""
    monkeypatch.setattr(attention, "BYTES_IN_CACHE", request.param * 4)


@pytest.fixture(params=[1, 4, 16])
def length_step(request, monkeypatch):
    """To which multiple of frames a clip is padded, if the batch is as long."""
    monkeypatch.setattr(attention, "LENGTH_STEP", request.param)


@pytest.fixture(params=[False, True], ids=["MKL", "oneDNN"])
def library(request, monkeypatch):
    if request.param and not kernels.HAS_ONEDNN:
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(kernels, "MKL_MAY_BE_SLOW", request.param)
    monkeypatch.setattr(kernels, "LARGE_PRODUCT", 0)


def tensors_of(dtype=torch.float32) -> list[torch.Tensor]:
    """Query, key, value, gate and position bias of two clips, three heads, nine frames and four channels."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 9, 4)] * 3 + [(2, 3, 9, 1), (1, 3, 9, 9)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def by_formula(query, key, value, gate, position_bias, kept=None, probability=0.0):
    """Each clip alone, cut to its length, by what autograd knows."""
    contexts = []
    for clip, length in enumerate(LENGTHS):
        q, k, v, g = (tensor[clip, :, :length] for tensor in (query, key, value, gate))
        weights = torch.softmax(SCALING * q @ k.mT + g * position_bias[0, :, :length, :length], dim=-1)
        if kept is not None:
            weights = weights * kept[clip, :, :length, :length] / (1 - probability)
        contexts.append(torch.nn.functional.pad(weights @ v, (0, 0, 0, 9 - length)))
    return torch.stack(contexts)


@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_values_and_gradients_of_the_formula(pieces, length_step, library, probability):
    kept = torch.rand(2, 3, 9, 9) > probability if probability else None
    ours, plain = tensors_of(), tensors_of()
    actual = GatedAttention.apply(*ours, LENGTHS, SCALING, kept, probability)
    expected = by_formula(*plain, kept, probability)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)
    assert not actual[1, :, 5:].any()
    gradient = torch.randn(actual.shape)  # on padded frames too, where it must count for nothing
    actual.backward(gradient)
    expected.backward(gradient)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-5)


def test_gradients_of_half_precision():
    """The bias stays in single precision, and so does its gradient, which sums over clips."""
    *ours, bias = tensors_of(torch.bfloat16)
    bias = bias.detach().float().requires_grad_()
    plain = [tensor.detach().double().requires_grad_() for tensor in (*ours, bias)]
    actual = GatedAttention.apply(*ours, bias, LENGTHS, SCALING, None, 0.0)
    expected = by_formula(*plain)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.double(), expected, atol=0.03, rtol=0.03)
    actual.sum().backward()
    expected.sum().backward()
    assert [tensor.grad.dtype for tensor in (*ours, bias)] == [torch.bfloat16] * 4 + [torch.float32]
    for one, other in zip((*ours, bias), plain, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("lengths", [(900, 900), (900, 410)])
def test_both_ways_of_sdpa_agree(lengths, norm, monkeypatch):
    """Piece by piece, where there are many weights on a CPU, and all at once."""
    model = randomize_(WavLMToxicityBackbone(tiny_config(**norm))).train()
    batch = pad(clips_of(*lengths))
    results = []
    for cache in (0, 10**9):
        monkeypatch.setattr(attention, "BYTES_IN_CACHE", cache)
        model.zero_grad()
        output = model(**batch)
        states = output.last_hidden_state[output.frame_mask]
        states.square().mean().backward()
        with torch.no_grad():  # without gradients, all at once is PyTorch's fused kernel
            inference = model(**batch).last_hidden_state[output.frame_mask]
        torch.testing.assert_close(inference, states, atol=1e-5, rtol=1e-5)
        parameters = dict(model.named_parameters())
        parameters.pop("masked_spec_embed", None)  # used with SpecAugment alone
        gradients = {name: parameter.grad.clone() for name, parameter in parameters.items()}
        results.append((states.detach(), gradients))
    (states, gradients), (expected_states, expected_gradients) = results
    torch.testing.assert_close(states, expected_states, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("cache", [0, 10**9])
def test_keeps_no_attention_weights(monkeypatch, cache):
    """The backward pass computes them again: what the forward pass keeps does not grow with the square of time, but
    for the position bias, which all blocks share."""
    monkeypatch.setattr(attention, "BYTES_IN_CACHE", cache)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    model = WavLMToxicityBackbone(tiny_config(num_hidden_layers=4)).train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.stack(clips_of(900)))
    assert [tuple(tensor.shape) for tensor in kept.values() if tensor.shape[-2:] == (44, 44)] == [(1, 2, 44, 44)]
