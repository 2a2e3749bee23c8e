"""WavLM's attention with a gated relative position bias, through PyTorch's `scaled_dot_product_attention`.

The bias is looked up once per forward pass; every block gates it in its own way.
"""

import torch
import torch.nn.functional as F
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


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
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, d) each
        bias = (self._gate(hidden_states) * position_bias).to(query.dtype)  # (B, H, T, T)
        if frame_mask is not None:
            bias = bias.masked_fill(~frame_mask[:, None, None, :], -torch.inf)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if output_attentions or self.config._attn_implementation == "eager":
            weights = torch.softmax(query @ key.mT * self.scaling + bias, dim=-1)
            context = F.dropout(weights, dropout) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=self.scaling)
        return self.out_proj(context.transpose(1, 2).flatten(2)), weights, position_bias

    def _gate(self, hidden_states):
        """How strongly each query of each head weighs distance, `(B, H, T, 1)`."""
        # heads come first: `torch.export` would tie the length of `(B, T, H, d)` to that of its example
        heads = hidden_states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # (B, H, T, d)
        sums = self.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1)  # (B, H, T, 2)
        gate_a, gate_b = torch.sigmoid(sums).chunk(2, dim=-1)
        return gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0
