"""WavLM with exact lengths in plain PyTorch, and each further piece of the package's backbone as a change to it.

    python benchmarks/backbone.py --variants plain plain+onednn full full-onednn

Design choices:
- `plain` is transformers' modules with three changes: the group norm runs over each clip's own frames, linear layers
  are spared the padding, attention is `scaled_dot_product_attention` with a bias that is looked up once per forward
  pass. Parameter names are transformers'.
- `plain+PIECE` is that with one piece more; `full-PIECE` is the package's backbone with one piece switched off, by
  replacing a name in its modules while it runs.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import WavLMConfig, WavLMModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.wavlm.modeling_wavlm import (
    WavLMAttention,
    WavLMEncoder,
    WavLMEncoderLayer,
    WavLMFeatureEncoder,
    WavLMFeedForward,
    WavLMGroupNormConvLayer,
    WavLMNoLayerNormConvLayer,
)

from modeling_toxmtl import attention, kernels, wavlm
from modeling_toxmtl.attention import GatedAttention, removable_padding, remove_padding, restore_padding
from modeling_toxmtl.outputs import length_mask
from modeling_toxmtl.wavlm import ToxicityDropout, ToxicityGroupNormConvLayer


def masked_group_norm(channels: torch.Tensor, norm: nn.GroupNorm, mask: torch.Tensor | None) -> torch.Tensor:
    """Group norm of `(B, C, T)` with a group per channel, over the frames on which the `(B, T)` mask is True."""
    if mask is None:
        return norm(channels)
    mask = mask[:, None, :]
    count = mask.sum(-1, keepdim=True)
    mean = torch.where(mask, channels, 0).sum(-1, keepdim=True) / count
    centred = channels - mean
    variance = torch.where(mask, centred, 0).square().sum(-1, keepdim=True) / count
    scale = torch.rsqrt(variance + norm.eps) * norm.weight[:, None]
    return centred * scale + norm.bias[:, None]


class GroupNormConvLayer(WavLMGroupNormConvLayer):
    """First convolution of WavLM Base, normalised over each clip's own length."""

    def forward(self, hidden_states, lengths=None):
        mask = None
        hidden_states = self.conv(hidden_states)
        if lengths is not None:
            mask = length_mask((lengths - self.conv.kernel_size[0]) // self.conv.stride[0] + 1, hidden_states.shape[2])
        return self.activation(masked_group_norm(hidden_states, self.layer_norm, mask))


class FeatureEncoder(WavLMFeatureEncoder):
    """Waveform `(B, samples)` to frames `(B, C, T)`."""

    def forward(self, input_values, lengths=None):
        hidden_states = input_values[:, None]
        first, *rest = self.conv_layers
        hidden_states = first(hidden_states, lengths)
        for layer in rest:
            hidden_states = layer(hidden_states)
        return hidden_states


class Attention(WavLMAttention):
    """WavLM's gated relative attention on `(B, T, D)`, or with `rows_mask` as `remove_padding` gives them."""

    def forward(self, hidden_states, frame_mask, position_bias, rows_mask):
        if position_bias is None:
            length = hidden_states.shape[1] if rows_mask is None else rows_mask.shape[1]
            position_bias = self.compute_bias(length, length)[None]
        query, key, value = (
            restore_padding(projection(hidden_states), rows_mask).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        gate = self.gate(restore_padding(hidden_states, rows_mask))
        context = self.attend(query, key, value, gate, position_bias, frame_mask)
        context = remove_padding(context.transpose(1, 2).flatten(2), rows_mask)
        return self.out_proj(context), position_bias

    def attend(self, query, key, value, gate, position_bias, frame_mask):
        bias = gate * position_bias
        if frame_mask is not None:
            bias = bias.masked_fill(~frame_mask[:, None, None, :], -torch.inf)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)

    def gate(self, hidden_states):
        heads = hidden_states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        sums = self.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1)
        gate_a, gate_b = torch.sigmoid(sums).chunk(2, dim=-1)
        return gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0  # (B, H, T, 1)


class EncoderLayer(WavLMEncoderLayer):
    """Post-norm block (WavLM Base)."""

    def forward(self, hidden_states, frame_mask, position_bias, rows_mask):
        context, position_bias = self.attention(hidden_states, frame_mask, position_bias, rows_mask)
        hidden_states = self.layer_norm(hidden_states + self.dropout(context))
        hidden_states = self.final_layer_norm(hidden_states + self.feed_forward(hidden_states))
        return hidden_states, position_bias


class Encoder(WavLMEncoder):
    """Positional convolution and blocks."""

    def forward(self, hidden_states, frame_mask):
        if frame_mask is not None:
            hidden_states = hidden_states * frame_mask[:, :, None].to(hidden_states.dtype)
        hidden_states = self.dropout(self.layer_norm(hidden_states + self.pos_conv_embed(hidden_states)))
        rows_mask = removable_padding(frame_mask)
        hidden_states, position_bias = remove_padding(hidden_states, rows_mask), None
        for layer in self.layers:
            hidden_states, position_bias = layer(hidden_states, frame_mask, position_bias, rows_mask)
        return restore_padding(hidden_states, rows_mask)


class PlainWavLM(WavLMModel):
    """WavLM Base; `WavLMModel` with exact lengths."""

    def forward(self, input_values, attention_mask=None):
        lengths = frame_mask = None
        if attention_mask is not None:
            lengths = attention_mask.sum(-1)
        channels = self.feature_extractor(input_values, lengths)
        if lengths is not None:
            frame_mask = length_mask(self._get_feat_extract_output_lengths(lengths), channels.shape[-1])
        hidden_states, _ = self.feature_projection(channels.transpose(1, 2))
        return BaseModelOutput(self.encoder(hidden_states, frame_mask))


OURS = {
    WavLMFeatureEncoder: FeatureEncoder,
    WavLMGroupNormConvLayer: GroupNormConvLayer,
    WavLMEncoder: Encoder,
    WavLMEncoderLayer: EncoderLayer,
    WavLMAttention: Attention,
    WavLMModel: PlainWavLM,
}


def plain(config: WavLMConfig) -> nn.Module:
    """`PlainWavLM` with transformers' initialisation: the modules are the same but for their `forward`."""
    return replace_classes(WavLMModel(config), OURS)


def replace_classes(model: nn.Module, classes: dict[type, type]) -> nn.Module:
    """Gives modules other methods on the same parameters."""
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
    return model


# --- pieces


class ImageConvLayer(WavLMNoLayerNormConvLayer):
    """A convolution as a 2D one of height 1 in the channels-last format."""

    def forward(self, hidden_states):
        image = hidden_states[:, :, None].contiguous(memory_format=torch.channels_last)
        weight = self.conv.weight[:, :, None].contiguous(memory_format=torch.channels_last)
        return self.activation(F.conv2d(image, weight, self.conv.bias, (1, self.conv.stride[0]))[:, :, 0])


class ProductConvLayer(WavLMNoLayerNormConvLayer):
    """A convolution as matrix products, with gradients that are products too, a clip at a time."""

    def forward(self, hidden_states):
        frames = hidden_states.transpose(1, 2).contiguous()
        channels = kernels.convolution(
            frames, kernels.channels_last(self.conv.weight), self.conv.bias, self.conv.stride[0]
        )
        return self.activation(channels).transpose(1, 2)


class CovarianceConvLayer(ToxicityGroupNormConvLayer):
    """The group norm as a part of the convolution's weights."""

    def forward(self, hidden_states, lengths=None):
        windows = hidden_states[:, 0].unfold(-1, self.conv.kernel_size[0], self.conv.stride[0])
        windows, weight, bias = self.filters(windows, lengths)
        return self.activation(torch.baddbmm(bias.mT, weight.mT, windows.mT))


class ClipFeatureEncoder(FeatureEncoder):
    """Each clip by itself, without its padding."""

    def forward(self, input_values, lengths=None):
        if lengths is None:
            return super().forward(input_values)
        clips = [
            super(ClipFeatureEncoder, self).forward(clip[None, :length])
            for clip, length in zip(input_values, lengths.tolist(), strict=True)
        ]
        size = max(clip.shape[-1] for clip in clips)
        return torch.cat([F.pad(clip, (0, size - clip.shape[-1])) for clip in clips])


class RecomputedFeedForward(WavLMFeedForward):
    """Keeps the widest features once: the second computation ends before the last product."""

    def forward(self, hidden_states):
        hidden_states = checkpointed(self._project, self.intermediate_dense(hidden_states))
        return self.output_dropout(hidden_states)

    def _project(self, hidden_states):
        return self.output_dense(self.intermediate_dropout(self.intermediate_act_fn(hidden_states)))


class RowsFeedForward(WavLMFeedForward):
    """A few frames at a time in inference."""

    def forward(self, hidden_states):
        if torch.is_grad_enabled():
            return super().forward(hidden_states)
        return kernels.by_rows(super().forward, hidden_states)


class RecomputedAttention(Attention):
    """Keeps query, key, value and gate, not the weights."""

    def attend(self, *inputs):
        return checkpointed(super().attend, *inputs)


class PiecewiseAttention(Attention):
    """A few heads of a clip at a time, with hand-written gradients."""

    def attend(self, query, key, value, gate, position_bias, frame_mask):
        batch, _, length, _ = query.shape
        lengths = [length] * batch if frame_mask is None else frame_mask.sum(-1).tolist()
        pairs = query[..., :1].expand(-1, -1, -1, length)
        kept = kernels.dropout_mask(pairs, self.dropout, self.training)
        return GatedAttention.apply(query, key, value, gate, position_bias, lengths, self.scaling, kept, self.dropout)


def checkpointed(function: Callable, *inputs):
    """`function(*inputs)`, computed again in the backward pass."""
    return checkpoint(function, *inputs, use_reentrant=False) if torch.is_grad_enabled() else function(*inputs)


class RecomputedFeatureEncoder(FeatureEncoder):
    """Keeps what each convolution gives; norm and activation after it are computed again."""

    def forward(self, input_values, lengths=None):
        first, *rest = self.conv_layers
        hidden_states = first.conv(input_values[:, None])
        mask = None
        if lengths is not None:
            mask = length_mask(
                (lengths - first.conv.kernel_size[0]) // first.conv.stride[0] + 1, hidden_states.shape[2]
            )
        hidden_states = checkpointed(partial(self._first_two, mask), hidden_states)
        for before, layer in pairwise(rest):
            hidden_states = checkpointed(partial(self._next, before, layer), hidden_states)
        return rest[-1].activation(hidden_states)

    def _first_two(self, mask, channels):
        first, second, *_ = self.conv_layers
        return second.conv(first.activation(masked_group_norm(channels, first.layer_norm, mask)))

    def _next(self, before, layer, channels):
        return layer.conv(before.activation(channels))


def replacing(classes: dict[type, type]) -> Callable[[nn.Module], None]:
    return lambda model: replace_classes(model, classes)


def pack(model: nn.Module):
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and name != "gru_rel_pos_linear":
                setattr(module, name, kernels.PackedLinear(child))


LINEARS_BY_ONEDNN = {nn.Linear: kernels.ToxicityLinear}
RECOMPUTED_BLOCKS = {WavLMFeedForward: RecomputedFeedForward, Attention: RecomputedAttention}
RECOMPUTED = RECOMPUTED_BLOCKS | {FeatureEncoder: RecomputedFeatureEncoder}
PIECES = {
    "onednn": replacing(LINEARS_BY_ONEDNN),
    "images": replacing({WavLMNoLayerNormConvLayer: ImageConvLayer}),
    "products": replacing({WavLMNoLayerNormConvLayer: ProductConvLayer}),
    "covariance": replacing({GroupNormConvLayer: CovarianceConvLayer}),
    "clips": replacing({FeatureEncoder: ClipFeatureEncoder}),
    "piecewise": replacing({Attention: PiecewiseAttention}),
    "packed": pack,
    "bytes": replacing({nn.Dropout: ToxicityDropout}),
    "recomputed": replacing(RECOMPUTED),
    "recomputed_blocks": replacing(RECOMPUTED_BLOCKS),
    "recomputed_attention": replacing({Attention: RecomputedAttention}),
    "recomputed_feed_forward": replacing({WavLMFeedForward: RecomputedFeedForward}),
    "checkpointing": lambda model: model.gradient_checkpointing_enable(),
    "rows": replacing({WavLMFeedForward: RowsFeedForward}),
}
ONLY_INFERENCE = {"packed", "rows"}
ONLY_TRAINING = {
    "bytes",
    "recomputed",
    "recomputed_blocks",
    "checkpointing",
    "recomputed_attention",
    "recomputed_feed_forward",
}


def _kept_tensors(function, *inputs):
    return function(*inputs)


def _float_mask(like, probability, training):
    """PyTorch's own dropout keeps a mask as wide as the features."""
    if not training or probability == 0:
        return None
    return F.dropout(torch.ones_like(like), probability) * (1 - probability)


def _is_faster_linear(stride, weight, *tensors):
    return weight.shape[-1] == stride == 1 and kernels.prefers_onednn(weight, *tensors)


def _image_convolution(weight, bias=None, stride=1):
    return lambda prepare, *inputs: kernels.convolution(prepare(*inputs), weight, bias, stride)


NEVER = 2**60
# names to replace while the package's backbone runs
SWITCHES = {
    "onednn": [(kernels, "MKL_MAY_BE_SLOW", False)],
    "products": [
        (kernels, "_is_faster_here", _is_faster_linear),
        (wavlm, "prepared_convolution", _image_convolution),
    ],
    "cache": [(wavlm, "FRAMES_IN_CACHE", NEVER)],
    "rows": [(kernels, "ROWS_IN_CACHE", NEVER)],
    "piecewise": [(attention, "_is_large_on_cpu", lambda query, dropout: False)],
    "recomputed": [(module, "recomputed", _kept_tensors) for module in (kernels, attention, wavlm)],
    "bytes": [(module, "dropout_mask", _float_mask) for module in (attention, wavlm)],
    "removal": [(module, "removable_padding", lambda mask: None) for module in (wavlm, sys.modules[__name__])],
}


@contextmanager
def switched_off(piece: str | None) -> Iterator[None]:
    """The package's backbone without the piece."""
    replaced = [patch.object(*switch) for switch in SWITCHES.get(piece, [])]
    for switch in replaced:
        switch.start()
    try:
        yield
    finally:
        for switch in replaced:
            switch.stop()
