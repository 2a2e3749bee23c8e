import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modeling_toxmtl import kernels
from modeling_toxmtl.kernels import (
    PackedLinear,
    ProductKernel,
    ToxicityLinear,
    as_frames,
    as_image,
    by_rows,
    channels_last,
    convolution,
    onednn_product,
    pack_linears,
    prefers_onednn,
    prepared_convolution,
    products,
    recomputed_convolution,
    uses_onednn,
)


needs_onednn = pytest.mark.skipif(not kernels.HAS_ONEDNN, reason="this PyTorch lacks oneDNN")


@pytest.fixture(autouse=True, params=[True, False], ids=["MKL may be slow", "MKL is as fast"])
def mkl_may_be_slow(request, monkeypatch):
    """Results are the same on every processor."""
    monkeypatch.setattr(kernels, "MKL_MAY_BE_SLOW", request.param)
    return request.param


def tensors(*shapes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def check_gradients(ours, expected, parameters, **tolerance):
    """Values and the gradients of a loss that weighs every output differently."""
    torch.testing.assert_close(ours, expected, **tolerance)
    (weights,) = tensors(expected.shape, seed=1)
    weights = weights.detach().to(expected.dtype)
    gradients = torch.autograd.grad((ours * weights).sum(), parameters)
    for actual, wanted in zip(gradients, torch.autograd.grad((expected * weights).sum(), parameters), strict=True):
        torch.testing.assert_close(actual, wanted, **tolerance)


def test_frames_and_images_share_memory():
    frames = torch.randn(2, 7, 4)
    image = as_image(frames)
    assert image.shape == (2, 4, 1, 7)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert image.data_ptr() == frames.data_ptr()
    assert torch.equal(as_frames(image), frames)


def test_channels_last_weight():
    weight = torch.randn(6, 4, 3)
    assert torch.equal(channels_last(weight), weight)
    assert channels_last(weight)[:, :, None].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_by_rows(rows, monkeypatch):
    monkeypatch.setattr(kernels, "ROWS_IN_CACHE", rows)
    (frames,) = tensors((2, 7, 4))
    seen = []

    def function(frames):
        seen.append(frames.shape[:2].numel())
        return frames.square()

    assert torch.equal(by_rows(function, frames), frames.square())
    assert sum(seen) == 14
    assert max(seen) <= 1.5 * rows


# --- convolutions


CONVOLUTIONS = {  # kernel, stride, padding, groups
    "a frame": (1, 1, 0, 1),
    "every other frame": (1, 2, 0, 1),
    "a frame, padded": (1, 1, 2, 1),
    "strided": (3, 2, 0, 1),
    "stride beyond the kernel": (2, 3, 0, 1),
    "padded": (3, 1, 1, 1),
    "grouped": (4, 1, 2, 2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(shape, has_bias, dtype):
    kernel, stride, padding, groups = shape
    frames, weight, bias = tensors((3, 20, 8), (6, 8 // groups, kernel), (6,), dtype=dtype)
    bias = bias if has_bias else None
    ours = convolution(frames, weight, bias, stride, padding, groups)
    expected = F.conv1d(frames.mT, weight, bias, stride, padding, groups=groups).mT
    parameters = [x for x in (frames, weight, bias) if x is not None]
    check_gradients(ours, expected, parameters, atol=1e-5, rtol=1e-5)


def test_convolution_on_many_threads():
    """With no more threads than clips, PyTorch itself would leave oneDNN."""
    frames, weight, bias = tensors((2, 20, 8), (6, 8, 1), (6,))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        ours = convolution(frames, weight, bias)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(ours, F.conv1d(frames.mT, weight, bias).mT)


@pytest.mark.parametrize("frozen", ["frames", "weight", "bias"])
def test_convolution_with_a_frozen_part(frozen):
    parts = dict(zip(("frames", "weight", "bias"), tensors((2, 9, 4), (3, 4, 2), (3,)), strict=True))
    parts[frozen].requires_grad_(False)
    expected = F.conv1d(parts["frames"].mT, parts["weight"], parts["bias"]).mT
    check_gradients(convolution(**parts), expected, [x for x in parts.values() if x.requires_grad])
    assert parts[frozen].grad is None


@needs_onednn
@pytest.mark.parametrize(
    "kernel_size, stride", [(1, 1), (3, 1), (3, 2), (2, 2), (8, 4), (7, 3), (1, 2), (10, 5), (2, 3)]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_product_kernel(batch, kernel_size, stride):
    for length in (kernel_size, 20, 21, 22, 23):
        frames, weight, bias = torch.randn(batch, length, 4), torch.randn(3, 4, kernel_size), torch.randn(3)
        for b in (bias, None):
            expected = F.conv1d(frames.mT, weight, b, stride).mT
            kernel = ProductKernel(channels_last(weight), b, stride)
            torch.testing.assert_close(kernel(frames), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(kernel.pack()(frames), expected, atol=1e-5, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize("large", [0, 2**24])
@pytest.mark.parametrize("batch", [1, 3])
def test_products(monkeypatch, batch, large):
    monkeypatch.setattr(kernels, "LARGE_PRODUCT", large)
    a, b = torch.randn(batch, 7, 5), torch.randn(batch, 3, 5)
    torch.testing.assert_close(products(a, b), a @ b.mT)
    c = torch.randn(batch, 7, 2)
    torch.testing.assert_close(products(a.mT, c.mT), a.mT @ c)  # laid out the other way


@needs_onednn
def test_onednn_product():
    rows, matrix, bias = torch.randn(2, 7, 5), torch.randn(3, 5), torch.randn(3)
    for b in (bias, None):
        torch.testing.assert_close(onednn_product(rows, matrix, b), F.linear(rows, matrix, b))
    wide = torch.randn(4, 10)
    for view in (matrix.T.contiguous().T, wide[:3, ::2], wide[:3, :5]):
        torch.testing.assert_close(onednn_product(rows, view), F.linear(rows, view))


def normalised(frames, weight, bias):
    return F.gelu(F.layer_norm(frames, weight.shape, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [11, 12, 13])  # more frames after the last window, or none
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (2, 2), (3, 1), (8, 4), (7, 3), (2, 3)])
def test_recomputed_convolution(kernel, stride, length, dtype):
    frames, scale, shift, weight, bias = tensors((3, length, 8), (8,), (8,), (6, 8, kernel), (6,), dtype=dtype)
    inputs = (frames, scale, shift)
    ours = recomputed_convolution(weight, bias, stride)(normalised, *inputs)
    expected = F.conv1d(normalised(*inputs).mT, weight, bias, stride).mT
    check_gradients(ours, expected, [*inputs, weight, bias], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (2, 2)])
def test_prepared_convolution(kernel, stride, dtype):
    frames, scale, shift, weight, bias = tensors((3, 11, 8), (8,), (8,), (6, 8, kernel), (6,), dtype=dtype)
    inputs = (frames, scale, shift)
    with torch.no_grad():
        convolve = prepared_convolution(channels_last(weight), bias, stride)
        expected = convolution(normalised(*inputs), weight, bias, stride)
        for _ in range(2):
            torch.testing.assert_close(convolve(normalised, *inputs), expected)


def test_recomputed_convolution_of_what_may_be_none():
    frames, weight = tensors((2, 5, 4), (3, 4, 1))
    kept = torch.tensor([1.0, 0.0]).repeat(2, 5, 2)
    for mask in (kept, None):
        ours = recomputed_convolution(weight)(lambda x, mask: x if mask is None else x * mask, frames, mask)
        dropped = frames if mask is None else frames * mask
        check_gradients(ours, F.conv1d(dropped.mT, weight).mT, [frames, weight])


@needs_onednn
@pytest.mark.parametrize("kernel", [1, 3])
def test_recomputed_convolution_keeps_its_inputs_alone(kernel):
    frames, scale, shift, weight = tensors((3, 11, 8), (8,), (8,), (6, 8, kernel))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        recomputed_convolution(weight)(normalised, frames, scale, shift)
    addresses = {x.data_ptr() for x in kept if x.numel() > 0}  # PyTorch 2.6 keeps an empty tensor too
    assert addresses <= {x.data_ptr() for x in (frames, scale, shift, weight)}


@needs_onednn
def test_no_second_derivative_in_silence():
    frames, weight = tensors((2, 5, 4), (3, 4, 2))
    (gradient,) = torch.autograd.grad(convolution(frames, weight).square().sum(), frames, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# --- linear layers


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 5, 8), (2, 3, 5, 8), (0, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear(shape, has_bias, dtype):
    layer = ToxicityLinear(8, 6, bias=has_bias).to(dtype)
    (frames,) = tensors(shape, dtype=dtype)
    expected = F.linear(frames, layer.weight, layer.bias)
    check_gradients(layer(frames), expected, [frames, *layer.parameters()], atol=1e-5, rtol=1e-5)


def test_linear_of_recomputed_input():
    layer = ToxicityLinear(8, 6)
    (frames,) = tensors((2, 5, 8))
    check_gradients(layer(frames, prepare=F.gelu), layer(F.gelu(frames)), [frames, *layer.parameters()])
    half = ToxicityLinear(8, 6).bfloat16()
    (frames,) = tensors((2, 5, 8), dtype=torch.bfloat16)
    check_gradients(half(frames, prepare=F.gelu), half(F.gelu(frames)), [frames, *half.parameters()])


def test_linear_under_autocast():
    layer = ToxicityLinear(8, 6)
    (frames,) = tensors((2, 5, 8))
    with torch.autocast("cpu", torch.bfloat16):
        ours, expected = layer(frames), F.linear(frames, layer.weight, layer.bias)
        recomputed = layer(frames, prepare=F.gelu)
    assert ours.dtype == recomputed.dtype == torch.bfloat16
    assert torch.equal(ours, expected)
    torch.autograd.grad(recomputed.float().sum(), [frames, layer.weight])


def test_linear_is_a_linear_layer():
    """By name and state, so that checkpoints load and adapters such as LoRA's attach."""
    ours, theirs = ToxicityLinear(8, 6), nn.Linear(8, 6)
    ours.load_state_dict(theirs.state_dict())
    frames = torch.randn(4, 8)
    assert isinstance(ours, nn.Linear)
    torch.testing.assert_close(ours(frames), theirs(frames))


# --- packed weights


@needs_onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 5, 8), (2, 3, 5, 8), (0, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_linear(shape, has_bias, dtype):
    layer = ToxicityLinear(8, 6, bias=has_bias).to(dtype)
    packed = PackedLinear(layer)
    frames = torch.randn(shape, dtype=dtype)
    apart = torch.randn(*shape[:-1], 16, dtype=dtype)[..., ::2]  # its numbers do not follow each other
    with torch.no_grad():
        for x in (frames, apart):
            tolerance = {"atol": 0.02 if dtype == torch.bfloat16 else 1e-6, "rtol": 1e-5}
            torch.testing.assert_close(packed(x), F.linear(x, layer.weight, layer.bias), **tolerance)
    state = packed.state_dict()
    assert list(state) == list(layer.state_dict())
    assert all(torch.equal(value, layer.state_dict()[name]) for name, value in state.items())
    assert f"bias={has_bias}" in repr(packed)


@needs_onednn
def test_packed_linear_under_autocast():
    layer = ToxicityLinear(8, 6)
    frames = torch.randn(5, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = F.linear(frames.bfloat16().float(), layer.weight, layer.bias)
        torch.testing.assert_close(PackedLinear(layer)(frames.bfloat16()).float(), expected.float(), atol=0.02, rtol=0)


@needs_onednn
def test_packed_linear_has_no_gradient():
    (frames,) = tensors((5, 8))
    with pytest.raises(RuntimeError, match="no gradients: train the model before"):
        PackedLinear(ToxicityLinear(8, 6))(frames)


@needs_onednn
def test_packed_weights_stay_where_and_as_they_are():
    packed = PackedLinear(ToxicityLinear(8, 6))
    assert packed.to("cpu").float() is packed
    for move in (packed.bfloat16, lambda: packed.to("meta")):
        with pytest.raises(RuntimeError, match="before it is packed"):
            move()


@needs_onednn
@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (ToxicityLinear(8, 6, device="meta"), "on 'meta', not on a CPU"),
        (ToxicityLinear(8, 6, dtype=torch.float16), "torch.float16, not in float32 or bfloat16"),
    ],
)
def test_what_cannot_be_packed(layer, why):
    model = nn.Sequential(nn.Linear(8, 8), layer)
    with pytest.raises(ValueError, match=why):
        pack_linears(model)
    assert model[1] is layer


def test_packing_needs_onednn(monkeypatch):
    monkeypatch.setattr(kernels, "HAS_ONEDNN", False)
    with pytest.raises(ValueError, match="without oneDNN"):
        PackedLinear(ToxicityLinear(8, 6))


@needs_onednn
def test_pack_linears():
    """Those of other classes, which may be adapters' or quantised, are left alone."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(ToxicityLinear(8, 6), nn.GELU()))
    frames = torch.randn(5, 8)
    with torch.no_grad():
        expected = model(frames)
        pack_linears(model)
        torch.testing.assert_close(model(frames), expected)
    assert [type(module) for module in (model[0], model[1][0])] == [nn.Linear, PackedLinear]


# --- when PyTorch's own functions are called


class OtherTensor(torch.Tensor):
    """Stands in for a quantised weight."""


@needs_onednn
def test_what_onednn_computes(mkl_may_be_slow, monkeypatch):
    frames = torch.randn(2, 3)
    assert uses_onednn(frames, nn.Parameter(frames), None)
    assert prefers_onednn(frames) == mkl_may_be_slow
    for other in (frames.bfloat16(), frames.double(), frames.to("meta"), frames[:0], frames.as_subclass(OtherTensor)):
        assert not uses_onednn(frames, other)
        assert not prefers_onednn(frames, other)
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_onednn(frames)
    monkeypatch.setattr(kernels, "HAS_ONEDNN", False)
    assert not prefers_onednn(frames)


def test_without_onednn_the_results_are_the_same(monkeypatch):
    frames, scale, shift, weight = tensors((3, 11, 8), (8,), (8,), (6, 8, 3))
    layer = ToxicityLinear(8, 6)

    def outputs():
        return convolution(frames, weight), recomputed_convolution(weight)(normalised, frames, scale, shift)

    fast = (*outputs(), layer(frames))
    monkeypatch.setattr(kernels, "HAS_ONEDNN", False)
    for ours, expected in zip(fast, (*outputs(), layer(frames)), strict=True):
        check_gradients(ours, expected, [frames], atol=1e-5, rtol=1e-5)
