"""What encoders of any family give, and the masks of its frames."""

from dataclasses import dataclass

import torch
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
