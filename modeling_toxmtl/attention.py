"""Attention of WavLM, with a gated relative position bias, and of wav2vec 2.0 and HuBERT, without, through PyTorch's
`scaled_dot_product_attention`.

The bias is looked up once per forward pass; every block gates it in its own way.
"""

import torch
import torch.nn.functional as F
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from .outputs import attention_bias


class MaskedAttention(Wav2Vec2Attention):
    """`Wav2Vec2Attention` on `(B, T, D)`, with the arguments and results of [`GatedRelativeAttention`]; there is no
    position bias."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
        position_bias: None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        bias = None if frame_mask is None else attention_bias(frame_mask, hidden_states.dtype)
        context, weights = attend(self, hidden_states, bias, output_attentions)
        return context, weights, None


class GatedRelativeAttention(WavLMAttention):
    """`WavLMAttention` with `attn_implementation`: `"sdpa"`, or `"eager"`, which alone returns attention weights (per
    head; transformers' are averaged)."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Attends within each clip; B clips, T frames, H heads.

        Args:
            hidden_states: `(B, T, D)`.
            frame_mask: `(B, T)` bool, True on valid frames; without it all are.
            position_bias: `(H, T, T)`, as the block before returns it. The first block, which owns the table, makes
                it: elsewhere, its parameters may be sharded or on another device.
            output_attentions: return the weights.

        Returns:
            the attended states `(B, T, D)`, the attention weights `(B, H, T, T)` if asked for, and the bias for the
            next block.
        """
        if position_bias is None:
            length = hidden_states.shape[1]
            position_bias = self.compute_bias(length, length).contiguous()
        bias = self._gate(hidden_states) * position_bias  # (B, H, T, T)
        if frame_mask is not None:
            bias = bias.masked_fill_(~frame_mask[:, None, None, :], -torch.inf)
        context, weights = attend(self, hidden_states, bias, output_attentions)
        return context, weights, position_bias

    def _gate(self, hidden_states):
        """How strongly each query of each head weighs distance, `(B, H, T, 1)`."""
        # heads come first: `torch.export` would tie the length of `(B, T, H, d)` to that of its example
        heads = hidden_states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # (B, H, T, d)
        sums = self.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1)  # (B, H, T, 2)
        gate_a, gate_b = torch.sigmoid(sums).chunk(2, dim=-1)
        return gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0


def attend(
    module: WavLMAttention | Wav2Vec2Attention,
    hidden_states: torch.Tensor,
    bias: torch.Tensor | None,
    output_attentions: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Multi-head attention with the projections of a module; B clips, T frames, H heads.

    Args:
        module: whose heads, scaling, dropout and implementation count.
        hidden_states: `(B, T, D)`.
        bias: added to the scores, of a shape that broadcasts to `(B, H, T, T)`.
        output_attentions: return the weights.

    Returns:
        the attended states `(B, T, D)`, and the weights `(B, H, T, T)` if asked for.
    """
    query, key, value = (
        projection(hidden_states).unflatten(-1, (module.num_heads, module.head_dim)).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )  # (B, H, T, d) each
    bias = None if bias is None else bias.to(query.dtype)
    dropout = module.dropout if module.training else 0.0
    weights = None
    if output_attentions or module.config._attn_implementation == "eager":
        scores = query @ key.mT * module.scaling
        weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
        context = F.dropout(weights, dropout) @ value
    else:
        context = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=module.scaling)
    return module.out_proj(context.transpose(1, 2).flatten(2)), weights
