"""The package's names, and the registration of its classes with transformers' Auto classes and pipelines."""

from transformers import (
    AudioClassificationPipeline,
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_toxmtl import CONFIGURATIONS, WavLMToxicityMTLConfig, WhisperToxicityMTLConfig
from .heads import ToxicityMTLOutput
from .hub import PIPELINE_TASK
from .keywords import KeywordEntry, KeywordList
from .labels import LABELS
from .modeling_toxmtl import WavLMForToxicityMTL, WhisperForToxicityMTL
from .pipeline_toxmtl import ToxicityDetectionPipeline
from .processing_toxmtl import ToxicityMTLProcessor
from .wavlm import WavLMBackbone
from .whisper import WhisperBackbone


__all__ = [
    "LABELS",
    "KeywordEntry",
    "KeywordList",
    "ToxicityDetectionPipeline",
    "ToxicityMTLOutput",
    "ToxicityMTLProcessor",
    "WavLMForToxicityMTL",
    "WavLMBackbone",
    "WavLMToxicityMTLConfig",
    "WhisperBackbone",
    "WhisperForToxicityMTL",
    "WhisperToxicityMTLConfig",
]


class _AudioClassification(AudioClassificationPipeline):
    """What `pipeline("audio-classification")` builds: our pipeline for our models, and transformers' for all others.

    transformers knows one class for a task, and asks it what to load before it knows the model: hence processor and
    feature extractor are tried (None), and may be missing.
    """

    _load_processor = None
    _load_feature_extractor = None

    def __new__(cls, model, processor=None, feature_extractor=None, **kwargs):
        if model.config.model_type in {config.model_type for config in CONFIGURATIONS}:
            return ToxicityDetectionPipeline(model, processor, feature_extractor, **kwargs)
        if feature_extractor is None:
            raise ValueError(
                "The pipeline needs the model's feature extractor, but has none: pass `feature_extractor=`. (For a "
                "model folder, `AutoFeatureExtractor.from_pretrained(folder)` says why it could not be loaded.)"
            )
        return AudioClassificationPipeline(model=model, feature_extractor=feature_extractor, **kwargs)


for _config, _backbone, _model in (
    (WavLMToxicityMTLConfig, WavLMBackbone, WavLMForToxicityMTL),
    (WhisperToxicityMTLConfig, WhisperBackbone, WhisperForToxicityMTL),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _backbone)
    AutoModelForAudioClassification.register(_config, _model)
    AutoProcessor.register(_config, ToxicityMTLProcessor)
ToxicityMTLProcessor.register_for_auto_class()  # its code travels with it; the configuration brings the model's
PIPELINE_REGISTRY.supported_tasks[PIPELINE_TASK] = {
    **PIPELINE_REGISTRY.supported_tasks[PIPELINE_TASK],
    "impl": _AudioClassification,
}
