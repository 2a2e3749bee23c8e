"""What a model folder says of its own code, so that it loads with `trust_remote_code=True` where this package is not
installed.

The code travels as flat files beside the weights. transformers finds the classes through `auto_map`, the pipeline
through `custom_pipelines`, and each file's companions through its relative imports.
"""

import shutil
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files


# by the `model_type` of a family
CONFIGURATIONS = {
    "wavlm_toxmtl": "configuration_toxmtl.WavLMToxicityMTLConfig",
    "whisper_toxmtl": "configuration_toxmtl.WhisperToxicityMTLConfig",
}
BACKBONES = {"wavlm_toxmtl": "wavlm.WavLMBackbone", "whisper_toxmtl": "whisper.WhisperBackbone"}
MODELS = {
    "wavlm_toxmtl": "modeling_toxmtl.WavLMForToxicityMTL",
    "whisper_toxmtl": "modeling_toxmtl.WhisperForToxicityMTL",
}
PROCESSOR = "processing_toxmtl.ToxicityMTLProcessor"
PIPELINE_TASK = "audio-classification"
PIPELINE = "pipeline_toxmtl.ToxicityDetectionPipeline"
RUNTIME = "runtime.ToxicityRuntime"  # which an exported folder is run by
# Arguments of `from_pretrained` that say where a file is, and not what to make of it
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def code_files() -> list[Path]:
    """The files of this folder that a model needs: those of the classes above, and what they import."""
    folder = Path(__file__).parent
    references = (*CONFIGURATIONS.values(), *BACKBONES.values(), *MODELS.values(), PROCESSOR, PIPELINE, RUNTIME)
    entries = {folder / f"{reference.split('.')[0]}.py" for reference in references}
    entries = {entry for entry in entries if entry.exists()}  # a copy from the Hub holds only what was asked for
    return sorted(entries | {Path(file) for entry in entries for file in get_relative_import_files(entry)})


def write_code(folder: str | Path, model_type: str) -> dict[str, dict]:
    """Copies the code into a model folder; returns the `auto_map` and `custom_pipelines` that lead to it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for file in code_files():
        shutil.copyfile(file, Path(folder, file.name))

    def is_there(target: str) -> bool:
        return Path(folder, f"{target.split('.')[0]}.py").exists()

    auto_map = {
        "AutoConfig": CONFIGURATIONS[model_type],
        "AutoModel": BACKBONES[model_type],
        "AutoModelForAudioClassification": MODELS[model_type],
        "AutoProcessor": PROCESSOR,
    }
    pipelines = {PIPELINE_TASK: {"impl": PIPELINE, "pt": ["AutoModelForAudioClassification"]}}
    return {
        "auto_map": {name: target for name, target in auto_map.items() if is_there(target)},
        "custom_pipelines": pipelines if is_there(PIPELINE) else {},
    }
