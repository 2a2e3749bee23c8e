"""Matrix products and convolutions over frames `(B, T, C)`, by the faster of the libraries that PyTorch comes with.

Design choices:
- Frames keep their channels last from the waveform to the heads. A convolution over them is a 2D one of height 1 in
  PyTorch's channels-last format: nothing is transposed, and on a CPU it takes about half of `conv1d`'s time.
- float32 matrix products on a CPU are MKL's in PyTorch, and MKL leaves AVX-512 unused on some processors that are
  not Intel's. oneDNN does not, and copies few matrices first, so with AVX-512 products are oneDNN's (by the operators
  that `torch.compile` calls).
- A convolution is a sum of matrix products; of those with a stride, inference packs the weights once per forward pass.
- `pack_linears` packs the weights of the other products once for all: inference then takes 3 to 15 % less time.
- Training keeps little: what comes before a product (an activation, a norm) is cheap beside it, so it is computed
  again in the backward pass instead of kept.
- Everywhere else (other number formats, GPUs, autocast, the compiler) PyTorch's own functions are called.
"""

from collections.abc import Callable
from functools import partial
from itertools import compress, islice

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


HAS_ONEDNN = torch.backends.mkldnn.is_available()
ROWS_IN_CACHE = 256  # of features between the feed-forward layers: 3 MB in float32
LARGE_PRODUCT = 2**24  # multiplications from which on a product repays what oneDNN does beforehand
MKL_MAY_BE_SLOW = torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def prefers_onednn(*tensors: torch.Tensor | None) -> bool:
    """Whether a product of these tensors is MKL's but had better be oneDNN's."""
    return MKL_MAY_BE_SLOW and uses_onednn(*tensors)


def uses_onednn(*tensors: torch.Tensor | None) -> bool:
    """Whether a convolution of these tensors is oneDNN's."""
    return (
        HAS_ONEDNN
        and not torch.is_autocast_enabled("cpu")
        and all(_is_plain(tensor) for tensor in tensors if tensor is not None)
    )


def _is_plain(tensor):
    # quantised and other special tensors are subclasses with products of their own
    is_dense = type(tensor) in (torch.Tensor, nn.Parameter)
    return is_dense and tensor.dtype == torch.float32 and tensor.numel() > 0 and is_eager_on_cpu(tensor)


def recomputed(function: Callable, *inputs):
    """`function(*inputs)`, whose intermediate results are computed again in the backward pass instead of kept.

    The second computation ends where the last kept tensor is known, so a matrix product at the function's end is not
    repeated. The function must be deterministic.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # the compiler chooses by itself what to keep
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return function(*inputs)


def is_eager_on_cpu(tensor: torch.Tensor) -> bool:
    """Whether the tensor is on a CPU and Python runs as it is written, so that code may depend on what it holds."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def by_rows(function: Callable, frames: torch.Tensor) -> torch.Tensor:
    """`function(frames)`, of `(B, T, C)`, for a function that treats every frame alike: on a CPU a few frames at a
    time, whose intermediate results then stay in its cache."""
    if not is_eager_on_cpu(frames):
        return function(frames)
    rows = frames.flatten(0, 1)[None]
    num_pieces = max(1, round(rows.shape[1] / ROWS_IN_CACHE))
    results = [function(piece) for piece in rows.tensor_split(num_pieces, dim=1)]
    return _joined(results, dim=1)[0].unflatten(0, frames.shape[:2])


def dropout_mask(like: torch.Tensor, probability: float, training: bool) -> torch.Tensor | None:
    """Bytes of the given tensor's shape, 0 on what is dropped and 1 elsewhere: a quarter of the memory of what PyTorch
    keeps on a CPU. None if nothing is dropped.

    On a CPU, where random numbers are dear, each decision takes 16 bits: the probability is a multiple of 2^-16.
    """
    if not training or probability == 0:
        return None
    if not is_eager_on_cpu(like):
        return (torch.rand(like.shape, device=like.device) >= probability).to(torch.uint8)
    quadruples = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = quadruples.view(torch.int16)[: like.numel()].view(like.shape)  # from -2^15 to 2^15 - 1
    return torch.ge(numbers, round((probability - 0.5) * 2**16), out=torch.empty(like.shape, dtype=torch.uint8))


def apply_dropout(hidden_states: torch.Tensor, mask: torch.Tensor | None, probability: float) -> torch.Tensor:
    """Zeros where the mask is 0; the rest is scaled to the same mean."""
    scale = 1 / (1 - probability) if probability < 1 else 0.0
    return hidden_states if mask is None else (hidden_states * mask).mul_(scale)


def as_image(frames: torch.Tensor) -> torch.Tensor:
    """`(B, T, C)` as an image `(B, C, 1, T)` in channels-last format: the same memory."""
    return frames.transpose(1, 2)[:, :, None]


def as_frames(image: torch.Tensor) -> torch.Tensor:
    """The opposite of `as_image`."""
    return image[:, :, 0].transpose(1, 2)


def channels_last(weight: torch.Tensor) -> torch.Tensor:
    """The weight of a convolution, `(C', C, k)`, laid out as `convolution` reads it: worth it for several calls."""
    return weight.transpose(1, 2).contiguous().transpose(1, 2)


def convolution(
    frames: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> torch.Tensor:
    """`F.conv1d` on frames `(B, T, C)`, giving `(B, T', C')`; `weight` is `(C', C / groups, k)`."""
    if groups == 1 and _is_faster_here(stride, weight, bias, frames):
        prepare = partial(_padded, padding) if padding else _itself
        # a kernel's rows follow each other in one clip alone
        clips = [frames] if _is_product(weight, stride) else frames.split(1)
        return _joined([_ProductConvolution.apply(prepare, weight, bias, stride, clip) for clip in clips])
    image = F.conv2d(as_image(frames), weight[:, :, None], bias, (1, stride), (0, padding), groups=groups)
    return as_frames(image)


def recomputed_convolution(weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1) -> Callable:
    """`convolution` as a function of what gives its frames, of which training keeps the inputs alone.

    Returns:
        a function of `prepare`, which gives frames (it must be deterministic, and differentiable in its inputs only),
        and its inputs, tensors or None. It is fastest for a clip at a time, unless the kernel takes a single frame.
    """

    def convolve(prepare, *inputs):
        if _is_faster_here(stride, weight, bias, inputs[0]):  # `checkpoint` would repeat the whole convolution
            return _ProductConvolution.apply(prepare, weight, bias, stride, *inputs)
        return recomputed(lambda *inputs: convolution(prepare(*inputs), weight, bias, stride), *inputs)

    return convolve


def prepared_convolution(weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1) -> Callable:
    """The same for many calls without gradients."""
    kernel = partial(convolution, weight=weight, bias=bias, stride=stride)
    if stride > 1 and uses_onednn(weight, bias):
        kernel = ProductKernel(weight, bias, stride).pack()
    return lambda prepare, *inputs: kernel(prepare(*inputs))


def _itself(frames):
    return frames


def _padded(padding, frames):
    return F.pad(frames, (0, 0, padding, padding))


def _is_faster_here(stride, weight, *tensors):
    if stride > weight.shape[-1]:  # `_gradient_of_frames` counts on every frame being used
        return False
    return prefers_onednn(weight, *tensors) if _is_product(weight, stride) else uses_onednn(weight, *tensors)


class ProductKernel:
    """Weight and bias of a convolution, which becomes a sum of matrix products, without gradients.

    Each product takes as many frames of the kernel as the stride has: the frames of neighbouring outputs then follow
    each other in memory, and are the rows of a matrix that need not be copied.

    Args:
        weight: `(C', C, k)`; best in the layout of `channels_last`.
        bias: `(C',)` or None.
        stride: in frames.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int):
        self.bias, self.stride, self.kernel_size = bias, stride, weight.shape[-1]
        taps = weight.transpose(1, 2)  # (C', k, C)
        self.matrices = [taps[:, start : start + stride].flatten(1) for start in range(0, self.kernel_size, stride)]

    def pack(self) -> "ProductKernel":
        """Arranges the matrices as oneDNN wants them: worth it for several calls."""
        self.matrices = [torch.ops.mkldnn._reorder_linear_weight(matrix) for matrix in self.matrices]
        return self

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """`(B, T, C)` to `(B, T', C')`."""
        result, bias = None, self.bias
        if self.matrices[0].is_mkldnn:
            frames = frames.to(torch.float32)  # of autocast, which packed matrices do not take
        for rows, matrix in zip(_rows_of(frames, self.kernel_size, self.stride), self.matrices, strict=True):
            part = product(rows, matrix, bias)
            result, bias = part if result is None else result.add_(part), None
        return result


def _rows_of(frames, kernel_size, stride):
    """What each matrix of a `ProductKernel` meets in the frames `(B, T, C)`: views `(B, T', width * C)`."""
    num_frames = (frames.shape[1] - kernel_size) // stride + 1
    for start in range(0, kernel_size, stride):
        width = min(stride, kernel_size - start)
        windows = frames[:, start:].unfold(1, width, stride)[:, :num_frames]  # (B, T', C, width)
        yield windows.transpose(2, 3).flatten(2)


def product(rows: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` by the faster library, without gradients."""
    linear = onednn_product if matrix.is_mkldnn or prefers_onednn(rows, matrix, bias) else F.linear
    return linear(rows, matrix, bias)


def products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a @ b.mT` of batches of matrices, `(N, I, K)` and `(N, J, K)`, by the faster library, without gradients."""
    is_small = a.shape[1] * a.shape[2] * b.shape[1] < LARGE_PRODUCT
    if is_small or not prefers_onednn(a, b):
        return torch.bmm(a, b.mT)
    return _stacked([onednn_product(*pair) for pair in zip(a, b, strict=True)])


def _stacked(matrices):
    """`torch.stack`, which would copy a single one."""
    return matrices[0][None] if len(matrices) == 1 else torch.stack(matrices)


def _joined(tensors, dim=0):
    """`torch.cat`, which would copy a single one."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def onednn_product(rows: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` of float32 tensors on a CPU, without gradients; the matrix may be packed."""
    matrix = matrix if matrix.is_mkldnn else _without_gaps(matrix)
    return torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, "none", [], "")


def _without_gaps(matrix):
    """The same matrix by rows or by columns, as it lies; oneDNN is many times slower where there are gaps between."""
    return matrix.T.contiguous().T if matrix.stride(0) == 1 else matrix.contiguous()


class _ProductConvolution(torch.autograd.Function):
    """`convolution(prepare(*inputs), …)` as matrix products, preparing anew for the gradients, which are products too
    (oneDNN's own are slow where channels are last)."""

    @staticmethod
    def forward(prepare, weight, bias, stride, *inputs):
        return ProductKernel(weight, bias, stride)(prepare(*inputs))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.prepare, weight, _, ctx.stride, *inputs = inputs
        ctx.save_for_backward(weight, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        weight, *inputs = ctx.saved_tensors
        _, for_weight, for_bias, _, *for_inputs = ctx.needs_input_grad
        gradient = gradient.contiguous()
        with torch.enable_grad():
            inputs = [
                x.detach().requires_grad_() if needed else x for x, needed in zip(inputs, for_inputs, strict=True)
            ]
            frames = ctx.prepare(*inputs)
        of_weight = _gradient_of_weight(gradient, frames.detach(), weight, ctx.stride) if for_weight else None
        of_inputs = [None] * len(inputs)
        if any(for_inputs):
            of_frames = _gradient_of_frames(gradient, frames.shape, weight, ctx.stride)
            found = iter(torch.autograd.grad(frames, list(compress(inputs, for_inputs)), of_frames))
            of_inputs = [next(found) if needed else None for needed in for_inputs]
        return None, of_weight, gradient.sum((0, 1)) if for_bias else None, None, *of_inputs


def _is_product(weight, stride):
    return weight.shape[-1] == stride == 1


def _gradient_of_weight(gradient, frames, weight, stride):
    gradient = gradient.flatten(0, 1).T
    parts = _rows_of(frames, weight.shape[-1], stride)
    taps = [product(gradient, rows.flatten(0, 1).T) for rows in parts]
    return torch.cat(taps, dim=1).unflatten(1, (-1, weight.shape[1])).transpose(1, 2)


def _gradient_of_frames(gradient, shape, weight, stride):
    first, *others = ProductKernel(weight, None, stride).matrices
    batch, length, channels = shape
    missing = -(-length // stride) - gradient.shape[1]  # frames after the first matrix's: they get zeros from it
    of_frames = product(F.pad(gradient, (0, 0, 0, missing)) if missing else gradient, first.T)
    of_frames = of_frames.view(batch, -1, channels)[:, :length]
    rows_of_others = islice(_rows_of(of_frames, weight.shape[-1], stride), 1, None)
    for rows, matrix in zip(rows_of_others, others, strict=True):
        rows += product(gradient, matrix.T)  # a view of the frames
    return of_frames


class ToxicityLinear(nn.Linear):
    """`nn.Linear` by the faster library."""

    def forward(self, hidden_states, *others, prepare: Callable | None = None):
        """`(…, in_features)` to `(…, out_features)`. With `prepare`, the layer of `prepare(hidden_states, *others)` on
        `(B, T, in_features)`, of which training keeps these inputs alone; see `recomputed_convolution`."""
        use_onednn = hidden_states.ndim > 1 and prefers_onednn(hidden_states, self.weight, self.bias)
        if prepare is not None and use_onednn:
            return recomputed_convolution(self.weight[:, :, None], self.bias)(prepare, hidden_states, *others)
        linear = super().forward
        if prepare is not None:
            return recomputed(lambda *inputs: linear(prepare(*inputs)), hidden_states, *others)
        if not use_onednn:
            return linear(hidden_states)
        rows = hidden_states.flatten(0, -2)
        return convolution(rows[None], self.weight[:, :, None], self.bias)[0].unflatten(0, hidden_states.shape[:-1])


class PackedLinear(nn.Module):
    """A linear layer for inference on a CPU, whose weight lies as oneDNN wants it. There is no second copy of the
    weight: `state_dict` gives it in the usual layout.

    Args:
        linear: on a CPU, in float32 or bfloat16.

    Raises:
        ValueError: if oneDNN has no such layout for the weight on this machine.
        RuntimeError: if a gradient of the input is wanted.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach()
        if obstacle := _packing_obstacle(weight):
            raise ValueError(f"The weights cannot be packed: {obstacle}.")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", torch.ops.mkldnn._reorder_linear_weight(weight), persistent=False)
        self.bias = linear.bias

    def forward(self, hidden_states):
        """`(…, in_features)` to `(…, out_features)`."""
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            raise RuntimeError("Packed weights give no gradients: train the model before it is packed.")
        return onednn_product(hidden_states.to(self.weight.dtype), self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[prefix + "weight"] = self.weight.to_dense()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _apply(self, fn, recurse=True):
        try:
            return super()._apply(fn, recurse)
        except NotImplementedError as error:
            raise RuntimeError(
                "Packed weights keep their device and number format: move or convert the model before it is packed."
            ) from error


def _packing_obstacle(weight):
    if not HAS_ONEDNN:
        return "this PyTorch comes without oneDNN"
    if weight.device.type != "cpu":
        return f"they are on {weight.device.type!r}, not on a CPU"
    if weight.dtype == torch.float32:
        return None
    if weight.dtype != torch.bfloat16:
        return f"they are in {weight.dtype}, not in float32 or bfloat16"
    return None if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "this processor is too old for bfloat16"


def pack_linears(model: nn.Module):
    """Replaces every `ToxicityLinear` of the model by a `PackedLinear`; raises what that raises, with nothing
    replaced."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is ToxicityLinear:
                setattr(module, name, PackedLinear(child))
