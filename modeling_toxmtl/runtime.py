"""An exported model, run without PyTorch and transformers: numpy, PyAV, and ONNX Runtime or OpenVINO.

    from modeling_toxmtl.runtime import ToxicityRuntime

    moderate = ToxicityRuntime.from_pretrained("exported")  # made by `toxmtl export MODEL exported --to onnx`
    moderate("clip.ogg", return_keywords=True)

Verdicts are those of `pipeline("audio-classification")`: reading, windows, keywords and decisions are the same code
(`judging.py`). The windows of a batch go through the graph one by one: on a CPU a batch costs what its clips do, and
in int8, where inputs are rounded by the largest, no clip's scores depend on another's.

A folder that was exported carries this file and its companions, so that where the package is not installed
`from exported.runtime import ToxicityRuntime` works too.
"""

import json
import os
import sys
from collections.abc import Sequence
from hashlib import sha256
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from .alphabet import Alphabet
from .decoding import DecodingSettings
from .features import log_mel, normalize
from .frames import MEL_HOP, ConvolutionFrames, MelFrames
from .judging import Judging, is_stream
from .keyword_reader import KeywordReader
from .keywords import KeywordList
from .labels import Thresholds
from .listening import Window


EXPORT_FILE = "export.json"  # what an export says of itself
PRECISION = "inference_precision"  # the entry of an OpenVINO graph that says what it is to be computed in
MODEL_FILES = {"onnx": "model.onnx", "openvino": "model.xml"}


class ExportedConfig(Thresholds, SimpleNamespace):
    """The fields of a `config.json`."""

    def __init__(self, **fields: Any):
        labels = {int(index): label for index, label in fields["id2label"].items()}
        labels = dict(sorted(labels.items()))
        fields |= {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
        super().__init__(**{"label_thresholds": None, "keyword_evidence": None, **fields})


class ExportedWavLMConfig(ConvolutionFrames, ExportedConfig):
    """Of a model that hears waveforms."""


class ExportedWhisperConfig(MelFrames, ExportedConfig):
    """Of a model that hears log-mel features."""


CONFIGURATIONS = {"wavlm_toxmtl": ExportedWavLMConfig, "whisper_toxmtl": ExportedWhisperConfig}


class ExportedProcessor(KeywordReader):
    """What the files of a processor in a model folder say.

    Raises:
        ValueError: if one of them is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        settings = _read(folder / "processor_config.json")
        self.keywords = KeywordList.from_dict(settings["keywords"])
        self.decoding = DecodingSettings(**settings["decoding"])
        self.keyword_target = settings["keyword_target"]
        self.language_model, self.common_words = (
            settings[name] and str(folder / settings[name]) for name in ("language_model", "common_words")
        )
        extractor = settings["feature_extractor"]
        self.sampling_rate = extractor["sampling_rate"]
        self._is_mel = extractor["feature_extractor_type"] == "WhisperFeatureExtractor"
        self._num_mel_bins, self._is_normalized = extractor["feature_size"], extractor.get("do_normalize", True)
        self.alphabet = _alphabet(_read(folder / "vocab.json"), _read(folder / "tokenizer_config.json"))

    @property
    def input_name(self) -> str:
        """The model's main input: "input_values" or "input_features"."""
        return "input_features" if self._is_mel else "input_values"

    @property
    def samples_per_input(self) -> int:
        """Samples from one input of the model to the next."""
        return MEL_HOP if self._is_mel else 1

    def features(self, samples: np.ndarray) -> np.ndarray:
        """`(samples,)` or `(mel bins, mel frames)` of a clip's `(samples,)`."""
        if self._is_mel:
            return log_mel(samples, self._num_mel_bins)
        return normalize(samples) if self._is_normalized else samples


def _alphabet(vocabulary, tokenizer):
    if (language := tokenizer.get("target_lang")) is not None:
        vocabulary = vocabulary[language]
    tokens = {index: token for token, index in vocabulary.items()}
    tokens |= {int(index): token["content"] for index, token in tokenizer.get("added_tokens_decoder", {}).items()}
    tokens = [tokens[index] for index in range(len(tokens))]
    special = (tokenizer["pad_token"], tokenizer["word_delimiter_token"])
    return Alphabet.of_tokens(tokens, *(tokens.index(token) for token in special))


def _read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path.parent} lacks {path.name}: export the model again, with `toxmtl export`.") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): export the model again, with `toxmtl export`.") from error


def is_exported(model: str | PathLike) -> bool:
    """Whether it is a folder that `toxmtl export --to` made."""
    return Path(model, EXPORT_FILE).is_file()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """As many as the environment gives each process (`OMP_NUM_THREADS`, which PyTorch reads too), or else
    [`num_cores`]."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # the others are of loops within loops
    return int(first) if first.isdecimal() and int(first) else num_cores()


class Engine(Protocol):
    """Runs a graph: arrays in, arrays out, by name."""

    name: str  # of the Python package
    step: float  # seconds, of which windows are padded to a multiple; 0 hears them as they are

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...


class OnnxEngine:
    """ONNX Runtime on a CPU.

    Args:
        path: of the graph.
        threads: that a graph's operations may use; [`default_threads`] if 0.
    """

    name = "onnxruntime"
    step = 0.0
    spins = False  # a thread that waits for one on a busy core must not keep its own: the machine has other work

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(f"{path} needs ONNX Runtime: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()  # by itself it takes those of others, too
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spins)))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


class OpenVinoEngine:
    """OpenVINO on a CPU; arguments are as of [`OnnxEngine`]. It compiles kernels for each length that it meets, and
    keeps those of a hundred or so: of few lengths, short windows cost little more than half."""

    name = "openvino"
    step = 0.5

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ImportError(f"{path} needs OpenVINO: pip install openvino") from error
        core = openvino.Core()
        model = core.read_model(path)
        # what the graph says, and not the half precision that OpenVINO chooses where a processor has it
        precision = model.get_rt_info(PRECISION).astype(str) if model.has_rt_info(PRECISION) else "f32"
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads or default_threads()}
        self._model = core.compile_model(model, "CPU", options)
        self._outputs = [output.any_name for output in self._model.outputs]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a batch."""
        found = self._model(inputs)
        return {name: found[name] for name in self._outputs}


ENGINES = {"onnx": OnnxEngine, "openvino": OpenVinoEngine}


class ToxicityRuntime(Judging):
    """Kinds of toxicity in a clip, and the toxic keywords said, by an exported model.

    Args:
        engine: runs the graph.
        config: of the model.
        processor: its features and keywords.
        identity: see [`Judging`].
    """

    knows_keywords = True

    def __init__(
        self, engine: Engine, config: ExportedConfig, processor: ExportedProcessor, identity: dict[str, Any]
    ) -> None:
        self.engine, self.config, self.processor, self.identity = engine, config, processor, identity

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, threads: int = 0) -> "ToxicityRuntime":
        """Loads a folder that `toxmtl export --to` made.

        Args:
            folder: its path.
            threads: that the graph may use; [`default_threads`] if 0, for the verdict on a clip to come soon. Of many
                clips, processes with a thread each hear more.

        Raises:
            ValueError: if there is no such folder, or it holds no exported model; the message says how to make one.
            ImportError: if what runs it is not installed; the message says what to install.
        """
        folder = Path(folder)
        export = _read(folder / EXPORT_FILE)
        fields = _read(folder / "config.json")
        path = folder / MODEL_FILES[export["to"]]
        if not path.is_file():
            raise ValueError(f"{folder} lacks {path.name}: export the model again, with `toxmtl export`.")
        config = CONFIGURATIONS[fields["model_type"]](**fields | {"name_or_path": str(folder)})
        identity = {
            "name": str(folder),
            "revision": None,
            "weights_sha256": _files_hash(path),
            "dtype": export["dtype"],
            "device": "cpu",
            "runtime": ENGINES[export["to"]].name,
        }
        return cls(ENGINES[export["to"]](path, threads), config, ExportedProcessor(folder), identity)

    @property
    def sampling_rate(self) -> int:
        """Of what the model hears, in Hz."""
        return self.processor.sampling_rate

    @property
    def packages(self) -> tuple[str, ...]:
        """As of [`Judging`]."""
        return (self.engine.name,)

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **kwargs: Any
    ) -> Any:
        """As [`ToxicityDetectionPipeline.__call__`]; windows are heard one by one, whatever `batch_size` is."""
        preprocess, forward, postprocess = self._sanitize_parameters(**kwargs)

        def judge(clip):
            windows = (self.collate([prepared]) for prepared in self.preprocess(clip, **preprocess))
            return self.postprocess([self.forward(window, **forward) for window in windows], **postprocess)

        if is_stream(inputs):
            return map(judge, inputs)
        return list(map(judge, inputs)) if isinstance(inputs, list) else judge(inputs)

    def prepare(self, window: Window, samples: np.ndarray) -> dict[str, Any]:
        """As [`Judging.prepare`]."""
        return {"features": self.processor.features(samples), "window": np.array([window])}

    def collate(self, prepared: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch of what [`prepare`] gave."""
        return {
            "features": [item["features"] for item in prepared],
            "window": np.concatenate([item["window"] for item in prepared]),
            "is_last": [item.get("is_last", True) for item in prepared],
        }

    def infer(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        """As [`Judging.infer`]."""
        outputs = [self._run(features) for features in model_inputs["features"]]
        logits = {
            name: [output[name][0] for output in outputs] if name in outputs[0] else None
            for name in ("logits", "keyword_logits")
        }
        return {"window": model_inputs["window"], "is_last": model_inputs["is_last"], **logits}

    def _run(self, features):
        length, unit = features.shape[-1], self.processor.samples_per_input
        padded, longest = length, self.config.max_samples
        if step := round(self.engine.step * self.sampling_rate) // unit:
            padded = min(-(-length // step) * step, longest // unit if longest else sys.maxsize)
        features = np.pad(features, [(0, 0)] * (features.ndim - 1) + [(0, padded - length)])
        mask = (np.arange(padded) < length).astype(np.int64)
        return self.engine.run({self.processor.input_name: features[None], "attention_mask": mask[None]})


def _files_hash(path):
    """SHA-256 of a graph, and of its weights where they are a file beside it."""
    digest = sha256(path.read_bytes())
    if (weights := path.with_suffix(".bin")).is_file():
        digest.update(weights.read_bytes())
    return digest.hexdigest()
