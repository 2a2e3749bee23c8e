"""Configurations of the voice-toxicity models, one class for each family of encoders; [`ToxicityMTLFields`] has what
they share."""

from huggingface_hub.dataclasses import strict
from transformers import WavLMConfig, WhisperConfig
from transformers.utils import logging

from .frames import ConvolutionFrames, MelFrames
from .multitask_config import ToxicityMTLFields


logger = logging.get_logger(__name__)

PLAIN_ENCODER = {  # what variants of wav2vec 2.0 and HuBERT have otherwise
    "adapter_attn_dim": None,  # a language adapter in each block (fine-tuned MMS)
    "conv_pos_batch_norm": False,  # a batch norm makes a clip's features depend on those beside it
    "feat_proj_layer_norm": True,
}


@strict
class WavLMToxicityMTLConfig(ConvolutionFrames, ToxicityMTLFields, WavLMConfig):
    """Fields of `WavLMConfig` (defaults: WavLM Base+), of [`ToxicityMTLFields`], and:

    Args:
        use_position_bias (`bool`, defaults to `True`):
            Gated relative position bias in the attention, as WavLM has it; without it, the encoder is that of wav2vec
            2.0, XLS-R, MMS and HuBERT.
    """

    model_type = "wavlm_toxmtl"
    checkpoint_types = ("wavlm", "wav2vec2", "hubert")

    use_position_bias: bool = True

    @classmethod
    def _encoder_fields(cls, config):
        for name, plain in PLAIN_ENCODER.items():
            if getattr(config, name, plain) != plain:
                raise ValueError(
                    f"The checkpoint's `{name}` is {getattr(config, name)}, and only encoders with {plain} are "
                    "supported."
                )
        fields = super()._encoder_fields(config)
        fields["use_position_bias"] = config.model_type == "wavlm"
        if fields.get("mask_feature_prob"):
            logger.warning("`mask_feature_prob` is set to 0: WavLM has no feature masking.")
            fields["mask_feature_prob"] = 0.0
        return fields

    def validate_backbone(self) -> None:
        """Raises ValueError for fields of WavLM's that have no meaning here."""
        if self.feat_extract_norm not in ("group", "layer"):
            raise ValueError(f"`feat_extract_norm` must be 'group' or 'layer', but is {self.feat_extract_norm!r}.")
        if self.mask_feature_prob > 0:
            raise ValueError(
                f"`mask_feature_prob` must be 0, but is {self.mask_feature_prob}: WavLM has no feature masking."
            )
        if self.add_adapter:
            raise ValueError(
                "`add_adapter` (transformers' down-sampling) is not supported; the paper's is `use_task_adapter`."
            )


OF_WHISPERS_DECODER = (  # how fields begin that say nothing of the encoder
    "decoder_",
    "max_target_positions",
    "median_filter_width",
    "suppress_tokens",
    "begin_suppress_tokens",
    "vocab_size",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "is_encoder_decoder",
    "tie_word_embeddings",
    "use_cache",
)


@strict
class WhisperToxicityMTLConfig(MelFrames, ToxicityMTLFields, WhisperConfig):
    """Fields of `WhisperConfig` that concern its encoder (defaults: Whisper tiny), of [`ToxicityMTLFields`], and:

    Args:
        final_dropout (`float`, defaults to 0.1):
            Dropout before the keyword head.
        layer_norm_eps (`float`, defaults to 1e-5):
            Of the task adapters and of information sharing.
        vocab_size (`int`, defaults to 32):
            Characters of the keyword head.
    """

    model_type = "whisper_toxmtl"
    checkpoint_types = ("whisper",)

    vocab_size: int = 32
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = None
    begin_suppress_tokens: list[int] | tuple[int, ...] | None = None
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = False
    use_cache: bool = False
    final_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5

    @classmethod
    def _encoder_fields(cls, config):
        fields = super()._encoder_fields(config)
        return {name: value for name, value in fields.items() if not name.startswith(OF_WHISPERS_DECODER)}


CONFIGURATIONS = (WavLMToxicityMTLConfig, WhisperToxicityMTLConfig)


def configuration_for(model_type: str) -> type[ToxicityMTLFields]:
    """The configuration class of the family that a checkpoint of this `model_type` belongs to.

    Raises:
        ValueError: if there is none.
    """
    for family in CONFIGURATIONS:
        if model_type in (family.model_type, *family.checkpoint_types):
            return family
    known = ", ".join(name for family in CONFIGURATIONS for name in family.checkpoint_types)
    raise ValueError(
        f"The checkpoint is of the architecture {model_type!r}, whose weights do not fit: only {known} do."
    )
