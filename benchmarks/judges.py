"""What is compared with a model of this package, behind its pipeline's interface: `judge(clip, return_keywords=True)`
gives `violations`, `labels` with scores, and `keywords` with times.

- `Cascade`: a recogniser, the text filter of the data pipeline, and the keyword list, one after the other.
- `SequenceClassifier`: a `WavLMForSequenceClassification` of transformers, such as Roblox's published classifiers.
- `RandomWhisper`: Whisper by shape alone, for its time.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    Wav2Vec2FeatureExtractor,
    WavLMForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.utils import has_file

from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.data.annotate import find_keywords
from modeling_toxmtl.data.label import LabelStage
from modeling_toxmtl.data.speech_spans import is_silence
from modeling_toxmtl.data.transcribe import Recognizer
from modeling_toxmtl.frames import receptive_field
from modeling_toxmtl.labels import DEFAULT_THRESHOLD, LABELS, NO_VIOLATION, aggregate_windows, scores_from_logits
from modeling_toxmtl.listening import split_windows
from modeling_toxmtl.text import normalize_text


WINDOW = 15 * SAMPLING_RATE
WHISPER_SIZES = {"base": (512, 6), "small": (768, 12)}  # width, and layers of encoder and decoder each
TOKENS = 40  # that speech of 15 s takes about


def verdict(scores: dict[str, float], violations: list[str], keywords: list[dict] | None) -> dict:
    """As the pipeline gives it: labels best first."""
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    labels = [{"label": label, "score": score} for label, score in ranked]
    return {"violations": violations, "labels": labels, "keywords": keywords}


def samples_of(clip: str | Path | bytes | np.ndarray) -> np.ndarray:
    """`(samples,)` at 16 kHz of a file or of such samples."""
    return clip if isinstance(clip, np.ndarray) else load_audio(clip)


class Cascade:
    """Recogniser, text filter, keyword match.

    The filter gets the words that were recognised as one phrase of normalised words, as it was trained on; a
    transcript that hides a word is judged like any other. Silence is not sent to the recogniser, which hears words in
    it.

    Args:
        recognizer: hears the words, with times.
        text_filter: gives labels; its keyword list is also the one that is matched.
    """

    def __init__(self, recognizer: Recognizer, text_filter: LabelStage) -> None:
        self.recognizer, self.text_filter = recognizer, text_filter

    def __call__(self, clip: str | Path | bytes | np.ndarray, return_keywords: bool = False) -> dict | list[dict]:
        """As of [`ToxicityDetectionPipeline`]."""
        samples = samples_of(clip)
        words = [] if is_silence(samples, SAMPLING_RATE) else self.recognizer([samples])[0].words
        transcript = " ".join(word.word for word in words)
        text = " ".join(normalize_text(transcript, self.text_filter.keywords.language))
        (row,) = self.text_filter.label([{"transcript": transcript, "phrases": [{"text": text}] * bool(text)}])
        scores = {label["label"]: label["score"] for label in row["label_scores"]}
        violations = [label for label in row["labels"] if label != NO_VIOLATION]
        found, _ = find_keywords([word._asdict() for word in words], self.text_filter.keywords)
        judged = verdict(scores, violations, found)
        return judged if return_keywords else judged["labels"]


class SequenceClassifier:
    """transformers' own `WavLMForSequenceClassification`: labels only, of the loudest window of 15 s.

    Args:
        model: in evaluation mode.
        feature_extractor: of its checkpoint; without one, the model hears the samples as they are.
        mapping: from the classifier's labels to ours, or to None for labels that we lack; by default they are named
            alike.

    Raises:
        ValueError: a label is not mapped, or not to one of ours.
    """

    def __init__(
        self,
        model: WavLMForSequenceClassification,
        feature_extractor: Wav2Vec2FeatureExtractor | None = None,
        mapping: dict[str, str | None] | None = None,
    ) -> None:
        names = [model.config.id2label[index] for index in range(model.config.num_labels)]
        self.model, self.feature_extractor = model, feature_extractor
        self.targets = [(mapping or {}).get(name, name) for name in names]
        if unknown := sorted(name for name in self.targets if name is not None and name not in LABELS):
            raise ValueError(f"--classifier_labels: map {unknown} to labels of {LABELS}, or to null.")

    @classmethod
    def from_pretrained(cls, name_or_path: str, mapping: dict[str, str | None] | None = None) -> "SequenceClassifier":
        """Of a folder or Hub id."""
        has_extractor = has_file(name_or_path, "preprocessor_config.json")
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name_or_path) if has_extractor else None
        return cls(WavLMForSequenceClassification.from_pretrained(name_or_path).eval(), extractor, mapping)

    @torch.inference_mode()
    def __call__(self, clip: str | Path | bytes | np.ndarray, return_keywords: bool = False) -> dict | list[dict]:
        """As of [`ToxicityDetectionPipeline`]; it has no keywords."""
        samples = samples_of(clip)
        shortest = receptive_field(self.model.config.conv_kernel, self.model.config.conv_stride)
        windows = split_windows(len(samples), WINDOW, shortest)
        logits = np.concatenate([self._logits(samples[start:end]) for start, end in windows])
        by_label: dict[str, float] = {}
        names = [target or "" for target in self.targets]
        for name, score in zip(names, scores_from_logits(aggregate_windows(logits, names)).tolist(), strict=True):
            if name:
                by_label[name] = max(score, by_label.get(name, 0.0))
        violations = [name for name, score in by_label.items() if name != NO_VIOLATION and score >= DEFAULT_THRESHOLD]
        by_label.setdefault(NO_VIOLATION, 1.0 - max(by_label.values()))
        judged = verdict(by_label, violations, None)
        return judged if return_keywords else judged["labels"]

    def _logits(self, samples):
        if self.feature_extractor is None:
            inputs = torch.from_numpy(samples)[None]
        else:
            inputs = self.feature_extractor(samples, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_values
        return self.model(inputs.to(self.model.device)).logits.cpu().numpy()


class RandomWhisper:
    """transformers' Whisper with random weights, which writes as many tokens as speech has: what it writes says
    nothing, and the time that it takes says all.

    Args:
        size: one of [`WHISPER_SIZES`].
        device: of PyTorch.
    """

    def __init__(self, size: str, device: str = "cpu") -> None:
        width, layers = WHISPER_SIZES[size]
        shape = {"layers": layers, "attention_heads": width // 64, "ffn_dim": 4 * width}
        sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in shape.items()}
        self.model = WhisperForConditionalGeneration(WhisperConfig(d_model=width, **sides)).eval().to(device)
        self.feature_extractor = WhisperFeatureExtractor()

    @torch.inference_mode()
    def __call__(self, clip: str | Path | bytes | np.ndarray, return_keywords: bool = False) -> list[torch.Tensor]:
        """The tokens of each 30 s, which Whisper hears at once: `TOKENS` for each 15 s that are begun."""
        samples, hears = samples_of(clip), 2 * WINDOW
        return [self._write(samples[start : start + hears]) for start in range(0, len(samples), hears)]

    def _write(self, samples):
        inputs = self.feature_extractor(samples, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features
        tokens = TOKENS * -(-len(samples) // WINDOW)
        return self.model.generate(
            inputs.to(self.model.device), max_length=None, min_new_tokens=tokens, max_new_tokens=tokens
        )
