"""Clip in, verdict with evidence out.

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

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AudioClassificationPipeline, PreTrainedModel, SequenceFeatureExtractor
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .alphabet import character_tokenizer
from .audio import as_waveform, resample, track_blocks
from .labels import NO_VIOLATION, add_evidence, aggregate_windows, keyword_evidence, scores_from_logits
from .listening import Window, one_report_per_word, plan_windows
from .processing_toxmtl import ToxicityMTLProcessor


logger = logging.get_logger(__name__)

TIME_FIRST = "time_first_features"  # of the pipeline's batches, (B, mel frames, mel bins)
STRIDE = 2 / 3  # of a window
CERTAIN = 100.0  # logit of what is beyond doubt: its sigmoid is 1
PASS_PROCESSOR = (
    "pass `processor=`. (For a model folder, `ToxicityMTLProcessor.from_pretrained(folder)` says why its processor "
    "could not be loaded.)"
)
PREPROCESSING = ("window_seconds", "stride_seconds")
POSTPROCESSING = ("top_k", "return_keywords", "return_windows", "function_to_apply")
FUNCTIONS = {
    "sigmoid": scores_from_logits,
    "softmax": lambda logits: torch.tensor(logits).softmax(-1).numpy(),
    "none": np.asarray,
}


class ToxicityDetectionPipeline(AudioClassificationPipeline, ChunkPipeline):
    """Kinds of toxicity in a clip, and the toxic keywords said.

    ```python
    >>> moderate = ToxicityDetectionPipeline(model=model, processor=processor)
    >>> moderate("clip.ogg", return_keywords=True)
    {
        "violations": ["Profanity"],
        "labels": [{"label": "Profanity", "score": 0.98}, …],
        "keywords": [{"keyword": "damn", "start": 0.4, …}],
    }
    ```

    Args:
        model: a `WavLMForToxicityMTL` or `WhisperForToxicityMTL`; it is put into evaluation mode.
        processor: its `ToxicityMTLProcessor`.
        feature_extractor: its feature extractor, which is enough where no keywords are asked for.
    """

    _load_processor = True
    _load_feature_extractor = False

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ToxicityMTLProcessor | None = None,
        feature_extractor: SequenceFeatureExtractor | None = None,
        **kwargs: Any,
    ) -> None:
        if processor is None and feature_extractor is None:
            raise ValueError(f"The pipeline needs the model's processor, but has none: {PASS_PROCESSOR}")
        self._knows_keywords = processor is not None
        processor = processor or ToxicityMTLProcessor(feature_extractor, character_tokenizer())
        kwargs.setdefault("top_k", None)  # every label
        super().__init__(
            model=model,
            processor=processor,
            feature_extractor=feature_extractor or processor.feature_extractor,
            **kwargs,
        )
        if self.model.config.keyword_evidence and not self._knows_keywords:
            logger.warning(f"The scores lack the keywords that this model's scores count: {PASS_PROCESSOR}")
        self.model.eval()  # dropout would give a clip other scores each time

    def save_pretrained(self, save_directory: str | PathLike, **kwargs: Any) -> None:
        """Saves the model, its processor, which the base class leaves out, and their code."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        custom_object_save(self, save_directory)
        super().save_pretrained(save_directory, **kwargs)
        if self._knows_keywords:
            self.processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **kwargs):
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

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Judges one clip or many.

        Args:
            inputs: path, bytes, waveform at the model's sampling rate `(samples,)`, or a dict with `array` (or `raw`)
                and `sampling_rate`, or with `bytes` or `path`, or torchcodec's `AudioDecoder`, as datasets have them;
                or a row of a dataset, whose `audio` is one of these. Or many of them: a list gives a list of verdicts;
                a generator, dataset or column of one gives a generator, which hears each clip as it comes.
            top_k (`int`, *optional*): how many labels to return; all by default.
            function_to_apply (`str`, *optional*): "sigmoid" by default; "softmax" or "none" change the scores of the
                labels, but not the violations.
            return_keywords (`bool`, *optional*): return a dict with `keywords`, each of which has `keyword`, `labels`,
                `start` and `end` in seconds, `score`, and the `track` and `channel` that it is heard in, by number
                from 0 on (of channels that sound alike, the first).
            return_windows (`bool`, *optional*): return a dict with `windows`: the label scores over time, each window
                with `start` and `end` in seconds, `track` and `channel`, and its own `labels`. Parts in which nothing
                can be heard are windows too: they have no violation.
            window_seconds (`float`, *optional*): longer clips are heard in windows of this length; 15 by default.
            stride_seconds (`float`, *optional*): from the start of one window to the next; two thirds of the window by
                default, so that a word at an edge is heard whole in one of them. `stride_seconds=window_seconds` sets
                them side by side, as in the paper's evaluation.

        Returns:
            for each clip a list of `{"label", "score"}`, best first; or, when keywords or windows are asked for, a
            dict with this list as `labels` and the names of those violations as `violations` whose score reaches the
            threshold of the model's configuration. `labels` and `violations` are None without a classifier, and
            `keywords` without a keyword head.

        Raises:
            ValueError: if a clip cannot be read or is too short to be heard, only labels are asked of a model without
                a classifier, or keywords of a pipeline without a processor.
        """
        if isinstance(inputs, list) and not inputs:
            return []  # transformers asks for the first
        if _is_stream(inputs):
            inputs = (clip for clip in inputs)  # transformers streams generators, but not tables of `datasets`
        return super(AudioClassificationPipeline, self).__call__(inputs, **kwargs)

    def preprocess(
        self, inputs: Any, window_seconds: float = 15.0, stride_seconds: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """What the model hears of one clip, a window at a time; the arguments are those of a call."""
        rate, shortest = self.feature_extractor.sampling_rate, self.model.config.receptive_field
        stride = round((window_seconds * STRIDE if stride_seconds is None else stride_seconds) * rate)
        windows = plan_windows(
            _read(inputs, rate), round(window_seconds * rate), stride, shortest, self.model.config.max_samples
        )
        for (window, samples), is_last in _with_last(windows):
            yield {**self.prepare(window, samples), "is_last": is_last}

    def prepare(self, window: Window, samples: np.ndarray) -> dict[str, Any]:
        """What the model hears of a [`Window`] with its `(samples,)`: an input of [`forward`], but for `is_last`."""
        rate = self.feature_extractor.sampling_rate
        features = self.processor(samples, sampling_rate=rate, return_attention_mask=True, return_tensors="pt").to(
            dtype=self.dtype
        )
        if "input_features" in features:  # time first: transformers pads the first axis after the batch's
            features[TIME_FIRST] = features.pop("input_features").mT
        return {**features, "window": torch.tensor([window])}

    def forward(self, model_inputs: dict[str, Any], return_keywords: bool = False) -> dict[str, Any]:
        """What the model makes of a batch of windows: `window` `(B, 7)`, `logits` `(B, labels)` or None, `is_last`,
        and, where they are asked for or count in the scores, `keywords`: an object array `(B, 1)` with the list of
        each window's `DetectedKeyword`s, in the clip's time, or None without a keyword head.

        Any row, or slice of rows, is an input of [`postprocess`].
        """
        outputs = super().forward(model_inputs)
        logits = outputs.pop("keyword_logits")
        if return_keywords or self._counts_keywords:
            outputs["keywords"] = self._keywords(outputs["window"], logits)
        return outputs

    def _forward(self, model_inputs):
        window, is_last = model_inputs.pop("window"), model_inputs.pop("is_last", True)
        if TIME_FIRST in model_inputs:
            model_inputs["input_features"] = model_inputs.pop(TIME_FIRST).mT
        outputs = self.model(**model_inputs)
        heard = {name: outputs.get(name) for name in ("logits", "keyword_logits")}
        return {"is_last": is_last, "window": window, **heard}

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
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
            verdict["violations"] = self.model.config.violations({item["label"]: item["score"] for item in scores})
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
        rate = self.feature_extractor.sampling_rate
        span = {"start": window.start / rate, "end": window.end / rate}
        return {**span, "track": window.track, "channel": window.channel}

    def _logits(self, windows, outputs, heard):
        """`(windows, labels)`, of what is silent too, with the keywords `heard` in each; None without a classifier."""
        if outputs[0]["logits"] is None:
            return None
        logits, names = torch.cat([output["logits"].float() for output in outputs]).numpy(), self._label_names
        if heard is not None:
            evidence = [keyword_evidence(keywords, names) for keywords in heard]
            logits = add_evidence(logits, evidence, self.model.config.keyword_evidence, names)
        harmless = np.where(np.array(names) == NO_VIOLATION, CERTAIN, -CERTAIN)
        return np.where([[window.is_silent] for window in windows], harmless, logits)

    @property
    def _label_names(self):
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    def _ranked(self, logits, function):
        names = self._label_names
        scores = FUNCTIONS[function](aggregate_windows(logits, names)).tolist()
        ranked = sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
        return [{"label": name, "score": score} for name, score in ranked]

    @property
    def _counts_keywords(self):
        return bool(self.model.config.keyword_evidence) and self._knows_keywords

    def _keywords(self, windows, logits):
        """Of each window, in an array: transformers takes the rows of a batch apart, of arrays as of tensors."""
        if logits is None:
            return None
        if not self._knows_keywords:
            raise ValueError(f"Keywords need the model's processor, but the pipeline has none: {PASS_PROCESSOR}")
        heard = np.empty((len(windows), 1), dtype=object)
        for row, window in enumerate(windows.tolist()):
            heard[row, 0] = self._decode(Window(*window), logits[row : row + 1])
        return heard

    def _decode(self, window, logits):
        """Keywords of a window, in the clip's time, but for those that are left to its neighbours."""
        if window.is_silent:
            return []
        rate = self.feature_extractor.sampling_rate
        length = window.end - window.start
        clip = self.processor.decode_keywords(logits.float().numpy(), self.model.config, [length])[0]
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


def _is_stream(inputs):
    """Whether inputs are clips that are heard as they come."""
    if isinstance(inputs, torch.utils.data.Dataset):
        return isinstance(inputs, torch.utils.data.IterableDataset)
    is_clip = isinstance(inputs, (str, bytes, dict, PathLike, np.ndarray, torch.Tensor)) or _is_decoder(inputs)
    return isinstance(inputs, Iterable) and not is_clip and not isinstance(inputs, list)


def _is_decoder(inputs):
    return hasattr(inputs, "get_all_samples")  # torchcodec's `AudioDecoder`: it is not imported for this


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
