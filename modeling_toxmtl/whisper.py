"""Whisper's encoder on clips of any length up to 30 s, with a place for task adapters.

Design choices:
- Parameter names are those of transformers' `WhisperModel`, so every `openai/whisper-*` checkpoint loads by name; the
  decoder's weights are left out. Blocks and convolutions are transformers' own.
- Length-exact: transformers pads every clip to 30 s and hears the padding. Here the positions are cut to the batch's
  length, and what lies beyond a clip's end is zero to the convolutions, as for the clip alone, and hidden from the
  attention. A clip that fills 30 s gets transformers' features.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.whisper.modeling_whisper import (
    WhisperEncoder,
    WhisperEncoderLayer,
    WhisperPreTrainedModel,
)

from .adapters import InitializesAdapters, TaskAdapters
from .configuration_toxmtl import WhisperToxicityMTLConfig
from .kernels import with_fast_linears
from .outputs import BackboneOutput, attention_bias, check_padding, draw_spans, drops_layer, length_mask


class WhisperBlock(WhisperEncoderLayer):
    """transformers' block; its linear layers are oneDNN's where that is faster."""

    forward = with_fast_linears(WhisperEncoderLayer.forward)


class WhisperToxicityMTLPreTrainedModel(InitializesAdapters, WhisperPreTrainedModel):
    """Initialisation and checkpoint names shared by the encoder, the backbone and the model with heads."""

    config_class = WhisperToxicityMTLConfig
    base_model_prefix = "model"
    input_modalities = ("audio",)
    _no_split_modules = ["WhisperBlock"]
    _keys_to_ignore_on_load_unexpected = [r"(^|\.)decoder\.", r"^proj_out\."]
    _supports_flash_attn = False


class WhisperToxicityEncoder(WhisperToxicityMTLPreTrainedModel, WhisperEncoder):
    """Convolutions, blocks, and the task adapters beside them."""

    def __init__(self, config: WhisperToxicityMTLConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(WhisperBlock(config) for _ in range(config.encoder_layers))
        self.task_adapters = TaskAdapters(config)
        self.post_init()

    def forward(
        self,
        input_features: torch.Tensor,
        mel_mask: torch.Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BackboneOutput:
        """As of [`WhisperBackbone`]; `mel_mask` is `(B, mel frames)` bool."""
        hidden_states = self._convolve(input_features, mel_mask)  # (B, T, D)
        frame_mask = None
        if mel_mask is not None:  # a frame is there if the first of its two mel frames is
            frame_mask = length_mask((mel_mask.sum(-1) + 1) // 2, hidden_states.shape[1])
        hidden_states = hidden_states + self.embed_positions.weight[: hidden_states.shape[1]]
        hidden_states = F.dropout(hidden_states, self.dropout, self.training)
        bias = None if frame_mask is None else attention_bias(frame_mask, hidden_states.dtype)
        features = self.task_adapters(0, hidden_states, {}, frame_mask)
        all_hidden_states, attentions = [hidden_states], []
        hooks = [layer.self_attn.register_forward_hook(lambda *call: attentions.append(call[2][1]))
                 for layer in self.layers if output_attentions]  # fmt: skip
        for place, layer in enumerate(self.layers, start=1):
            if place == 1 or not drops_layer(self, self.layerdrop):
                hidden_states = layer(hidden_states, bias)
            if place == len(self.layers):
                hidden_states = self.layer_norm(hidden_states)
            features = self.task_adapters(place, hidden_states, features, frame_mask)
            all_hidden_states.append(hidden_states)
        for hook in hooks:
            hook.remove()
        return BackboneOutput(
            last_hidden_state=hidden_states,
            task_features=features or dict.fromkeys(self.config.tasks, hidden_states),
            frame_mask=frame_mask,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _convolve(self, mel, mel_mask):
        """`(B, mel bins, mel frames)` to `(B, T, D)`, as each clip alone has it."""
        if mel_mask is not None:
            padding = ~mel_mask[:, None]
            mel = mel.masked_fill(padding, 0.0)
        hidden_states = F.gelu(self.conv1(mel))
        if mel_mask is not None:
            hidden_states = hidden_states.masked_fill(padding, 0.0)
        return F.gelu(self.conv2(hidden_states)).mT


class WhisperBackbone(WhisperToxicityMTLPreTrainedModel):
    """Log-mel features to shared and per-task features."""

    def __init__(self, config: WhisperToxicityMTLConfig) -> None:
        super().__init__(config)
        self.encoder = WhisperToxicityEncoder(config)
        self.post_init()

    def freeze_feature_encoder(self) -> None:
        """Keeps the convolutions as they are during training."""
        for convolution in (self.encoder.conv1, self.encoder.conv2):
            convolution.requires_grad_(False)

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple:
        """Encodes a batch of B clips; T is half of their mel frames, rounded up.

        Args:
            input_features: `(B, mel bins, mel frames)`, padded on the right.
            attention_mask: `(B, mel frames)`, 1 on frames of the clip and 0 on padding; without it every frame counts.
            output_attentions: return attention weights; needs `attn_implementation="eager"`.
            output_hidden_states: return every block's output.
            return_dict: return a `BackboneOutput` (default) rather than a tuple.

        Raises:
            ValueError: if a clip is empty or longer than the positions reach (30 s), the features have another number
                of mel bins than the model, the attention mask has another shape than the features or holes, or
                attention weights are asked of another implementation than "eager".
        """
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        self._check(input_features, attention_mask, output_attentions)
        encoded = self.encoder(
            self._mask_features(input_features, attention_mask),
            None if attention_mask is None else attention_mask != 0,
            output_attentions,
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states,
        )
        return encoded if (self.config.return_dict if return_dict is None else return_dict) else encoded.to_tuple()

    def _check(self, input_features, attention_mask, output_attentions):
        if output_attentions and self.config._attn_implementation != "eager":
            raise ValueError(
                'Attention weights need `attn_implementation="eager"`, but the model was loaded with '
                f"{self.config._attn_implementation!r}."
            )
        if torch.compiler.is_compiling():
            return
        batch, num_bins, length = input_features.shape
        if num_bins != self.config.num_mel_bins:
            raise ValueError(
                f"`input_features` must be of shape ({batch}, {self.config.num_mel_bins}, mel frames), but is of "
                f"{tuple(input_features.shape)}."
            )
        longest = 2 * self.config.max_source_positions
        if length > longest:
            raise ValueError(
                f"The clips have {length} mel frames, but the encoder has positions for {longest} "
                f"({longest / 100:g} s): cut them into shorter windows."
            )
        if attention_mask is None:
            return
        check_padding(attention_mask, (batch, length), "features' frames")
        lengths = (attention_mask != 0).sum(-1)
        if not lengths.all():
            raise ValueError(f"clip {int(lengths.argmin())} of the batch has no frame: leave it out.")

    def _mask_features(self, input_features, attention_mask):
        """SpecAugment as Whisper has it (https://huggingface.co/papers/1904.08779), in training only: zeros on spans
        of mel frames and of mel bins. transformers writes them into the caller's features, and refuses clips shorter
        than a span."""
        config = self.config
        if not self.training or not config.apply_spec_augment:
            return input_features
        batch, num_bins, length = input_features.shape
        if config.mask_time_prob > 0:
            spans = draw_spans(
                (batch, length),
                config.mask_time_prob,
                config.mask_time_length,
                config.mask_time_min_masks,
                input_features.device,
                attention_mask,
            )
            input_features = input_features.masked_fill(spans[:, None, :], 0.0)
        if config.mask_feature_prob > 0:
            spans = draw_spans(
                (batch, num_bins),
                config.mask_feature_prob,
                config.mask_feature_length,
                config.mask_feature_min_masks,
                input_features.device,
            )
            input_features = input_features.masked_fill(spans[:, :, None], 0.0)
        return input_features
