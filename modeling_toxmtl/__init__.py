"""Voice toxicity detection with multi-task learning (Nandwana et al., 2024)."""

from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoProcessor

from .backbone_toxmtl import WavLMToxicityBackbone
from .configuration_toxmtl import WavLMToxicityMTLConfig
from .keywords import KeywordEntry, KeywordList
from .labels import LABELS
from .modeling_toxmtl import ToxicityMTLOutput, WavLMForToxicityMTL
from .pipeline_toxmtl import ToxicityDetectionPipeline
from .processing_toxmtl import ToxicityMTLProcessor


__all__ = [
    "LABELS",
    "KeywordEntry",
    "KeywordList",
    "ToxicityDetectionPipeline",
    "ToxicityMTLOutput",
    "ToxicityMTLProcessor",
    "WavLMForToxicityMTL",
    "WavLMToxicityBackbone",
    "WavLMToxicityMTLConfig",
]

AutoConfig.register("wavlm_toxmtl", WavLMToxicityMTLConfig)
AutoModel.register(WavLMToxicityMTLConfig, WavLMToxicityBackbone)
AutoModelForAudioClassification.register(WavLMToxicityMTLConfig, WavLMForToxicityMTL)
AutoProcessor.register(WavLMToxicityMTLConfig, ToxicityMTLProcessor)
