"""WavLM's attention with a gated relative position bias, by the fastest way that the device has.

Design choices:
- The bias depends on the distance alone: it is looked up once per forward pass for the 2T-1 distances and laid out as
  a Toeplitz matrix, which every layer gates in its own way.
- `attn_implementation`: `"sdpa"` (default), `"eager"`, which alone can return attention weights (per head, unlike
  transformers'), or `"flex_attention"` (CUDA), which gates the bias inside the kernel.
- On a CPU, `"sdpa"` takes a few heads of a clip at a time where there are many, so that their weights are still in the
  cache when the next operation reads them, leaves most padded frames out, and computes the weights again in the
  backward pass.
- Layers that treat every frame alike are spared the padding on a CPU: the valid frames of all clips follow each other.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import flex_attention
from transformers.models.wavlm.modeling_wavlm import WavLMAttention
from transformers.utils import logging

from .kernels import ToxicityLinear, apply_dropout, dropout_mask, is_eager_on_cpu, products, recomputed


logger = logging.get_logger(__name__)

BYTES_IN_CACHE = 2**20  # of attention weights, which pass through some copies
LENGTH_STEP = 16  # frames; what libraries prepare for each new size of a product costs more than a few padded frames

# lazy: nothing is compiled before a CUDA model calls it
compiled_flex_attention = torch.compile(flex_attention, dynamic=True)


def flex_obstacle(config, device_type: str, training: bool) -> str | None:
    """Why FlexAttention cannot run, if it cannot."""
    if device_type != "cuda":
        return f"it needs a CUDA device, but the model is on {device_type!r}"
    if training and config.attention_dropout > 0:
        return (
            f"it has no dropout, but `attention_dropout` is {config.attention_dropout}; set it to 0 to train with it"
        )
    return None


class ToxicityAttention(WavLMAttention):
    """WavLM's gated relative attention on `(B, T, D)`."""

    def __init__(self, embed_dim: int, **options):
        super().__init__(embed_dim, **options)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, ToxicityLinear(embed_dim, embed_dim))

    def forward(self, hidden_states, frame_mask=None, position_bias=None, output_attentions=False, rows_mask=None):
        """`frame_mask` is `(B, T)`, True on valid frames; with `rows_mask`, hidden states and result are as
        `remove_padding` gives them.

        Returns:
            the attended states, the attention weights if asked for, and the bias for the next block: the first one,
            which owns the table, makes it. (Elsewhere, its parameters may be sharded or on another device.)
        """
        if position_bias is None:
            length = hidden_states.shape[1] if rows_mask is None else rows_mask.shape[1]
            position_bias = self._shared_bias(length, hidden_states.device.type, output_attentions)
        query, key, value = (
            self._split_heads(restore_padding(projection(hidden_states), rows_mask))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, d) each
        gate = self.gate(restore_padding(hidden_states, rows_mask)).to(query.dtype)  # (B, H, T, 1)
        probability = self.dropout if self.training else 0.0
        implementation = self.config._attn_implementation
        weights = None
        if implementation == "flex_attention" and position_bias.ndim == 2:
            context = self._flex(query, key, value, gate, frame_mask, position_bias)
        elif output_attentions or implementation == "eager":
            weights = self._weights(query, key, gate, frame_mask, position_bias)
            context = F.dropout(weights, probability) @ value
        elif _is_large_on_cpu(query, probability):
            context = self._attend_by_piece(query, key, value, gate, frame_mask, position_bias)
        elif query.device.type == "cpu" and not _is_fused_on_cpu(query, probability):
            kept = self._kept(query)
            context = recomputed(self._attend_at_once, query, key, value, gate, frame_mask, position_bias, kept)
        else:
            bias = self._gated_bias(gate, frame_mask, position_bias)
            context = F.scaled_dot_product_attention(query, key, value, bias, probability, scale=self.scaling)
        context = context.transpose(1, 2).flatten(2)  # (B, T, D)
        return self.out_proj(remove_padding(context, rows_mask)), weights, position_bias

    def _shared_bias(self, length, device_type, output_attentions):
        """One value per distance for FlexAttention, else one per pair of frames."""
        if self.config._attn_implementation == "flex_attention" and not output_attentions:
            obstacle = flex_obstacle(self.config, device_type, self.training)
            if obstacle is None:
                return self.distance_bias(length)
            logger.warning_once(f"`flex_attention` falls back to `sdpa`: {obstacle}.")
        return self.position_bias(length)

    def _split_heads(self, hidden_states):
        return hidden_states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _attend_by_piece(self, query, key, value, gate, frame_mask, position_bias):
        batch, _, length, _ = query.shape
        lengths = [length] * batch if frame_mask is None else frame_mask.sum(-1).tolist()
        kept = self._kept(query)
        return GatedAttention.apply(query, key, value, gate, position_bias, lengths, self.scaling, kept, self.dropout)

    def _attend_at_once(self, query, key, value, gate, frame_mask, position_bias, kept):
        weights = self._weights(query, key, gate, frame_mask, position_bias)
        return apply_dropout(weights, kept, self.dropout) @ value

    def _kept(self, query):
        """Dropout mask of the attention weights, `(B, H, T, T)`, or None."""
        pairs = query[..., :1].expand(-1, -1, -1, query.shape[2])
        return dropout_mask(pairs, self.dropout, self.training)

    def _weights(self, query, key, gate, frame_mask, position_bias):
        """Attention weights `(B, H, T, T)`."""
        bias = self._gated_bias(gate, frame_mask, position_bias)
        scores = torch.baddbmm(
            bias.flatten(0, 1), query.flatten(0, 1), key.flatten(0, 1).mT, alpha=self.scaling
        )  # (B * H, T, T)
        return torch.softmax(scores, dim=-1).unflatten(0, bias.shape[:2])

    def _gated_bias(self, gate, frame_mask, position_bias):
        """What is added to the scores, `(B, H, T, T)`: minus infinity on padded keys."""
        bias = gate * position_bias.to(gate.dtype)
        return bias if frame_mask is None else bias.masked_fill_(~frame_mask[:, None, None, :], -torch.inf)

    def _flex(self, query, key, value, gate, frame_mask, distance_bias):
        """Scores are gated inside the kernel, from the table of distances."""
        gate, last = gate.squeeze(-1), query.shape[2] - 1
        if frame_mask is None:  # one kernel for both cases
            frame_mask = torch.ones(query.shape[0], query.shape[2], dtype=torch.bool, device=query.device)

        def score_mod(score, clip, head, at, other):
            score = score + gate[clip, head, at] * distance_bias[head, other - at + last]
            return torch.where(frame_mask[clip, other], score, -torch.inf)

        use_compiled = query.is_cuda and not torch.compiler.is_compiling()
        attend = compiled_flex_attention if use_compiled else flex_attention
        return attend(query, key, value, score_mod=score_mod, scale=self.scaling)

    def gate(self, hidden_states):
        """How strongly each query of each head weighs distance, `(B, H, T, 1)`."""
        heads = hidden_states.unflatten(-1, (self.num_heads, self.head_dim))  # (B, T, H, d)
        sums = self.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1)
        gates = torch.sigmoid(sums).transpose(1, 2)  # (B, H, T, 2)
        gate_a, gate_b = gates.chunk(2, dim=-1)
        return gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0

    def distance_bias(self, length: int) -> torch.Tensor:
        """Bias of every head for each distance from a query to a key, from `1 - length` to `length - 1`, as
        `(H, 2 * length - 1)`; only the first block owns the table."""
        distances = torch.arange(1 - length, length, device=self.rel_attn_embed.weight.device)
        return self.rel_attn_embed(self._relative_positions_bucket(distances)).T.contiguous()

    def position_bias(self, length: int) -> torch.Tensor:
        """Bias of every head for every pair of frames, `(1, H, T, T)`."""
        distance_bias = self.distance_bias(length)
        if torch.compiler.is_compiling():  # it would compile `unfold` for this length alone
            positions = torch.arange(length, device=distance_bias.device)
            return distance_bias[None, :, positions[None, :] - positions[:, None] + length - 1]
        windows = distance_bias.unfold(-1, length, 1)  # (H, T, T): windows[i, j] = distance j-(T-1-i)
        return windows.flip(1)[None]


def removable_padding(frame_mask: torch.Tensor | None) -> torch.Tensor | None:
    """The mask, `(B, T)`, if there is padding that is better left out: on a CPU."""
    return None if frame_mask is None or not is_eager_on_cpu(frame_mask) or frame_mask.all() else frame_mask


def remove_padding(frames: torch.Tensor, rows_mask: torch.Tensor | None) -> torch.Tensor:
    """`(B, T, C)` as `(1, N, C)`, the N valid frames of all clips one after the other; unchanged without a mask."""
    return frames if rows_mask is None else frames[rows_mask][None]


def restore_padding(frames: torch.Tensor, rows_mask: torch.Tensor | None) -> torch.Tensor:
    """The opposite: `(1, N, C)` as `(B, T, C)`, with zeros."""
    if rows_mask is None:
        return frames
    return frames.new_zeros(*rows_mask.shape, frames.shape[-1]).index_put((rows_mask,), frames[0])


def _is_large_on_cpu(query, dropout):
    """Whether the attention weights of the batch had better be taken piece by piece."""
    if not is_eager_on_cpu(query):
        return False
    batch, num_heads, length, _ = query.shape
    few = 16 if _is_fused_on_cpu(query, dropout) else 2  # times the cache
    return batch * num_heads * length**2 * query.element_size() > few * BYTES_IN_CACHE


def _is_fused_on_cpu(query, dropout):
    """Whether PyTorch's fused kernel serves: it has no gradient of the bias, a dropout of its own (reentrant
    checkpointing runs a block first without gradients, then with), and is slow in half precision."""
    return query.dtype == torch.float32 and not torch.is_grad_enabled() and dropout == 0


class GatedAttention(torch.autograd.Function):
    """`softmax(scaling * query @ key.mT + gate * position_bias) @ value` on a CPU, as each clip alone has it, with
    zeros for padded frames; B clips, H heads, T frames.

    Args:
        query, key, value: `(B, H, T, d)`.
        gate: `(B, H, T, 1)`.
        position_bias: `(1, H, T, T)`, in any precision.
        lengths: valid frames of each clip.
        scaling: of the products.
        kept: dropout mask of the weights, `(B, H, T, T)`, or None.
        probability: that a weight is dropped.
    """

    @staticmethod
    def forward(query, key, value, gate, position_bias, lengths, scaling, kept, probability):
        context = torch.zeros_like(query)
        for at, valid, bias in _pieces(query, position_bias, lengths):
            weights = _weights(query[at], key[at], gate[at], bias, scaling, valid)
            weights = apply_dropout(weights, _pairs(kept, at), probability)
            context[at] = products(weights, value[at].mT)
        return context

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.lengths, ctx.scaling, kept, ctx.probability = inputs
        ctx.save_for_backward(*tensors, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        *tensors, kept = ctx.saved_tensors
        query, key, value, gate, position_bias = tensors
        of_query, of_key, of_value, of_gate, of_bias = gradients = [torch.zeros_like(tensor) for tensor in tensors]
        for at, valid, bias in _pieces(query, position_bias, ctx.lengths):
            weights = _weights(query[at], key[at], gate[at], bias, ctx.scaling, valid)
            mask = _pairs(kept, at)
            # oneDNN reads a matrix of weights as it lies, but copies rows that do not follow each other: these are few
            of_value[at] = products(gradient[at].mT, apply_dropout(weights, mask, ctx.probability).mT).mT
            of_weights = apply_dropout(products(gradient[at], value[at]), mask, ctx.probability)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_query[at] = products(of_scores, key[at].mT).mul_(ctx.scaling)
            of_key[at] = products(query[at].mT, of_scores.mT).mT.mul_(ctx.scaling)
            of_gate[at] = (of_scores * bias).sum(-1, keepdim=True)
            _pairs(of_bias, (0, *at[1:])).addcmul_(of_scores, gate[at])
        return *gradients, None, None, None, None


def _pieces(
    query: torch.Tensor, position_bias: torch.Tensor, lengths: Sequence[int]
) -> Iterator[tuple[tuple[int, slice, slice], int, torch.Tensor]]:
    """Indices of some heads of a clip and its frames, how many of these are valid, and the bias of both."""
    _, num_heads, length, _ = query.shape
    size = max(1, BYTES_IN_CACHE // (length * length * query.element_size()))
    for start in range(0, num_heads, size):
        heads = slice(start, start + size)
        bias = position_bias[0, heads].to(query.dtype)
        for clip, valid in enumerate(lengths):
            frames = min(length, -(-valid // LENGTH_STEP) * LENGTH_STEP)
            yield (clip, heads, slice(frames)), valid, bias[:, :frames, :frames]


def _pairs(tensor, at):
    """The pairs of frames of a piece, in a tensor `(B, H, T, T)` or None."""
    return None if tensor is None else tensor[(*at, at[-1])]


def _weights(query, key, gate, bias, scaling, valid):
    """`(heads, frames, frames)`, zero where one of the frames is padded."""
    scores = products(query * scaling, key).addcmul_(gate, bias)
    scores[..., valid:] = -torch.inf
    weights = torch.softmax(scores, dim=-1)
    weights[:, valid:] = 0
    return weights
