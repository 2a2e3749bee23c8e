"""WavLM that gives a clip the same features alone and in any batch, with fast attention and a place for task adapters.

Design choices:
- Parameter names are those of transformers' `WavLMModel`, so its checkpoints load by name. Modules whose arithmetic is
  kept are transformers' own.
- Length-exact: transformers normalises the first convolution of WavLM Base over the padded length, so its features of
  a clip depend on the clips beside it. Here mean and variance run over the valid frames alone, and padded frames never
  reach a valid one.
- The relative position bias depends on the distance alone: it is looked up once per forward for the 2T-1 distances and
  laid out as a Toeplitz matrix, which every layer gates in its own way. Nothing is repeated per batch element except
  the gated bias itself.
- `attn_implementation`: `"sdpa"` (default) or `"eager"`, which alone can return attention weights (per head, unlike
  transformers').
- Task adapters (paper, section 3.3.2) start as the identity: a fresh adapter changes nothing.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.models.wavlm.modeling_wavlm import (
    WavLMAttention,
    WavLMEncoderLayer,
    WavLMEncoderLayerStableLayerNorm,
    WavLMFeatureEncoder,
    WavLMFeatureProjection,
    WavLMGroupNormConvLayer,
    WavLMLayerNormConvLayer,
    WavLMNoLayerNormConvLayer,
    WavLMPositionalConvEmbedding,
    WavLMPreTrainedModel,
    _compute_mask_indices,
)
from transformers.utils import ModelOutput

from .configuration_toxmtl import WavLMToxicityMTLConfig


@dataclass
class ToxicityBackboneOutput(ModelOutput):
    """Output of `WavLMToxicityBackbone`; B clips, T frames, H heads, D hidden size.

    Args:
        last_hidden_state: `(B, T, D)`, the shared features; zero after a clip's last frame is not promised, only that
        valid frames never depend on it.
        task_features: for each task, `(B, T, D)`: the last adapted features, or the shared ones where there is no
        adapter.
        frame_mask: `(B, T)` bool, True on valid frames.
        hidden_states: with `output_hidden_states=True`, the encoder's input and each block's output, `(B, T, D)` each.
        attentions: with `output_attentions=True`, the attention weights of each block, `(B, H, T, T)` each.
    """

    last_hidden_state: torch.FloatTensor | None = None
    task_features: dict[str, torch.FloatTensor] | None = None
    frame_mask: torch.BoolTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """`(B, size)` bool mask, True before each of the `(B,)` lengths."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def masked_group_norm(hidden_states: torch.Tensor, norm: nn.GroupNorm, mask: torch.Tensor) -> torch.Tensor:
    """Normalises each channel over its valid frames alone (one group per channel, as WavLM Base has it).

    Args:
        hidden_states: `(B, C, T)`.
        norm: the layer whose affine parameters and epsilon are used.
        mask: `(B, T)` bool, True on valid frames.

    Returns:
        `(B, C, T)`; statistics are computed in float32.
    """
    x = hidden_states.float()
    mask = mask[:, None, :].to(x.dtype)  # (B, 1, T)
    count = mask.sum(-1, keepdim=True)
    mean = (x * mask).sum(-1, keepdim=True) / count  # (B, C, 1)
    centred = x - mean
    variance = (centred.square() * mask).sum(-1, keepdim=True) / count
    x = centred * torch.rsqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
    return x.to(hidden_states.dtype)


class ToxicityGroupNormConvLayer(WavLMGroupNormConvLayer):
    """First convolution of WavLM Base, normalised over each clip's own length."""

    def forward(self, hidden_states, lengths=None):
        hidden_states = self.conv(hidden_states)
        if lengths is None:
            hidden_states = self.layer_norm(hidden_states)
        else:
            frames = (lengths - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
            hidden_states = masked_group_norm(
                hidden_states, self.layer_norm, length_mask(frames, hidden_states.shape[-1])
            )
        return self.activation(hidden_states)


class ToxicityFeatureEncoder(WavLMFeatureEncoder):
    """Waveform `(B, samples)` to frames `(B, C, T)`. Only the group norm mixes frames; the convolutions have no
    padding of their own."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        nn.Module.__init__(self)
        num_layers = len(config.conv_dim)
        if config.feat_extract_norm == "group":
            rest = [WavLMNoLayerNormConvLayer(config, layer_id=i) for i in range(1, num_layers)]
            layers = [ToxicityGroupNormConvLayer(config, layer_id=0), *rest]
        else:
            layers = [WavLMLayerNormConvLayer(config, layer_id=i) for i in range(num_layers)]
        self.conv_layers = nn.ModuleList(layers)
        self.gradient_checkpointing = False
        self._requires_grad = True

    def forward(self, input_values, lengths=None):
        hidden_states = input_values[:, None]
        if self.gradient_checkpointing and self.training and self._requires_grad:
            # reentrant checkpointing gives no gradient to a block whose input has none
            hidden_states.requires_grad = True
        for layer in self.conv_layers:
            hidden_states = (
                layer(hidden_states, lengths)
                if isinstance(layer, ToxicityGroupNormConvLayer)
                else layer(hidden_states)
            )
        return hidden_states


class ToxicityAttention(WavLMAttention):
    """WavLM's gated relative attention on `(B, T, D)`."""

    def forward(self, hidden_states, attention_mask=None, position_bias=None, output_attentions=False, **kwargs):
        query, key, value = (
            self._split_heads(projection(hidden_states)) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, d) each
        bias = self.gate(hidden_states) * position_bias  # (B, H, T, 1) * (1, H, T, T)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask[:, None, None, :], -torch.inf)
        bias = bias.to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        if output_attentions or self.config._attn_implementation == "eager":
            weights = torch.softmax(query @ key.transpose(-1, -2) * self.scaling + bias, dim=-1)
            context = F.dropout(weights, dropout, self.training) @ value
        else:
            weights = None
            context = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=self.scaling)
        context = context.transpose(1, 2).flatten(2)  # (B, T, D)
        return self.out_proj(context), weights

    def _split_heads(self, hidden_states):
        return hidden_states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def gate(self, hidden_states):
        """How strongly each query of each head weighs distance, `(B, H, T, 1)`."""
        projected = self.gru_rel_pos_linear(self._split_heads(hidden_states))  # (B, H, T, 8)
        gates = torch.sigmoid(projected.unflatten(-1, (2, 4)).sum(-1))  # (B, H, T, 2)
        gate_a, gate_b = gates.chunk(2, dim=-1)
        return gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0

    def position_bias(self, length: int) -> torch.Tensor:
        """Bias of every head for every pair of frames, `(1, H, T, T)`; only the first block owns the table."""
        distances = torch.arange(length - 1, -length, -1, device=self.rel_attn_embed.weight.device)
        values = self.rel_attn_embed(self._relative_positions_bucket(distances)).T  # (H, 2T-1), from T-1 down to 1-T
        windows = values.unfold(-1, length, 1)  # (H, T, T): windows[i, j] = distance T-1-i-j
        return windows.flip(-1)[None]  # [q, j] = distance j - q


class _ToxicityLayerMixin:
    """Puts our attention into transformers' encoder layers; `pre_norm` is WavLM Large's order."""

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


class ToxicityEncoderLayer(_ToxicityLayerMixin, WavLMEncoderLayer):
    """Post-norm block (WavLM Base)."""

    def forward(self, hidden_states, attention_mask=None, position_bias=None, output_attentions=False):
        context, weights = self.attention(hidden_states, attention_mask, position_bias, output_attentions)
        hidden_states = self.layer_norm(hidden_states + self.dropout(context))
        hidden_states = self.final_layer_norm(hidden_states + self.feed_forward(hidden_states))
        return hidden_states, weights


class ToxicityEncoderLayerStableLayerNorm(_ToxicityLayerMixin, WavLMEncoderLayerStableLayerNorm):
    """Pre-norm block (WavLM Large)."""

    def forward(self, hidden_states, attention_mask=None, position_bias=None, output_attentions=False):
        context, weights = self.attention(
            self.layer_norm(hidden_states), attention_mask, position_bias, output_attentions
        )
        hidden_states = hidden_states + self.dropout(context)
        hidden_states = hidden_states + self.feed_forward(self.final_layer_norm(hidden_states))
        return hidden_states, weights


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
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)
        self.down_proj = nn.Linear(size, config.task_adapter_bottleneck_size)
        self.up_proj = nn.Linear(config.task_adapter_bottleneck_size, size)

    def forward(self, shared, previous=None, frame_mask=None):
        """`shared` and `previous` (this task's features one place below, if any) are `(B, T, D)`, as is the result."""
        hidden_states = self.layer_norm(shared if previous is None else shared + previous)
        if frame_mask is not None:  # as a clip alone sees it: zeros beyond its end
            hidden_states = hidden_states * frame_mask[:, :, None].to(hidden_states.dtype)
        hidden_states = F.gelu(self.conv(hidden_states.transpose(1, 2)).transpose(1, 2))
        hidden_states = hidden_states + self._attend(hidden_states, frame_mask)
        mask = 2 * torch.sigmoid(self.up_proj(F.gelu(self.down_proj(hidden_states))))
        return shared * mask

    def _attend(self, hidden_states, frame_mask):
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        key_mask = None if frame_mask is None else frame_mask[:, None, None, :]
        context = F.scaled_dot_product_attention(query, key, value, key_mask)
        return self.out_proj(context.transpose(1, 2).flatten(2))


class ToxicityEncoder(nn.Module):
    """Positional convolution, blocks, and the task adapters beside them."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__()
        self.config = config
        self.pos_conv_embed = WavLMPositionalConvEmbedding(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
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

        position_bias = self.layers[0].attention.position_bias(hidden_states.shape[1])
        features = self._adapt(0, hidden_states, {}, frame_mask)
        all_hidden_states, all_attentions = [hidden_states], []
        for place, layer in enumerate(self.layers, start=1):
            # LayerDrop (https://huggingface.co/papers/1909.11556)
            dropped = (
                self.training and place > 1 and self.config.layerdrop > 0 and torch.rand([]) < self.config.layerdrop
            )
            if not dropped:
                hidden_states, weights = layer(hidden_states, frame_mask, position_bias, output_attentions)
                all_attentions.append(weights)
            if pre_norm and place == len(self.layers):
                hidden_states = self.layer_norm(hidden_states)
            features = self._adapt(place, hidden_states, features, frame_mask)
            all_hidden_states.append(hidden_states)

        return ToxicityBackboneOutput(
            last_hidden_state=hidden_states,
            task_features=features or dict.fromkeys(self.config.tasks, hidden_states),
            frame_mask=frame_mask,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
        )

    def _adapt(self, place, shared, previous, frame_mask):
        return {
            task: adapters[place](shared, previous.get(task), frame_mask)
            for task, adapters in self.task_adapters.items()
        }


class ToxicityPreTrainedModel(WavLMPreTrainedModel):
    """Initialisation and checkpoint names shared by the backbone and the model with heads."""

    config_class = WavLMToxicityMTLConfig
    base_model_prefix = "wavlm"
    _supports_sdpa = True
    _no_split_modules = ["ToxicityEncoderLayer", "ToxicityEncoderLayerStableLayerNorm", "TaskAdapter"]

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
        self.feature_projection = WavLMFeatureProjection(config)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> ToxicityBackboneOutput:
        """Encodes a batch.

        Args:
            input_values: `(B, samples)` waveforms at 16 kHz, padded on the right.
            attention_mask: `(B, samples)`, 1 on samples of the clip and 0 on padding; without it every sample counts.
            output_attentions: return attention weights (computed the slow way).
            output_hidden_states: return every block's output.

        Raises:
            ValueError: if a clip is shorter than the feature encoder's receptive field.
        """
        lengths = None if attention_mask is None else attention_mask.sum(-1)
        self._check_lengths(input_values, lengths)
        hidden_states = self.feature_extractor(input_values, lengths).transpose(1, 2)  # (B, T, C)
        frame_mask = None
        if lengths is not None:
            frame_mask = length_mask(self.config.num_frames(lengths), hidden_states.shape[1])
        hidden_states, _ = self.feature_projection(hidden_states)  # (B, T, D)
        hidden_states = self._mask_time(hidden_states, frame_mask)
        return self.encoder(
            hidden_states,
            frame_mask,
            self.config.output_attentions if output_attentions is None else output_attentions,
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states,
        )

    def _check_lengths(self, input_values, lengths):
        if torch.compiler.is_compiling():
            return
        shortest = input_values.shape[1] if lengths is None else int(lengths.min())
        if shortest < self.config.receptive_field:
            clip = "every clip of the batch" if lengths is None else f"clip {int(lengths.argmin())} of the batch"
            raise ValueError(
                f"{clip} has {shortest} samples, but the feature encoder needs at least "
                f"{self.config.receptive_field}: pad it or leave it out."
            )

    def _mask_time(self, hidden_states, frame_mask):
        """SpecAugment along time (https://huggingface.co/papers/1904.08779), in training only."""
        if not (self.training and self.config.apply_spec_augment and self.masked_spec_embed is not None):
            return hidden_states
        batch, length, _ = hidden_states.shape
        spans = _compute_mask_indices(
            (batch, length),
            mask_prob=self.config.mask_time_prob,
            mask_length=min(self.config.mask_time_length, length),
            attention_mask=frame_mask,
            min_masks=self.config.mask_time_min_masks,
        )
        spans = torch.as_tensor(spans, device=hidden_states.device)[:, :, None]
        return torch.where(spans, self.masked_spec_embed.to(hidden_states.dtype), hidden_states)
