"""The multi-task voice-toxicity models: one encoder, two heads (paper, section 3.3).

One class for each family of encoders serves the five systems of the paper; the configuration's flags choose.
"""

import torch

from .configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig
from .heads import ToxicityHeads, ToxicityMTLOutput
from .wavlm import WavLMBackbone, WavLMToxicityMTLPreTrainedModel
from .whisper import WhisperBackbone, WhisperToxicityMTLPreTrainedModel


class WavLMForToxicityMTL(ToxicityHeads, WavLMToxicityMTLPreTrainedModel):
    """WavLM with a multi-label toxicity classifier and a keyword transcriber, either or both."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self.wavlm = WavLMBackbone(config)
        self._add_heads(config)
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        keyword_labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ToxicityMTLOutput | tuple:
        """Classifies and transcribes a batch.

        Args:
            input_values: `(B, samples)` waveforms at 16 kHz, padded on the right.
            attention_mask: `(B, samples)`, 1 on samples of the clip and 0 on padding; without it every sample counts.
            labels: `(B, L)` multi-hot, or -100 for an example without labels; ignored by a keyword-only model.
            keyword_labels: `(B, S)` character ids padded with -100, see [`keyword_loss`]; ignored by a
                classification-only model.
            output_attentions: return attention weights (computed the slow way).
            output_hidden_states: return every block's output.
            return_dict: return a `ToxicityMTLOutput` (default) rather than a tuple.

        Raises:
            ValueError: if a clip is shorter than the receptive field, `labels` has another shape than the logits, or
                `keyword_labels` has another shape or holds an id that is no character.
        """
        return self._judge(
            input_values,
            attention_mask,
            labels,
            keyword_labels,
            output_attentions,
            output_hidden_states,
            return_dict,
        )


class WhisperForToxicityMTL(ToxicityHeads, WhisperToxicityMTLPreTrainedModel):
    """Whisper's encoder with a multi-label toxicity classifier and a keyword transcriber, either or both."""

    def __init__(self, config: WhisperToxicityMTLConfig):
        super().__init__(config)
        self.model = WhisperBackbone(config)
        self._add_heads(config)
        self.post_init()

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        keyword_labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ToxicityMTLOutput | tuple:
        """Classifies and transcribes a batch.

        Args:
            input_features: `(B, mel bins, mel frames)` log-mel features, padded on the right.
            attention_mask: `(B, mel frames)`, 1 on frames of the clip and 0 on padding; without it every frame counts.
            labels: `(B, L)` multi-hot, or -100 for an example without labels; ignored by a keyword-only model.
            keyword_labels: `(B, S)` character ids padded with -100, see [`keyword_loss`]; ignored by a
                classification-only model.
            output_attentions: return attention weights; needs `attn_implementation="eager"`.
            output_hidden_states: return every block's output.
            return_dict: return a `ToxicityMTLOutput` (default) rather than a tuple.

        Raises:
            ValueError: if the clips are longer than 30 s, `labels` has another shape than the logits, or
                `keyword_labels` has another shape or holds an id that is no character.
        """
        return self._judge(
            input_features,
            attention_mask,
            labels,
            keyword_labels,
            output_attentions,
            output_hidden_states,
            return_dict,
        )
