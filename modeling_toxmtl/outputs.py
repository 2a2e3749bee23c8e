"""What encoders of any family have in common: their output, masks of frames, SpecAugment's
spans, and LayerDrop."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module
from transformers.models.wavlm.modeling_wavlm import _compute_mask_indices
from transformers.utils import ModelOutput


@dataclass
class BackboneOutput(ModelOutput):
    """Output of a backbone; B clips, T frames, H heads, D hidden size.

    Args:
        last_hidden_state: `(B, T, D)`, the shared features; zero after a clip's last frame is not promised, only that
        valid frames never depend on it.
        extract_features: `(B, T, C)`, the normalised features of the convolutions.
        task_features: for each task, `(B, T, D)`: the last adapted features, or the shared ones where there is no
        adapter.
        frame_mask: `(B, T)` bool, True on valid frames.
        hidden_states: with `output_hidden_states=True`, the encoder's input and each block's output, `(B, T, D)` each.
        attentions: with `output_attentions=True`, the attention weights of each block, `(B, H, T, T)` each.
    """

    last_hidden_state: torch.FloatTensor | None = None
    extract_features: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    task_features: dict[str, torch.FloatTensor] | None = None
    frame_mask: torch.BoolTensor | None = None


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """`(B, size)` bool mask, True before each of the `(B,)` lengths."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def attention_bias(frame_mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the attention's scores, `(B, 1, 1, T)`: minus infinity where the `(B, T)` mask is False."""
    bias = torch.zeros(frame_mask.shape, dtype=dtype, device=frame_mask.device)
    return bias.masked_fill(~frame_mask, -torch.inf)[:, None, None]


def check_padding(attention_mask: torch.Tensor, shape: tuple[int, int], inputs: str) -> None:
    """Raises ValueError if a mask is of another shape than the `inputs`, or has holes."""
    if attention_mask.shape != shape:
        raise ValueError(
            f"`attention_mask` must be of shape {tuple(shape)}, as the {inputs}, but is of "
            f"{tuple(attention_mask.shape)}."
        )
    is_valid = attention_mask != 0
    if (is_valid != length_mask(is_valid.sum(-1), shape[1])).any():
        raise ValueError("`attention_mask` must be 1 up to a clip's end and 0 after it: pad on the right.")


def draw_spans(
    shape: tuple[int, int],
    probability: float,
    length: int,
    min_spans: int,
    device: torch.device,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Spans of SpecAugment (https://huggingface.co/papers/1904.08779) along the second axis: bool, True on what to
    mask.

    Args:
        shape: clips, and frames or bins.
        probability: the share to mask, if spans did not overlap.
        length: of a span; shorter where there is less.
        min_spans: of a clip.
        device: of the result.
        attention_mask: of the shape, 0 on padding, in which no span starts.
    """
    spans = _compute_mask_indices(tuple(shape), probability, min(length, shape[1]), attention_mask, min_spans)
    return torch.as_tensor(spans, device=device)


def drops_layer(encoder: nn.Module, probability: float) -> bool:
    """Whether to leave out a block: LayerDrop (https://huggingface.co/papers/1909.11556), but where processes must run
    the same blocks."""
    if not encoder.training or probability == 0:
        return False
    is_sharded = is_deepspeed_zero3_enabled() or is_fsdp_managed_module(encoder)
    return not is_sharded and bool(torch.rand([]) < probability)
