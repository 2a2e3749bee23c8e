"""Models of transformers that stages use: whether they can be had, and in which version.

A stage asks before the first one begins: what is missing is said at once, and not after the hours that stages take.
"""

import functools
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, PreTrainedConfig
from transformers.models.whisper.tokenization_whisper import LANGUAGES
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    has_file,
)

from ..io.files import content_hash, file_hash
from ..labels import LABELS


WHISPER_LANGUAGES = tuple(sorted(LANGUAGES))  # codes
WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)


def find_model(option: str, name_or_path: str, revision: str | None, *preprocessors: Any) -> PreTrainedConfig:
    """The configuration of a model that can be loaded, as far as that is seen without loading its weights.

    Args:
        option: that names the model, for the message.
        name_or_path: Hub id or folder.
        revision: branch, tag or commit of a Hub model.
        preprocessors: classes of transformers that must load too, such as `AutoTokenizer`.

    Raises:
        ValueError: if it cannot be had; the message is one line.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
        for preprocessor in preprocessors:
            preprocessor.from_pretrained(name_or_path, revision=revision)
        has_weights = any(has_file(name_or_path, file, revision=revision) for file in WEIGHTS)
    except (OSError, ValueError) as error:
        is_folder = Path(name_or_path).is_dir()
        cause = str(error).splitlines()[0] if is_folder else "no such folder, nor a model that the Hub gives us"
        raise ValueError(f"{option} {name_or_path}: {cause}") from error
    if not has_weights:
        raise ValueError(f"{option} {name_or_path}: none of {', '.join(WEIGHTS)} is there.")
    return config


def find_recognizer(name_or_path: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a Whisper model that can be loaded, or of a CTC model that hears waveforms, as wav2vec 2.0
    does. Raises ValueError if it is neither or not there."""
    config = find_model("--asr-model", name_or_path, revision, AutoTokenizer, AutoFeatureExtractor)
    if config.model_type == "whisper":
        return config
    if not any(name.endswith("ForCTC") for name in config.architectures or ()):
        raise ValueError(f"--asr-model {name_or_path} is {config.architectures}: give a Whisper or CTC model.")
    if not hasattr(config, "conv_stride"):  # of convolutions over samples, which say how many frames a clip has
        raise ValueError(
            f"--asr-model {name_or_path} is {config.model_type}, which hears features: give a Whisper model, or a CTC "
            "model that hears waveforms (wav2vec 2.0, HuBERT, WavLM)."
        )
    return config


def find_text_classifier(
    name_or_path: str, revision: str | None, mapping: dict[str, str | None] | None
) -> list[str | None]:
    """Our labels for the outputs of a text classifier that can be loaded, in their order; None for an output that
    says nothing of them.

    Args:
        name_or_path: Hub id or folder.
        revision: branch, tag or commit of a Hub model.
        mapping: from its labels to ours; None if they are named alike.

    Raises:
        ValueError: if it is not there, its outputs are no probabilities, or the mapping lacks one of its labels or has
            one that is not ours.
    """
    config = find_model("--text-classifier", name_or_path, revision, AutoTokenizer)
    if config.problem_type == "regression":
        raise ValueError(
            f"--text-classifier {name_or_path} is a regression, which gives no probabilities: train it "
            "for classification (`problem_type`)."
        )
    names = [config.id2label[index] for index in range(config.num_labels)]
    mapping = {name: name for name in names} if mapping is None else mapping
    if missing := sorted(set(names) - set(mapping)):
        raise ValueError(f"--label-mapping lacks the classifier's labels {missing}: map them to ours, or to null.")
    targets = [mapping[name] for name in names]
    if unknown := sorted({target for target in targets if target and target not in LABELS}):
        raise ValueError(f"--label-mapping: unknown labels {unknown}: choose from {LABELS}, or null.")
    return targets


@functools.cache
def model_version(name_or_path: str, revision: str | None = None) -> str:
    """Which model is used, as name@version: the commit of a Hub model, a hash of the files of a folder."""
    folder = Path(name_or_path)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        return f"{folder.resolve().name}@{content_hash([[path.name, file_hash(path)] for path in files])}"
    commit = getattr(AutoConfig.from_pretrained(name_or_path, revision=revision), "_commit_hash", None)
    return f"{name_or_path}@{commit or revision or 'main'}"
