"""WavLM that gives a clip the same features alone and in any batch, with fast attention and a place for task adapters.

Design choices:
- Parameter names are those of transformers' `WavLMModel`, so its checkpoints load by name. Modules whose arithmetic is
  kept are transformers' own.
- Length-exact: transformers normalises the first convolution of WavLM Base over the padded length, so its features of
  a clip depend on the clips beside it. Here mean and variance run over the valid frames alone, and padded frames never
  reach a valid one. They follow from the covariance of the waveform's windows, so the norm becomes part of the
  convolution's weights and costs no pass over its output.
- Training keeps little: what an activation, a norm or the attention weights cost to compute again is small beside the
  matrix products, so these are computed again in the backward pass (`recomputed`), and dropout keeps bytes.
- On a CPU, each clip goes through the convolutions by itself, without its padding (in training in float32 alone); in
  inference a piece at a time, so that features are still in the cache when the next operation reads them.
- Task adapters (paper, section 3.3.2) start as the identity: a fresh adapter changes nothing.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module
from transformers.models.wavlm.modeling_wavlm import (
    WavLMEncoderLayer,
    WavLMEncoderLayerStableLayerNorm,
    WavLMFeatureEncoder,
    WavLMFeatureProjection,
    WavLMFeedForward,
    WavLMGroupNormConvLayer,
    WavLMLayerNormConvLayer,
    WavLMNoLayerNormConvLayer,
    WavLMPositionalConvEmbedding,
    WavLMPreTrainedModel,
    _compute_mask_indices,
)
from transformers.utils import logging

from .attention import (
    ToxicityAttention,
    removable_padding,
    remove_padding,
    restore_padding,
)
from .configuration_toxmtl import WavLMToxicityMTLConfig, receptive_field
from .kernels import (
    ToxicityLinear,
    apply_dropout,
    by_rows,
    channels_last,
    convolution,
    dropout_mask,
    is_eager_on_cpu,
    pack_linears,
    prepared_convolution,
    recomputed,
    recomputed_convolution,
    uses_onednn,
)
from .outputs import ToxicityBackboneOutput, length_mask


logger = logging.get_logger(__name__)

FRAMES_IN_CACHE = 96  # of 20 ms, of a clip: 13 MB after WavLM Base's first convolution in float32


class ToxicityDropout(nn.Dropout):
    """Dropout that keeps a mask of bytes."""

    def forward(self, hidden_states):
        return apply_dropout(hidden_states, dropout_mask(hidden_states, self.p, self.training), self.p)


class ToxicityGroupNormConvLayer(WavLMGroupNormConvLayer):
    """First convolution of WavLM Base, normalised over each clip's own length."""

    def filters(self, windows, lengths=None):
        """What a product makes of the windows `(B, T, k)` of each waveform: the normalised channels, `(B, T, C)`.

        A channel is a weighted sum of the k samples in a window, so its mean and variance over time follow from the
        mean and the k × k covariance of the windows (in float64: speech is so smooth that the covariance is nearly
        singular). The convolution's bias cancels out.

        Returns:
            the centred windows, weights `(B, k, C)` and biases `(1, C)`.
        """
        exact = windows.to(torch.float32 if windows.device.type == "mps" else torch.float64)
        if lengths is None:
            count = windows.shape[1]
            centred = exact - exact.mean(1, keepdim=True)
            valid = centred
        else:
            num_windows = self.num_windows(lengths)  # (B,)
            mask = length_mask(num_windows, windows.shape[1])[:, :, None]
            count = num_windows[:, None, None]
            centred = exact - torch.where(mask, exact, 0).sum(1, keepdim=True) / count
            valid = torch.where(mask, centred, 0)
        covariance = valid.mT @ valid / count  # (B, k, k)
        weight = self.conv.weight[:, 0].to(exact.dtype)  # (C, k)
        variance = ((weight @ covariance) * weight).sum(-1)  # (B, C)
        scale = self.layer_norm.weight * torch.rsqrt(variance + self.layer_norm.eps)
        weight = (scale[:, None] * weight.T).to(windows.dtype)  # (B, k, C)
        return centred.to(windows.dtype), weight, self.layer_norm.bias[None].to(windows.dtype)

    def num_windows(self, num_samples):
        """Windows in so many samples."""
        return (num_samples - self.conv.kernel_size[0]) // self.conv.stride[0] + 1

    def finish(self, channels):
        """What the next layer sees."""
        return self.activation(channels)

    def finish_inputs(self, channels):
        """All tensors that `finish` depends on."""
        return (channels,)


class ToxicityNoLayerNormConvLayer(WavLMNoLayerNormConvLayer):
    """Later convolution of WavLM Base; `finish` as above."""

    finish = ToxicityGroupNormConvLayer.finish
    finish_inputs = ToxicityGroupNormConvLayer.finish_inputs


class ToxicityLayerNormConvLayer(WavLMLayerNormConvLayer):
    """Convolution of WavLM Large."""

    def filters(self, windows, lengths=None):
        """As of `ToxicityGroupNormConvLayer`, for the first layer."""
        bias = windows.new_zeros(1, self.out_conv_dim) if self.conv.bias is None else self.conv.bias[None]
        return windows, self.conv.weight[:, 0].T.expand(windows.shape[0], -1, -1), bias

    num_windows = ToxicityGroupNormConvLayer.num_windows

    def finish(self, channels, weight, bias):
        """What the next layer sees; `weight` and `bias` are the norm's."""
        norm = self.layer_norm
        return self.activation(F.layer_norm(channels, norm.normalized_shape, weight, bias, norm.eps))

    def finish_inputs(self, channels):
        """All tensors that `finish` depends on."""
        return channels, self.layer_norm.weight, self.layer_norm.bias


class ToxicityFeatureEncoder(WavLMFeatureEncoder):
    """Waveform `(B, samples)` to frames `(B, T, C)`. Only the group norm mixes frames; the convolutions have no
    padding of their own."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        nn.Module.__init__(self)
        num_layers = len(config.conv_dim)
        if config.feat_extract_norm == "group":
            rest = [ToxicityNoLayerNormConvLayer(config, layer_id=i) for i in range(1, num_layers)]
            layers = [ToxicityGroupNormConvLayer(config, layer_id=0), *rest]
        else:
            layers = [ToxicityLayerNormConvLayer(config, layer_id=i) for i in range(num_layers)]
        self.conv_layers = nn.ModuleList(layers)
        self._requires_grad = True
        self._packed = None

    def pack(self):
        """Keeps the convolutions as inference prepares them."""
        self._packed = self._convolutions(prepared_convolution)

    def forward(self, input_values, lengths=None):
        """Norms and activations are computed again in the backward pass, so gradient checkpointing has nothing to
        add here."""
        first = self.conv_layers[0]
        windows = input_values.unfold(-1, first.conv.kernel_size[0], first.conv.stride[0])  # (B, T, k)
        windows, weight, bias = first.filters(windows, lengths)
        is_trained = windows.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        needs_graph = torch.is_grad_enabled() and is_trained
        at_once = needs_graph and not uses_onednn(windows, weight)  # oneDNN's products want a clip at a time
        if at_once or not is_eager_on_cpu(windows):
            return self._encode(windows, weight, bias, self._convolutions(recomputed_convolution))
        num_windows = [windows.shape[1]] * len(windows) if lengths is None else first.num_windows(lengths).tolist()
        with torch.set_grad_enabled(needs_graph):
            return self._encode_clips(windows, weight, bias, num_windows)

    def _encode_clips(self, windows, weight, bias, num_windows):
        """`_encode` on a CPU: each clip by itself, and zeros for its padding."""
        in_training = torch.is_grad_enabled()
        if in_training:
            convolutions = self._convolutions(recomputed_convolution)
        else:
            convolutions = self._packed or self._convolutions(prepared_convolution)
        num_frames = self._num_frames(windows.shape[1])
        clips = []
        for clip, filters, valid in zip(windows.split(1), weight.split(1), num_windows, strict=True):
            pieces = [slice(valid)] if in_training else self._pieces(valid)
            features = [self._encode(clip[:, piece], filters, bias, convolutions) for piece in pieces]
            features = torch.cat(features, dim=1)
            clips.append(F.pad(features, (0, 0, 0, num_frames - features.shape[1])))
        return torch.cat(clips)

    def _convolutions(self, kind):
        """Those after the first, as functions of what comes before them."""
        convs = (layer.conv for layer in self.conv_layers[1:])
        return [kind(channels_last(conv.weight), conv.bias, conv.stride[0]) for conv in convs]

    def _encode(self, windows, weight, bias, convolutions):
        *layers, last = self.conv_layers
        channels = torch.baddbmm(bias, windows, weight)
        for layer, convolve in zip(layers, convolutions, strict=True):
            channels = convolve(layer.finish, *layer.finish_inputs(channels))
        return last.finish(*last.finish_inputs(channels))

    def _field_and_stride(self):
        """Of a frame, in windows."""
        convs = [layer.conv for layer in self.conv_layers[1:]]
        strides = [conv.stride[0] for conv in convs]
        return receptive_field([conv.kernel_size[0] for conv in convs], strides), math.prod(strides)

    def _num_frames(self, num_windows):
        field, stride = self._field_and_stride()
        return (num_windows - field) // stride + 1

    def _pieces(self, num_windows):
        """Slices of the windows: a few frames at a time, whose features stay in a processor's cache on their way
        through the layers."""
        field, stride = self._field_and_stride()
        num_frames = self._num_frames(num_windows)
        num_pieces = max(1, round(num_frames / FRAMES_IN_CACHE))
        ends = [num_frames * i // num_pieces for i in range(num_pieces + 1)]
        return [slice(start * stride, (end - 1) * stride + field) for start, end in pairwise(ends)]


class ToxicityFeatureProjection(WavLMFeatureProjection):
    """The projection by the faster library."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self.projection = ToxicityLinear(config.conv_dim[-1], config.hidden_size)


class ToxicityPositionalConvEmbedding(WavLMPositionalConvEmbedding):
    """Convolution over positions on `(B, T, D)`."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self._packed = None

    def pack(self):
        """Keeps the weight as the convolution reads it."""
        self._packed = channels_last(self.conv.weight)

    def forward(self, hidden_states):
        conv, length = self.conv, hidden_states.shape[1]
        weight = channels_last(conv.weight) if self._packed is None else self._packed
        positions = convolution(
            hidden_states, weight, conv.bias, padding=conv.padding[0], groups=conv.groups
        )  # one frame too many if the kernel is even
        return self.activation(positions[:, :length])


class ToxicityFeedForward(WavLMFeedForward):
    """The block's feed-forward layers, of which training keeps the widest features once."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self.intermediate_dense = ToxicityLinear(config.hidden_size, config.intermediate_size)
        self.output_dense = ToxicityLinear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states):
        return self._feed(hidden_states) if torch.is_grad_enabled() else by_rows(self._feed, hidden_states)

    def _feed(self, hidden_states):
        hidden_states = self.intermediate_dense(hidden_states)  # (B, T, intermediate_size)
        kept = dropout_mask(hidden_states, self.intermediate_dropout.p, self.training)
        return self.output_dropout(self._project(hidden_states, kept))

    def _project(self, hidden_states, kept):
        if type(self.output_dense) is ToxicityLinear:
            return self.output_dense(hidden_states, kept, prepare=self._activate)
        return self.output_dense(recomputed(self._activate, hidden_states, kept))  # it may have a dropout of its own

    def _activate(self, hidden_states, kept):
        hidden_states = self.intermediate_act_fn(hidden_states)
        return apply_dropout(hidden_states, kept, self.intermediate_dropout.p)


class _ToxicityLayerMixin:
    """Puts our attention, feed-forward and dropout into transformers' encoder layers."""

    def __init__(self, config, has_relative_position_bias=True):
        super().__init__(config, has_relative_position_bias)
        self.attention = ToxicityAttention(
            embed_dim=config.hidden_size,
            num_heads=config.num_attention_heads,
            dropout=config.attention_dropout,
            num_buckets=config.num_buckets,
            max_distance=config.max_bucket_distance,
            has_relative_position_bias=has_relative_position_bias,
        )
        self.attention.config = config
        self.feed_forward = ToxicityFeedForward(config)
        self.feed_forward.output_dropout = ToxicityDropout(config.hidden_dropout)
        self.dropout = ToxicityDropout(config.hidden_dropout)


class ToxicityEncoderLayer(_ToxicityLayerMixin, WavLMEncoderLayer):
    """Post-norm block (WavLM Base)."""

    def forward(self, hidden_states, frame_mask=None, position_bias=None, output_attentions=False, rows_mask=None):
        context, weights, position_bias = self.attention(
            hidden_states, frame_mask, position_bias, output_attentions, rows_mask
        )
        hidden_states = self.layer_norm(hidden_states + self.dropout(context))
        hidden_states = self.final_layer_norm(hidden_states + self.feed_forward(hidden_states))
        return hidden_states, weights, position_bias


class ToxicityEncoderLayerStableLayerNorm(_ToxicityLayerMixin, WavLMEncoderLayerStableLayerNorm):
    """Pre-norm block (WavLM Large)."""

    def forward(self, hidden_states, frame_mask=None, position_bias=None, output_attentions=False, rows_mask=None):
        normalised = self.layer_norm(hidden_states)
        context, weights, position_bias = self.attention(
            normalised, frame_mask, position_bias, output_attentions, rows_mask
        )
        hidden_states = hidden_states + self.dropout(context)
        hidden_states = hidden_states + self.feed_forward(self.final_layer_norm(hidden_states))
        return hidden_states, weights, position_bias


class TaskAdapter(nn.Module):
    """Soft mask on the shared features of one task at one place (paper, section 3.3.2; after MTAN, Liu et al., CVPR
    2019).

    Convolution, multi-head soft attention, bottleneck and LayerNorm, 4.33 M parameters at WavLM Base+ size (paper:
    "about 4.3M"). The mask lies in (0, 2) and is 1 everywhere at the start, when the bottleneck's last layer is zero.
    """

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.conv = nn.Conv1d(
            size, size, config.task_adapter_kernel_size, padding=config.task_adapter_kernel_size // 2
        )
        self.q_proj = ToxicityLinear(size, size)
        self.k_proj = ToxicityLinear(size, size)
        self.v_proj = ToxicityLinear(size, size)
        self.out_proj = ToxicityLinear(size, size)
        self.down_proj = ToxicityLinear(size, config.task_adapter_bottleneck_size)
        self.up_proj = ToxicityLinear(config.task_adapter_bottleneck_size, size)

    def forward(self, shared, previous=None, frame_mask=None, rows_mask=None):
        """`shared` and `previous` (this task's features one place below, if any) are `(B, T, D)`, as is the result, or
        with `rows_mask` as `remove_padding` gives them."""
        hidden_states = self.layer_norm(shared if previous is None else shared + previous)
        hidden_states = remove_padding(F.gelu(self._convolve(hidden_states, frame_mask, rows_mask)), rows_mask)
        hidden_states = hidden_states + self._attend(hidden_states, frame_mask, rows_mask)
        mask = 2 * torch.sigmoid(self.up_proj(F.gelu(self.down_proj(hidden_states))))
        return shared * mask

    def _convolve(self, hidden_states, frame_mask, rows_mask):
        """`(B, T, D)`, as a clip alone sees it: zeros beyond its end."""
        hidden_states = restore_padding(hidden_states, rows_mask)
        if frame_mask is not None and rows_mask is None:
            hidden_states = hidden_states * frame_mask[:, :, None].to(hidden_states.dtype)
        return convolution(hidden_states, self.conv.weight, self.conv.bias, padding=self.conv.padding[0])

    def _attend(self, hidden_states, frame_mask, rows_mask):
        query, key, value = (
            restore_padding(projection(hidden_states), rows_mask).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        key_mask = None if frame_mask is None else frame_mask[:, None, None, :]
        context = F.scaled_dot_product_attention(query, key, value, key_mask).transpose(1, 2).flatten(2)
        return self.out_proj(remove_padding(context, rows_mask))


class ToxicityEncoder(nn.Module):
    """Positional convolution, blocks, and the task adapters beside them."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__()
        self.config = config
        self.pos_conv_embed = ToxicityPositionalConvEmbedding(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = ToxicityDropout(config.hidden_dropout)
        layer_class = ToxicityEncoderLayerStableLayerNorm if config.do_stable_layer_norm else ToxicityEncoderLayer
        self.layers = nn.ModuleList(layer_class(config, i == 0) for i in range(config.num_hidden_layers))
        self.task_adapters = nn.ModuleDict()
        if config.use_task_adapter:
            for task in config.tasks:
                self.task_adapters[task] = nn.ModuleList(
                    TaskAdapter(config) for _ in range(config.num_hidden_layers + 1)
                )
        self.gradient_checkpointing = False

    def forward(self, hidden_states, frame_mask=None, output_attentions=False, output_hidden_states=False):
        pre_norm = self.config.do_stable_layer_norm
        if frame_mask is not None:
            hidden_states = hidden_states * frame_mask[:, :, None].to(
                hidden_states.dtype
            )  # the positional convolution mixes frames
        hidden_states = hidden_states + self.pos_conv_embed(hidden_states)
        hidden_states = self.dropout(hidden_states if pre_norm else self.layer_norm(hidden_states))

        rows_mask = removable_padding(frame_mask)
        hidden_states = remove_padding(hidden_states, rows_mask)
        features = self._adapt(0, hidden_states, {}, frame_mask, rows_mask)
        all_hidden_states, all_attentions, position_bias = [hidden_states], [], None
        for place, layer in enumerate(self.layers, start=1):
            if place == 1 or not self._drops_layer():
                hidden_states, weights, position_bias = layer(
                    hidden_states, frame_mask, position_bias, output_attentions, rows_mask
                )
                all_attentions.append(weights)
            if pre_norm and place == len(self.layers):
                hidden_states = self.layer_norm(hidden_states)
            features = self._adapt(place, hidden_states, features, frame_mask, rows_mask)
            all_hidden_states.append(hidden_states)

        hidden_states = restore_padding(hidden_states, rows_mask)
        features = {task: restore_padding(adapted, rows_mask) for task, adapted in features.items()}
        if output_hidden_states:
            all_hidden_states = tuple(restore_padding(states, rows_mask) for states in all_hidden_states)
        return ToxicityBackboneOutput(
            last_hidden_state=hidden_states,
            task_features=features or dict.fromkeys(self.config.tasks, hidden_states),
            frame_mask=frame_mask,
            hidden_states=all_hidden_states if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
        )

    def _drops_layer(self):
        """LayerDrop (https://huggingface.co/papers/1909.11556), but where processes must run the same blocks."""
        if not self.training or self.config.layerdrop == 0:
            return False
        is_sharded = is_deepspeed_zero3_enabled() or is_fsdp_managed_module(self)
        return not is_sharded and torch.rand([]) < self.config.layerdrop

    def _adapt(self, place, shared, previous, frame_mask, rows_mask):
        return {
            task: adapters[place](shared, previous.get(task), frame_mask, rows_mask)
            for task, adapters in self.task_adapters.items()
        }


class ToxicityPreTrainedModel(WavLMPreTrainedModel):
    """Initialisation and checkpoint names shared by the backbone and the model with heads."""

    config_class = WavLMToxicityMTLConfig
    base_model_prefix = "wavlm"
    _supports_sdpa = True
    _supports_flex_attn = True
    _no_split_modules = ["ToxicityEncoderLayer", "ToxicityEncoderLayerStableLayerNorm", "TaskAdapter"]

    def pack_weights(self):
        """Arranges the weights once for all inference on a CPU, in float32 or bfloat16: 3 to 18 % faster. The model
        can be saved as before, but no longer trained, compiled, copied, moved or converted.

        Returns:
            the model itself.

        Raises:
            ValueError: if the weights cannot be arranged on this machine.
        """
        pack_linears(self)
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, ToxicityFeatureEncoder | ToxicityPositionalConvEmbedding):
                module.pack()
        return self

    def _initialize_weights(self, module, is_custom_code=False):
        # transformers skips containers of custom code, in case it writes parameters in place. Ours uses `init`
        # alone, and the containers of WavLM (positional convolution, projection) are initialised as a whole too.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, TaskAdapter):  # the mask starts at 1
            init.zeros_(module.up_proj.weight)
            init.zeros_(module.up_proj.bias)
        elif isinstance(module, WavLMToxicityBackbone) and module.masked_spec_embed is not None:
            init.uniform_(module.masked_spec_embed)


class WavLMToxicityBackbone(ToxicityPreTrainedModel):
    """Waveforms to shared and per-task features."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self.feature_extractor = ToxicityFeatureEncoder(config)
        self.feature_projection = ToxicityFeatureProjection(config)
        if config.mask_time_prob > 0:
            self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        else:
            self.register_parameter("masked_spec_embed", None)
        self.encoder = ToxicityEncoder(config)
        self.post_init()

    def freeze_feature_encoder(self):
        """Keeps the convolutions as they are during training."""
        self.feature_extractor._freeze_parameters()

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.BoolTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ToxicityBackboneOutput | tuple:
        """Encodes a batch.

        Args:
            input_values: `(B, samples)` waveforms at 16 kHz, padded on the right.
            attention_mask: `(B, samples)`, 1 on samples of the clip and 0 on padding; without it every sample counts.
            mask_time_indices: `(B, T)`, True on frames to mask, instead of those that SpecAugment draws in training.
            output_attentions: return attention weights (computed the slow way).
            output_hidden_states: return every block's output.
            return_dict: return a `ToxicityBackboneOutput` (default) rather than a tuple.

        Raises:
            ValueError: if a clip is shorter than the feature encoder's receptive field, or the attention mask has
                another shape than the waveforms or holes.
        """
        lengths = None if attention_mask is None else (attention_mask != 0).sum(-1)
        self._check_lengths(input_values, attention_mask, lengths)
        hidden_states = self.feature_extractor(input_values, lengths)  # (B, T, C)
        frame_mask = None
        if lengths is not None:
            frame_mask = length_mask(self.config.num_frames(lengths), hidden_states.shape[1])
        hidden_states, extract_features = self.feature_projection(hidden_states)  # (B, T, D), (B, T, C)
        hidden_states = self._mask_time(hidden_states, frame_mask, mask_time_indices)
        encoded = self.encoder(
            hidden_states,
            frame_mask,
            self.config.output_attentions if output_attentions is None else output_attentions,
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states,
        )
        output = ToxicityBackboneOutput(extract_features=extract_features, **encoded)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _check_lengths(self, input_values, attention_mask, lengths):
        if torch.compiler.is_compiling():
            return
        if lengths is not None:
            size = input_values.shape[1]
            if attention_mask.shape != input_values.shape:
                raise ValueError(
                    f"`attention_mask` must be of shape {tuple(input_values.shape)}, as the waveforms, but is of "
                    f"{tuple(attention_mask.shape)}."
                )
            if ((attention_mask != 0) != length_mask(lengths, size)).any():
                raise ValueError("`attention_mask` must be 1 up to a clip's end and 0 after it: pad on the right.")
        shortest = input_values.shape[1] if lengths is None else int(lengths.min())
        if shortest < self.config.receptive_field:
            clip = "every clip of the batch" if lengths is None else f"clip {int(lengths.argmin())} of the batch"
            raise ValueError(
                f"{clip} has {shortest} samples, but the feature encoder needs at least "
                f"{self.config.receptive_field}: pad it or leave it out."
            )

    def _mask_time(self, hidden_states, frame_mask, spans=None):
        """SpecAugment along time (https://huggingface.co/papers/1904.08779), in training only unless frames are
        given."""
        if not self.config.apply_spec_augment or self.masked_spec_embed is None:
            return hidden_states
        if spans is None:
            if not self.training:
                return hidden_states
            spans = self._draw_spans(hidden_states, frame_mask)
        return torch.where(spans[:, :, None], self.masked_spec_embed.to(hidden_states.dtype), hidden_states)

    def _draw_spans(self, hidden_states, frame_mask):
        batch, length, _ = hidden_states.shape
        spans = _compute_mask_indices(
            (batch, length),
            mask_prob=self.config.mask_time_prob,
            mask_length=min(self.config.mask_time_length, length),
            attention_mask=frame_mask,
            min_masks=self.config.mask_time_min_masks,
        )
        return torch.as_tensor(spans, device=hidden_states.device)
