"""Clips in, verdicts with evidence out, whatever computes the logits.

Design choices:
- Returns transformers' standard list of `{"label", "score"}`, every label, sigmoid scores; keywords and the scores of
  each window on request.
- Long clips are heard in windows that overlap (`listening.py`), and batches may mix windows of several clips: the
  model is length-exact, so a clip's scores do not depend on the batch.
- What cannot be heard accuses nobody, whatever a model makes of it: a silent part has no violation.
- Where the configuration has `keyword_evidence`, a keyword that is heard in a window counts in its label scores.
- Files and bytes are read by PyAV, in blocks: no ffmpeg program, no torchaudio. Keywords are decoded with each batch.
  So of a recording of hours, neither the sound nor what the heads made of each frame is ever held as a whole.
"""

import ctypes
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np

from .audio import as_waveform, resample, track_blocks
from .decoders import log_softmax
from .keyword_reader import KeywordReader
from .labels import NO_VIOLATION, add_evidence, aggregate_windows, keyword_evidence, scores_from_logits
from .listening import Window, one_report_per_word, plan_windows


STRIDE = 2 / 3  # of a window
# glibc keeps what is freed between blocks in use: with sizes that ever change, 0.6 GB for each hour of a recording
MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
CERTAIN = 100.0  # logit of what is beyond doubt: its sigmoid is 1
PASS_PROCESSOR = (
    "pass `processor=`. (For a model folder, `ToxicityMTLProcessor.from_pretrained(folder)` says why its processor "
    "could not be loaded.)"
)
PREPROCESSING = ("window_seconds", "stride_seconds")
POSTPROCESSING = ("top_k", "return_keywords", "return_windows", "function_to_apply")
FUNCTIONS = {
    "sigmoid": scores_from_logits,
    "softmax": lambda logits: np.exp(log_softmax(logits)),
    "none": np.asarray,
}


class Judging:
    """What a pipeline of clips and verdicts consists of, but for the model; a class that inherits sets the attributes.

    Attributes:
        config: of the model.
        processor: reads the keywords.
        sampling_rate: of what the model hears, in Hz.
        knows_keywords: whether the processor has the model's keyword list.
        identity: what a record says of the model: `name`, `revision`, `weights_sha256`, `dtype`, `device`, `runtime`.
        packages: that compute the logits.
    """

    config: Any
    processor: KeywordReader
    sampling_rate: int
    knows_keywords: bool
    identity: dict[str, str | None]
    packages: tuple[str, ...]

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        """Arguments of a call, by what they are for: [`preprocess`], [`forward`] and [`postprocess`]."""
        unknown = sorted(kwargs.keys() - {*PREPROCESSING, *POSTPROCESSING})
        if unknown:
            raise TypeError(
                f"Unknown argument {', '.join(unknown)}: there are {', '.join((*POSTPROCESSING, *PREPROCESSING))}."
            )
        given = {name: value for name, value in kwargs.items() if name == "top_k" or value is not None}
        function = given.get("function_to_apply", "sigmoid")
        if function not in FUNCTIONS:
            raise ValueError(f"`function_to_apply` is {function!r}: choose one of {', '.join(FUNCTIONS)}.")
        return tuple(
            {name: given[name] for name in names if name in given}
            for names in (PREPROCESSING, ("return_keywords",), POSTPROCESSING)
        )

    def prepare(self, window: Window, samples: np.ndarray) -> dict[str, Any]:
        """What the model hears of a [`Window`] with its `(samples,)`: an input of [`forward`], but for `is_last`."""
        raise NotImplementedError

    def collate(self, prepared: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch of what [`prepare`] gave."""
        raise NotImplementedError

    def infer(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        """What the model makes of a batch of windows: `window` `(B, 7)`, the fields of each [`Window`], `is_last`, and
        in float `logits` `(B, labels)` and `keyword_logits` `(B, frames, characters)`, or lists of B arrays, None
        without the head."""
        raise NotImplementedError

    def preprocess(
        self, inputs: Any, window_seconds: float = 15.0, stride_seconds: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """What the model hears of one clip, a window at a time; the arguments are those of a call."""
        rate, shortest = self.sampling_rate, self.config.receptive_field
        window = _num_samples_in("window_seconds", window_seconds, rate)
        seconds = window_seconds * STRIDE if stride_seconds is None else stride_seconds
        stride = _num_samples_in("stride_seconds", seconds, rate)
        windows = plan_windows(_read(inputs, rate), window, stride, shortest, self.config.max_samples)
        for (window, samples), is_last in _with_last(windows):
            yield {**self.prepare(window, samples), "is_last": is_last}

    def forward(self, model_inputs: dict[str, Any], return_keywords: bool = False) -> dict[str, Any]:
        """What the model makes of a batch of windows: `window` `(B, 7)`, `logits` `(B, labels)` or None, `is_last`,
        and, where they are asked for or count in the scores, `keywords`: an object array `(B, 1)` with the list of
        each window's `DetectedKeyword`s, in the clip's time, or None without a keyword head.

        Any row, or slice of rows, is an input of [`postprocess`].
        """
        return self.read(self.infer(model_inputs), return_keywords)

    def read(self, outputs: dict[str, Any], return_keywords: bool = True) -> dict[str, Any]:
        """What [`forward`] gives, of what [`infer`] gave: whoever keeps that can read the keywords of another list in
        it, without the model."""
        outputs = dict(outputs)
        logits = outputs.pop("keyword_logits")
        if return_keywords or self._counts_keywords:
            outputs["keywords"] = self._keywords(outputs["window"], logits)
        return outputs

    def hear(self, prepared: Sequence[dict[str, Any]], batch_size: int) -> list[dict[str, Any]]:
        """What [`forward`] gives of each window, in their order, with keywords; windows of like length share a batch.

        Args:
            prepared: what [`prepare`] or [`preprocess`] gave, each with `is_last`.
            batch_size: windows of a forward pass.
        """
        rows: list[Any] = [None] * len(prepared)
        order = sorted(range(len(prepared)), key=lambda number: _num_samples(prepared[number]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            outputs = self.forward(self.collate([prepared[number] for number in batch]), return_keywords=True)
            for row, number in enumerate(batch):
                rows[number] = _row_of(outputs, row)
        if prepared and MALLOC_TRIM is not None:
            MALLOC_TRIM(0)
        return rows

    def postprocess(
        self,
        model_outputs: Sequence[dict[str, Any]],
        top_k: int | None = None,
        return_keywords: bool = False,
        return_windows: bool = False,
        function_to_apply: str = "sigmoid",
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """The verdict on one clip, of what the model made of its windows; the arguments are those of a call."""
        windows = [Window(*output["window"][0].tolist()) for output in model_outputs]
        needs_keywords = return_keywords or self._counts_keywords
        heard = [output["keywords"] for output in model_outputs] if needs_keywords else [None]
        heard = None if heard[0] is None else [keywords.item() for keywords in heard]
        logits = self._logits(windows, model_outputs, heard if self._counts_keywords else None)
        labels = self._ranked(logits, function_to_apply)[:top_k] if logits is not None else None
        if not (return_keywords or return_windows):
            if labels is None:
                raise ValueError("The model has no classifier: ask for its keywords, with `return_keywords=True`.")
            return labels
        verdict = {"violations": None, "labels": labels}
        if labels is not None:
            scores = self._ranked(logits, "sigmoid")
            verdict["violations"] = self.config.violations({item["label"]: item["score"] for item in scores})
        if return_keywords:
            verdict["keywords"] = self._report(windows, heard)
        if return_windows:
            verdict["windows"] = [
                {
                    **self._place(window),
                    "labels": labels and self._ranked(logits[[index]], function_to_apply)[:top_k],
                }
                for index, window in enumerate(windows)
            ]
        return verdict

    def _place(self, window):
        span = {"start": window.start / self.sampling_rate, "end": window.end / self.sampling_rate}
        return {**span, "track": window.track, "channel": window.channel}

    def _logits(self, windows, outputs, heard):
        """`(windows, labels)`, of what is silent too, with the keywords `heard` in each; None without a classifier."""
        if outputs[0]["logits"] is None:
            return None
        logits, names = np.concatenate([np.asarray(output["logits"]) for output in outputs]), self._label_names
        if heard is not None:
            evidence = [keyword_evidence(keywords, names) for keywords in heard]
            logits = add_evidence(logits, evidence, self.config.keyword_evidence, names)
        harmless = np.where(np.array(names) == NO_VIOLATION, CERTAIN, -CERTAIN)
        return np.where([[window.is_silent] for window in windows], harmless, logits)

    @property
    def _label_names(self):
        return [label for _, label in sorted(self.config.id2label.items())]

    def _ranked(self, logits, function):
        names = self._label_names
        scores = FUNCTIONS[function](aggregate_windows(logits, names)).tolist()
        ranked = sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
        return [{"label": name, "score": score} for name, score in ranked]

    @property
    def _counts_keywords(self):
        return bool(self.config.keyword_evidence) and self.knows_keywords

    def _keywords(self, windows, logits):
        """Of each window, in an array: transformers takes the rows of a batch apart, of arrays as of tensors."""
        if logits is None:
            return None
        if not self.knows_keywords:
            raise ValueError(f"Keywords need the model's processor, but the pipeline has none: {PASS_PROCESSOR}")
        heard = np.empty((len(windows), 1), dtype=object)
        for row, window in enumerate(windows.tolist()):
            heard[row, 0] = self._decode(Window(*window), logits[row : row + 1])
        return heard

    def _decode(self, window, logits):
        """Keywords of a window, in the clip's time, but for those that are left to its neighbours."""
        if window.is_silent:
            return []
        rate = self.sampling_rate
        clip = self.processor.decode_keywords(logits, self.config, [window.end - window.start])[0]
        words = [keyword.shifted(window.start / rate) for keyword in clip.keywords]
        return [word for word in words if window.first <= (word.start + word.end) / 2 * rate <= window.last]

    def _report(self, windows, heard):
        """A keyword of overlapping windows once."""
        if heard is None:
            return None
        return one_report_per_word(
            [
                {**word._asdict(), "track": window.track, "channel": window.channel}
                for window, words in zip(windows, heard, strict=True)
                for word in words
            ]
        )


def _row_of(outputs: dict[str, Any], row: int) -> dict[str, Any]:
    """What [`Judging.forward`] gave of one window of a batch."""
    return {name: value if value is None else value[row : row + 1] for name, value in outputs.items()}


def _num_samples(prepared):
    start, end = prepared["window"][0, :2].tolist()
    return end - start


def _num_samples_in(name, seconds, rate):
    """Raises ValueError for what is no number of seconds."""
    if not isinstance(seconds, Real) or not math.isfinite(seconds):
        raise ValueError(f"`{name}` is {seconds!r}: give seconds.")
    return round(seconds * rate)


def is_stream(inputs: Any) -> bool:
    """Whether inputs are clips that are heard as they come, and neither one clip nor a list."""
    is_tensor = hasattr(inputs, "detach")  # of PyTorch, which is not imported for this
    is_clip = isinstance(inputs, (str, bytes, dict, PathLike, np.ndarray)) or is_tensor or _is_decoder(inputs)
    return isinstance(inputs, Iterable) and not is_clip and not isinstance(inputs, list)


def _is_decoder(inputs):
    return hasattr(inputs, "get_all_samples")  # torchcodec's `AudioDecoder`


def _with_last(items):
    """Each item, and whether it is the last."""
    items = iter(items)
    item = next(items)
    for following in items:
        yield item, False
        item = following
    yield item, True


def _read(clip, rate) -> Iterable[Sequence[np.ndarray]]:
    """What a clip in any form holds, at `rate`: blocks with the samples `(channels, samples)` of its tracks."""
    clip, from_rate = clip["audio"] if isinstance(clip, dict) and "audio" in clip else clip, rate
    if isinstance(clip, dict):
        clip, from_rate = _source_of(clip, rate)
    if isinstance(clip, (str, bytes, PathLike)):
        return track_blocks(clip, rate)
    if _is_decoder(clip):
        heard = clip.get_all_samples()
        return _resampled([as_waveform(channel) for channel in heard.data], heard.sample_rate, rate)
    return _resampled([as_waveform(clip)], from_rate, rate)


def _source_of(clip: dict, rate):
    """Bytes, path or samples, and their rate."""
    if clip.get("bytes") is not None:
        return clip["bytes"], rate
    if clip.get("path") is not None and "array" not in clip:
        return clip["path"], rate
    array = clip["array"] if "array" in clip else clip.get("raw")
    if array is None or "sampling_rate" not in clip:
        raise ValueError(f"A dict needs `array` and `sampling_rate`, `bytes` or `path`, but has {sorted(clip)}.")
    return array, clip["sampling_rate"]


def _resampled(channels: Sequence[np.ndarray], from_rate, to_rate):
    return [[np.stack([resample(channel, from_rate, to_rate) for channel in channels])]]
