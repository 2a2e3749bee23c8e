"""Matrix products and convolutions over frames `(B, T, C)`, by the faster of the libraries that PyTorch comes with.

Design choices:
- Frames keep their channels last from the waveform to the heads. A convolution over them is a 2D one of height 1 in
  PyTorch's channels-last format: nothing is transposed, and on a CPU it takes about half of `conv1d`'s time.
- float32 matrix products on a CPU are MKL's in PyTorch, and MKL leaves AVX-512 unused on processors that are not
  Intel's. Convolutions are oneDNN's, which does not. So there a matrix product is a convolution with a kernel of one
  frame, which runs twice as fast.
- Training keeps little: what comes before a product (an activation, a norm) is cheap beside it, so it is computed
  again in the backward pass instead of kept.
- Everywhere else (other number formats, GPUs, autocast, the compiler) PyTorch's own functions are called.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


HAS_ONEDNN = torch.backends.mkldnn.is_available()
LARGE_PRODUCT = 2**24  # multiplications from which on a product repays what oneDNN does beforehand
MKL_MAY_BE_SLOW = torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def prefers_onednn(*tensors: torch.Tensor | None) -> bool:
    """Whether a product of these tensors is MKL's but had better be oneDNN's."""
    return MKL_MAY_BE_SLOW and uses_onednn(*tensors)


def uses_onednn(*tensors: torch.Tensor | None) -> bool:
    """Whether a convolution of these tensors is oneDNN's."""
    return (
        HAS_ONEDNN
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and all(_is_plain(tensor) for tensor in tensors if tensor is not None)
    )


def _is_plain(tensor):
    # quantised and other special tensors are subclasses with products of their own
    is_dense = type(tensor) in (torch.Tensor, nn.Parameter)
    return is_dense and tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0


def recomputed(function: Callable, *inputs):
    """`function(*inputs)`, whose intermediate results are computed again in the backward pass instead of kept.

    The second computation ends where the last kept tensor is known, so a matrix product at the function's end is not
    repeated. The function must be deterministic.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # the compiler chooses by itself what to keep
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return function(*inputs)


def dropout_mask(like: torch.Tensor, probability: float, training: bool) -> torch.Tensor | None:
    """Bool tensor of the given one's shape, False on what is dropped: a quarter of the memory of what PyTorch keeps on
    a CPU. None if nothing is dropped."""
    if not training or probability == 0:
        return None
    return torch.rand(like.shape, device=like.device) >= probability


def apply_dropout(hidden_states: torch.Tensor, mask: torch.Tensor | None, probability: float) -> torch.Tensor:
    """Zeros where the mask is False; the rest is scaled to the same mean."""
    return hidden_states if mask is None else torch.where(mask, hidden_states * (1 / (1 - probability)), 0.0)


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
    if groups == 1 and _is_faster_here(weight, bias, frames):
        return _OneDNNConvolution.apply(_itself, weight, bias, stride, padding, frames)
    image = F.conv2d(as_image(frames), weight[:, :, None], bias, (1, stride), (0, padding), groups=groups)
    return as_frames(image)


def recomputed_convolution(
    prepare: Callable, inputs: tuple, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1
) -> torch.Tensor:
    """`convolution(prepare(*inputs), weight, bias, stride)`, of which training keeps the inputs alone.

    Args:
        prepare: gives frames; must be deterministic, and differentiable in its inputs only.
        inputs: tensors or None.
    """
    if _is_faster_here(weight, bias, inputs[0]):  # `checkpoint` would repeat the whole convolution
        return _OneDNNConvolution.apply(prepare, weight, bias, stride, 0, *inputs)
    return recomputed(lambda *inputs: convolution(prepare(*inputs), weight, bias, stride), *inputs)


def _itself(frames):
    return frames


def _is_faster_here(weight, *tensors):
    is_product = weight.shape[-1] == 1
    return prefers_onednn(weight, *tensors) if is_product else uses_onednn(weight, *tensors)


def onednn_convolution(
    frames: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1, padding: int = 0
) -> torch.Tensor:
    """`convolution` of float32 frames on a CPU, which no number of threads sends to another library."""
    image = as_image(frames)
    return as_frames(
        torch.mkldnn_convolution(image, weight[:, :, None], bias, (0, padding), (1, stride), (1, 1), groups=1)
    )


def strided_convolution(
    frames: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int
) -> torch.Tensor:
    """`convolution` as a sum of matrix products, which are a sixth faster, without gradients.

    Each product takes as many frames of the kernel as the stride has: the frames of neighbouring outputs then follow
    each other in memory, and are the rows of a matrix that need not be copied.
    """
    result = None
    for rows, matrix in _products_of(frames, weight, stride):
        # a copy where there are several clips, but one product
        part = product(rows.flatten(0, 1), matrix).unflatten(0, rows.shape[:2])
        result = part if result is None else result.add_(part)
    return result if bias is None else result.add_(bias)


def _products_of(frames, weight, stride):
    """Views of what the frames of the kernel meet, `(B, T', width * C)`, as many at a time as the stride has, and
    these frames of the kernel, `(C', width * C)`."""
    kernel_size = weight.shape[-1]
    num_frames = (frames.shape[1] - kernel_size) // stride + 1
    taps = weight.transpose(1, 2)  # (C', k, C)
    for start in range(0, kernel_size, stride):
        width = min(stride, kernel_size - start)
        windows = frames[:, start:].unfold(1, width, stride)[:, :num_frames]  # (B, T', C, width)
        yield windows.transpose(2, 3).flatten(2), taps[:, start : start + width].flatten(1)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a @ b.T` of matrices by the faster library, without gradients."""
    return onednn_product(a, b) if prefers_onednn(a, b) else a @ b.T


def products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a @ b.mT` of batches of matrices, `(N, I, K)` and `(N, J, K)`, by the faster library, without gradients."""
    is_small = a.shape[1] * a.shape[2] * b.shape[1] < LARGE_PRODUCT
    if is_small or not prefers_onednn(a, b):
        return torch.bmm(a, b.mT)
    return _stacked([onednn_product(*pair) for pair in zip(a, b, strict=True)])


def _stacked(matrices):
    """`torch.stack`, which would copy a single one."""
    return matrices[0][None] if len(matrices) == 1 else torch.stack(matrices)


def onednn_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a @ b.T` of float32 matrices on a CPU."""
    return onednn_convolution(a[None], b[:, :, None])[0]


class _OneDNNConvolution(torch.autograd.Function):
    """`onednn_convolution(prepare(*inputs), …)`, preparing anew for the gradients.

    oneDNN's own gradients are slow where channels are last. With a kernel of one frame or a stride, all are matrix
    products; else that of the weight is taken with channels first.
    """

    @staticmethod
    def forward(prepare, weight, bias, stride, padding, *inputs):
        frames = prepare(*inputs)
        if _is_strided(stride, padding):
            return strided_convolution(frames, weight, bias, stride)
        return onednn_convolution(frames, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.prepare, weight, _, ctx.stride, ctx.padding, *inputs = inputs
        ctx.save_for_backward(weight, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        weight, *inputs = ctx.saved_tensors
        _, for_weight, for_bias, _, _, *for_inputs = ctx.needs_input_grad
        gradient = gradient.contiguous()
        of_weight = torch.zeros_like(weight) if for_weight else None
        of_inputs = [_room_for(x) if needed else None for x, needed in zip(inputs, for_inputs, strict=True)]
        # a clip at a time, for what is prepared is large where kernels are longer than a frame
        parts = [slice(None)] if weight.shape[-1] == 1 else [slice(i, i + 1) for i in range(len(gradient))]
        for part in parts:
            with torch.enable_grad():
                prepared_from = [
                    _part(x, part).detach().requires_grad_() if needed else _part(x, part)
                    for x, needed in zip(inputs, for_inputs, strict=True)
                ]
                frames = ctx.prepare(*prepared_from)
            if for_weight:
                of_weight += _gradient_of_weight(ctx, gradient[part], frames.detach(), weight)
            if any(for_inputs):
                of_frames = _gradient_of_frames(ctx, gradient[part], frames.shape, weight)
                needed = [x for x in prepared_from if x is not None and x.requires_grad]
                found = torch.autograd.grad(frames, needed, of_frames)
                for total, of_part in zip((x for x in of_inputs if x is not None), found, strict=True):
                    if _has_parts(total):
                        total[part] = of_part
                    else:
                        total += of_part
        return None, of_weight, gradient.sum((0, 1)) if for_bias else None, None, None, *of_inputs


def _is_strided(stride, padding):
    return stride > 1 and padding == 0


def _has_parts(tensor):
    """Whether a tensor is one of frames, rather than what all clips share, such as a norm's weight."""
    return tensor is not None and tensor.ndim == 3


def _part(tensor, part):
    """Some clips of a tensor, or the whole of what all clips share."""
    return tensor[part] if _has_parts(tensor) else tensor


def _room_for(tensor):
    """For the gradient of a tensor: every part is written once, and what all clips share is summed."""
    return torch.empty_like(tensor) if _has_parts(tensor) else torch.zeros_like(tensor)


def _gradient_of_weight(ctx, gradient, frames, weight):
    if weight.shape[-1] == 1 and ctx.stride == 1:
        rows, frames = gradient.flatten(0, 1), frames.flatten(0, 1)
        return onednn_product(rows.T.contiguous(), frames.T.contiguous())[:, :, None]
    if _is_strided(ctx.stride, ctx.padding):
        # PyTorch's own product takes matrices that lie the other way; laying them out for oneDNN costs more
        taps = [(gradient.mT @ rows).sum(0) for rows, _ in _products_of(frames, weight, ctx.stride)]
        return torch.cat(taps, dim=1).unflatten(1, (-1, weight.shape[1])).transpose(1, 2)
    frames, gradient = (states[0].T.contiguous()[None] for states in (frames, gradient))
    return nn.grad.conv1d_weight(frames, weight.shape, gradient, ctx.stride, ctx.padding)


def _gradient_of_frames(ctx, gradient, shape, weight):
    if weight.shape[-1] == 1 and ctx.stride == 1:
        return onednn_convolution(gradient, weight[:, :, 0].T.contiguous()[:, :, None])
    if _is_strided(ctx.stride, ctx.padding):
        of_frames = gradient.new_zeros(shape)
        for rows, matrix in _products_of(of_frames, weight, ctx.stride):  # the rows are views of the frames
            matrix = matrix.T.contiguous()
            for of_clip, clip in zip(rows, gradient, strict=True):
                of_clip += product(clip, matrix)
        return of_frames
    batch, length, channels = shape
    image = nn.grad.conv2d_input(
        (batch, channels, 1, length), weight[:, :, None], as_image(gradient), (1, ctx.stride), (0, ctx.padding)
    )
    return as_frames(image)


class ToxicityLinear(nn.Linear):
    """`nn.Linear` by the faster library."""

    def forward(self, hidden_states):
        """`(…, in_features)` to `(…, out_features)`."""
        if hidden_states.ndim < 2 or not prefers_onednn(hidden_states, self.weight, self.bias):
            return super().forward(hidden_states)
        rows = hidden_states.flatten(0, -2)
        return convolution(rows[None], self.weight[:, :, None], self.bias)[0].unflatten(0, hidden_states.shape[:-1])

    def of(self, prepare: Callable, *inputs):
        """`self(prepare(*inputs))` on `(B, T, in_features)`, of which training keeps the inputs alone; see
        `recomputed_convolution`."""
        if prefers_onednn(inputs[0], self.weight, self.bias):
            return recomputed_convolution(prepare, inputs, self.weight[:, :, None], self.bias)
        return recomputed(lambda *inputs: self(prepare(*inputs)), *inputs)
