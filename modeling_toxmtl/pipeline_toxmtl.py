"""Clip in, verdict with evidence out.

Design choices:
- Returns transformers' standard list of `{"label", "score"}`, every label, sigmoid scores; keywords and the scores of
  each window on request.
- Long clips are heard in windows, as in the paper's evaluation, and batches may mix windows of several clips: the
  model is length-exact, so a clip's scores do not depend on the batch.
- Files and bytes are read by PyAV: no ffmpeg program, no torchaudio.
"""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AudioClassificationPipeline
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline

from .audio import check_finite, load_audio, resample, split_windows
from .labels import aggregate_windows, scores_from_logits


TIME_FIRST = "time_first_features"  # of the pipeline's batches, (B, mel frames, mel bins)


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
        model: a `WavLMForToxicityMTL`; it is put into evaluation mode.
        processor: its `ToxicityMTLProcessor`.
    """

    _load_processor = True
    _load_feature_extractor = False

    def __init__(self, model, processor, feature_extractor=None, **kwargs) -> None:
        if processor is None:
            raise ValueError(
                "The pipeline needs the model's processor, but has none: pass `processor=`. (For a model folder, "
                "`ToxicityMTLProcessor.from_pretrained(folder)` says why its processor could not be loaded.)"
            )
        kwargs.setdefault("top_k", None)  # every label
        super().__init__(
            model=model,
            processor=processor,
            feature_extractor=feature_extractor or processor.feature_extractor,
            **kwargs,
        )
        self.model.eval()  # dropout would give a clip other scores each time

    def save_pretrained(self, save_directory: str | PathLike, **kwargs: Any) -> None:
        """Saves the model, its processor, which the base class leaves out, and their code."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        custom_object_save(self, save_directory)
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, return_keywords=None, return_windows=None, window_seconds=None, **kwargs):
        preprocess, postprocess = {}, {}
        if "top_k" in kwargs:  # None is a value: every label
            postprocess["top_k"] = kwargs.pop("top_k")
        if window_seconds is not None:
            preprocess["window_seconds"] = window_seconds
        if return_keywords is not None:
            postprocess["return_keywords"] = return_keywords
        if return_windows is not None:
            postprocess["return_windows"] = return_windows
        if kwargs:
            raise TypeError(
                f"Unknown argument {', '.join(sorted(kwargs))}: there are top_k, return_keywords, return_windows, "
                "window_seconds."
            )
        return preprocess, {}, postprocess

    def __call__(self, inputs, **kwargs) -> Any:
        """Judges one clip or many.

        Args:
            inputs: path, bytes, waveform at the model's sampling rate `(samples,)`, or a dict with `array` (or `raw`)
                and `sampling_rate`, or with `bytes` or `path`, as datasets have them; or a row of a dataset, whose
                `audio` is one of these. Or many of them: a list gives a list of verdicts; a generator, dataset or
                column of one gives a generator, which hears each clip as it comes.
            top_k (`int`, *optional*): how many labels to return; all by default.
            return_keywords (`bool`, *optional*): return a dict with `keywords`, each of which has `keyword`, `labels`,
                `start` and `end` in seconds, and `score`.
            return_windows (`bool`, *optional*): return a dict with `windows`: the label scores over time, each window
                with `start` and `end` in seconds and its own `labels`. All windows have the length `window_seconds`
                but the last.
            window_seconds (`float`, *optional*): longer clips are heard in windows of this length; 15 by default.

        Returns:
            for each clip a list of `{"label", "score"}`, best first; or, when keywords or windows are asked for, a
            dict with this list as `labels` and the names of those violations as `violations` whose score reaches the
            threshold of the model's configuration. `labels` and `violations` are None without a classifier, and
            `keywords` without a keyword head.

        Raises:
            ValueError: if a clip cannot be read or is too short to be heard, or only labels are asked of a model
                without a classifier.
        """
        one_clip = (str, bytes, dict, PathLike, np.ndarray, torch.Tensor)
        if isinstance(inputs, Iterable) and not isinstance(inputs, (*one_clip, list, torch.utils.data.Dataset)):
            inputs = (clip for clip in inputs)  # transformers streams generators, but not tables of `datasets`
        return super(AudioClassificationPipeline, self).__call__(inputs, **kwargs)

    def preprocess(self, inputs, window_seconds: float = 15.0):
        rate = self.feature_extractor.sampling_rate
        samples = self._read(inputs, rate)
        shortest = self.model.config.receptive_field
        if len(samples) < shortest:
            raise ValueError(
                f"The clip has {len(samples)} samples at {rate} Hz, but the model needs at least {shortest}."
            )
        windows = split_windows(len(samples), round(window_seconds * rate), shortest, self.model.config.max_samples)
        for start, end in windows:
            features = self.processor(
                samples[start:end], sampling_rate=rate, return_attention_mask=True, return_tensors="pt"
            ).to(dtype=self.dtype)
            if "input_features" in features:  # time first: transformers pads the first axis after the batch's
                features[TIME_FIRST] = features.pop("input_features").mT
            yield {**features, "span": torch.tensor([[start, end]]), "is_last": end == len(samples)}

    @staticmethod
    def _read(inputs, rate):
        if isinstance(inputs, dict) and "audio" in inputs:
            inputs = inputs["audio"]
        if isinstance(inputs, dict):
            if inputs.get("bytes") is not None or inputs.get("path") is not None and "array" not in inputs:
                return load_audio(inputs["bytes"] if inputs.get("bytes") is not None else inputs["path"], rate)
            array = inputs["array"] if "array" in inputs else inputs.get("raw")
            if array is None or "sampling_rate" not in inputs:
                raise ValueError(
                    f"A dict needs `array` and `sampling_rate`, `bytes` or `path`, but has {sorted(inputs)}."
                )
            return resample(_as_mono(array), inputs["sampling_rate"], rate)
        if isinstance(inputs, np.ndarray | torch.Tensor):
            return _as_mono(inputs)
        return load_audio(inputs, rate)

    def _forward(self, model_inputs):
        span, is_last = model_inputs.pop("span"), model_inputs.pop("is_last")
        if TIME_FIRST in model_inputs:
            model_inputs["input_features"] = model_inputs.pop(TIME_FIRST).mT
        outputs = self.model(**model_inputs)
        return {"is_last": is_last, "span": span, **{name: outputs.get(name) for name in ("logits", "keyword_logits")}}

    def postprocess(self, model_outputs, top_k=None, return_keywords=False, return_windows=False):
        scores = self._labels(model_outputs)
        if not (return_keywords or return_windows):
            if scores is None:
                raise ValueError("The model has no classifier: ask for its keywords, with `return_keywords=True`.")
            return scores[:top_k]
        verdict = {"violations": None, "labels": None}
        if scores is not None:
            violations = self.model.config.violations({item["label"]: item["score"] for item in scores})
            verdict = {"violations": violations, "labels": scores[:top_k]}
        if return_keywords:
            verdict["keywords"] = self._keywords(model_outputs)
        if return_windows:
            verdict["windows"] = [
                {**self._times(window), "labels": scores and self._labels([window])[:top_k]}
                for window in model_outputs
            ]
        return verdict

    def _times(self, window):
        start, end = (window["span"][0] / self.feature_extractor.sampling_rate).tolist()
        return {"start": start, "end": end}

    def _labels(self, windows):
        if windows[0]["logits"] is None:
            return None
        names = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]
        logits = aggregate_windows(torch.cat([window["logits"].float() for window in windows]).numpy(), names)
        ranked = sorted(zip(names, scores_from_logits(logits).tolist(), strict=True), key=lambda pair: -pair[1])
        return [{"label": name, "score": score} for name, score in ranked]

    def _keywords(self, windows):
        if windows[0]["keyword_logits"] is None:
            return None
        rate, found = self.feature_extractor.sampling_rate, []
        for window in windows:
            start, end = window["span"][0].tolist()
            logits = window["keyword_logits"].float().numpy()
            clip = self.processor.decode_keywords(logits, self.model.config, [end - start])[0]
            found += [keyword.shifted(start / rate)._asdict() for keyword in clip.keywords]
        return found


def _as_mono(samples):
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"A waveform must have shape (samples,), but has {samples.shape}: average its channels.")
    check_finite(samples, "The waveform")
    return samples
