"""Linear layers in float32 on a CPU by oneDNN, where MKL leaves half of the processor unused.

PyTorch multiplies float32 matrices on a CPU by MKL, which does without AVX-512 on processors that are not Intel's.
oneDNN, which comes with PyTorch too, uses it, and PyTorch has no switch for it: on an AMD EPYC, a block's forward and
backward pass take a third less time (docs/backbone.md). Everywhere else (other processors and number formats, GPUs,
autocast, the compiler and exports) PyTorch does as always, and the layers are `nn.Linear` for all who look at them.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode


MKL_MAY_BE_SLOW = (
    torch.backends.mkl.is_available()
    and torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
)


def with_fast_linears(forward: Callable) -> Callable:
    """Decorates the `forward` of a module: the linear layers that it calls, however deep, are oneDNN's if that is
    faster here. It belongs on what gradient checkpointing runs again, which must find the same operations."""

    @functools.wraps(forward)
    def wrapped(*args, **kwargs):
        if not MKL_MAY_BE_SLOW or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return forward(*args, **kwargs)
        with _LinearsByOneDNN():
            return forward(*args, **kwargs)

    return wrapped


class _LinearsByOneDNN(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.linear and not kwargs and _is_plain(*args):
            return OneDNNLinear.apply(*args)
        return function(*args, **(kwargs or {}))


def _is_plain(rows, weight, bias=None):
    """Ordinary tensors in float32 on a CPU: quantised and sharded ones have products of their own."""
    return (
        rows.ndim > 1
        and not torch.is_autocast_enabled("cpu")
        and all(
            type(tensor) in (torch.Tensor, nn.Parameter)
            and tensor.device.type == "cpu"
            and tensor.dtype == torch.float32
            and tensor.numel() > 0
            for tensor in (rows, weight, bias)
            if tensor is not None
        )
    )


class OneDNNLinear(torch.autograd.Function):
    """`F.linear(rows, weight, bias)` by the operator that `torch.compile` calls, with its gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        rows, weight, *_ = inputs
        ctx.save_for_backward(rows, weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Products of the same kind, so that second derivatives are right too."""
        rows, weight = ctx.saved_tensors
        for_rows, for_weight, for_bias = (*ctx.needs_input_grad, False)[:3]
        gradient = gradient.contiguous()  # oneDNN is many times slower where there are gaps
        gradients = gradient.flatten(0, -2).T  # (out, N)
        of_rows = OneDNNLinear.apply(gradient, weight.T) if for_rows else None
        of_weight = OneDNNLinear.apply(gradients, rows.flatten(0, -2).T) if for_weight else None
        return of_rows, of_weight, gradients.sum(1) if for_bias else None
