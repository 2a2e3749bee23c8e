"""WavLM that gives a clip the same features alone and in any batch, with a place for task adapters.

Design choices:
- Parameter names are those of transformers' `WavLMModel`, so its checkpoints load by name. Modules whose arithmetic is
  kept are transformers' own.
- Length-exact: group norm and attention run over each clip's valid frames, and padded frames never reach a valid one.
- Plain PyTorch on every device, and plain modules: quantisation, LoRA, hooks, FSDP, `torch.compile` and `torch.export`
  meet what they know. What hand-written code would gain, and what of it stayed (`kernels.py`): docs/backbone.md.
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.models.wavlm.modeling_wavlm import (
    WavLMEncoderLayer,
    WavLMEncoderLayerStableLayerNorm,
    WavLMFeatureProjection,
    WavLMPositionalConvEmbedding,
    WavLMPreTrainedModel,
)

from .adapters import InitializesAdapters, TaskAdapters
from .attention import GatedRelativeAttention, MaskedAttention
from .configuration_toxmtl import WavLMToxicityMTLConfig
from .feature_encoder import FeatureEncoder
from .kernels import with_fast_linears
from .outputs import BackboneOutput, check_padding, draw_spans, drops_layer, length_mask


OTHER_NAMES = {r"^wav2vec2\.": "wavlm.", r"^hubert\.": "wavlm."}  # of the encoder in a checkpoint with heads


def attention_of(
    config: WavLMToxicityMTLConfig, has_relative_position_bias: bool
) -> GatedRelativeAttention | MaskedAttention:
    """The attention of one block; of those with position bias, the first one owns its table."""
    options = {
        "embed_dim": config.hidden_size,
        "num_heads": config.num_attention_heads,
        "dropout": config.attention_dropout,
    }
    if not config.use_position_bias:
        return MaskedAttention(**options, config=config)
    attention = GatedRelativeAttention(
        **options,
        num_buckets=config.num_buckets,
        max_distance=config.max_bucket_distance,
        has_relative_position_bias=has_relative_position_bias,
    )
    attention.config = config
    return attention


class PostNormLayer(WavLMEncoderLayer):
    """Block of WavLM Base."""

    def __init__(self, config: WavLMToxicityMTLConfig, has_relative_position_bias: bool = True):
        super().__init__(config, has_relative_position_bias)
        self.attention = attention_of(config, has_relative_position_bias)

    @with_fast_linears
    def forward(
        self,
        hidden_states: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor | None, ...]:
        """Returns the block's output `(B, T, D)`, and what [`GatedRelativeAttention`] returns beside its own."""
        context, weights, position_bias = self.attention(hidden_states, frame_mask, position_bias, output_attentions)
        hidden_states = self.layer_norm(hidden_states + self.dropout(context))
        hidden_states = self.final_layer_norm(hidden_states + self.feed_forward(hidden_states))
        return hidden_states, weights, position_bias


class PreNormLayer(WavLMEncoderLayerStableLayerNorm):
    """Block of WavLM Large."""

    def __init__(self, config: WavLMToxicityMTLConfig, has_relative_position_bias: bool = True):
        super().__init__(config, has_relative_position_bias)
        self.attention = attention_of(config, has_relative_position_bias)

    @with_fast_linears
    def forward(
        self,
        hidden_states: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor | None, ...]:
        """As [`PostNormLayer`]."""
        normalised = self.layer_norm(hidden_states)
        context, weights, position_bias = self.attention(normalised, frame_mask, position_bias, output_attentions)
        hidden_states = hidden_states + self.dropout(context)
        hidden_states = hidden_states + self.feed_forward(self.final_layer_norm(hidden_states))
        return hidden_states, weights, position_bias


class MultiTaskEncoder(nn.Module):
    """Positional convolution, blocks, and the task adapters beside them."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__()
        self.config = config
        self.pos_conv_embed = WavLMPositionalConvEmbedding(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        layer_class = PreNormLayer if config.do_stable_layer_norm else PostNormLayer
        self.layers = nn.ModuleList(layer_class(config, i == 0) for i in range(config.num_hidden_layers))
        self.task_adapters = TaskAdapters(config)
        self._no_split_modules = {layer_class.__name__, *self.task_adapters._no_split_modules}

    def forward(
        self,
        hidden_states: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BackboneOutput:
        pre_norm = self.config.do_stable_layer_norm
        if frame_mask is not None:  # the positional convolution mixes frames
            hidden_states = hidden_states * frame_mask[:, :, None].to(hidden_states.dtype)
        hidden_states = hidden_states + self.pos_conv_embed(hidden_states)
        hidden_states = self.dropout(hidden_states if pre_norm else self.layer_norm(hidden_states))

        features = self.task_adapters(0, hidden_states, {}, frame_mask)
        all_hidden_states, all_attentions, position_bias = [hidden_states], [], None
        for place, layer in enumerate(self.layers, start=1):
            if place == 1 or not drops_layer(self, self.config.layerdrop):
                hidden_states, weights, position_bias = layer(
                    hidden_states, frame_mask, position_bias, output_attentions
                )
                all_attentions.append(weights)
            if pre_norm and place == len(self.layers):
                hidden_states = self.layer_norm(hidden_states)
            features = self.task_adapters(place, hidden_states, features, frame_mask)
            all_hidden_states.append(hidden_states)

        return BackboneOutput(
            last_hidden_state=hidden_states,
            task_features=features or dict.fromkeys(self.config.tasks, hidden_states),
            frame_mask=frame_mask,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
        )


class WavLMToxicityMTLPreTrainedModel(InitializesAdapters, WavLMPreTrainedModel):
    """Initialisation and checkpoint names shared by the backbone and the model with heads."""

    config_class = WavLMToxicityMTLConfig
    base_model_prefix = "wavlm"
    _supports_sdpa = True

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "WavLMBackbone":
        """As [`PreTrainedModel.from_pretrained`]; takes the encoders of wav2vec 2.0 and HuBERT by their own names
        too."""
        return super().from_pretrained(*args, **{"key_mapping": OTHER_NAMES, **kwargs})

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As [`PreTrainedModel.save_pretrained`]; under the model's own names, whatever checkpoint it started from."""
        super().save_pretrained(*args, **{"save_original_format": False, **kwargs})

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, WavLMBackbone) and module.masked_spec_embed is not None:
            init.uniform_(module.masked_spec_embed)


class WavLMBackbone(WavLMToxicityMTLPreTrainedModel):
    """Waveforms to shared and per-task features."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = WavLMFeatureProjection(config)
        if config.mask_time_prob > 0:
            self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        else:
            self.register_parameter("masked_spec_embed", None)
        self.encoder = MultiTaskEncoder(config)
        self.post_init()

    def freeze_feature_encoder(self) -> None:
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
    ) -> BackboneOutput | tuple:
        """Encodes a batch.

        Args:
            input_values: `(B, samples)` waveforms at 16 kHz, padded on the right.
            attention_mask: `(B, samples)`, 1 on samples of the clip and 0 on padding; without it every sample counts.
            mask_time_indices: `(B, T)`, True on frames to mask, instead of those that SpecAugment draws in training.
            output_attentions: return attention weights (computed the slow way).
            output_hidden_states: return every block's output.
            return_dict: return a `BackboneOutput` (default) rather than a tuple.

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
        output = BackboneOutput(extract_features=extract_features, **encoded)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _check_lengths(self, input_values, attention_mask, lengths):
        if torch.compiler.is_compiling():
            return
        if lengths is not None:
            check_padding(attention_mask, input_values.shape, "waveforms")
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
            spans = draw_spans(
                hidden_states.shape[:2],
                self.config.mask_time_prob,
                self.config.mask_time_length,
                self.config.mask_time_min_masks,
                hidden_states.device,
                frame_mask,
            )
        return torch.where(spans[:, :, None], self.masked_spec_embed.to(hidden_states.dtype), hidden_states)
