"""Clip in, verdict with evidence out.

Design choices:
- How clips become windows, and windows a verdict, is in `judging.py`, which the runtime without PyTorch shares.
- It is transformers' own kind of pipeline: lists, streams, batches and devices work as they do there.
"""

from collections.abc import Sequence
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AudioClassificationPipeline, PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline, pad_collate_fn
from transformers.utils import logging

from .alphabet import character_tokenizer
from .judging import PASS_PROCESSOR, Judging, is_stream
from .listening import Window
from .processing_toxmtl import ToxicityMTLProcessor


logger = logging.get_logger(__name__)

TIME_FIRST = "time_first_features"  # of the pipeline's batches, (B, mel frames, mel bins)


class ToxicityDetectionPipeline(Judging, AudioClassificationPipeline, ChunkPipeline):
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

    packages = ("torch", "transformers")
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
        self.knows_keywords = processor is not None
        processor = processor or ToxicityMTLProcessor(feature_extractor, character_tokenizer())
        kwargs.setdefault("top_k", None)  # every label
        super().__init__(
            model=model,
            processor=processor,
            feature_extractor=feature_extractor or processor.feature_extractor,
            **kwargs,
        )
        if self.model.config.keyword_evidence and not self.knows_keywords:
            logger.warning(f"The scores lack the keywords that this model's scores count: {PASS_PROCESSOR}")
        self.model.eval()  # dropout would give a clip other scores each time

    @property
    def config(self) -> PreTrainedConfig:
        """Of the model."""
        return self.model.config

    @property
    def sampling_rate(self) -> int:
        """Of what the model hears, in Hz."""
        return self.feature_extractor.sampling_rate

    @property
    def identity(self) -> dict[str, str | None]:
        """As of [`Judging`]."""
        return {
            "name": self.config.name_or_path,
            "revision": getattr(self.config, "_commit_hash", None),  # of a Hub model
            "weights_sha256": weights_hash(self.model),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "runtime": "torch",
        }

    def save_pretrained(self, save_directory: str | PathLike, **kwargs: Any) -> None:
        """Saves the model, its processor, which the base class leaves out, and their code."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        custom_object_save(self, save_directory)
        super().save_pretrained(save_directory, **kwargs)
        if self.knows_keywords:
            self.processor.save_pretrained(save_directory, **kwargs)

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
        if is_stream(inputs):
            inputs = (clip for clip in inputs)  # transformers streams generators, but not tables of `datasets`
        return super(AudioClassificationPipeline, self).__call__(inputs, **kwargs)

    def prepare(self, window: Window, samples: np.ndarray) -> dict[str, Any]:
        """As [`Judging.prepare`]."""
        features = self.processor(
            samples, sampling_rate=self.sampling_rate, return_attention_mask=True, return_tensors="pt"
        ).to(dtype=self.dtype)
        if "input_features" in features:  # time first: transformers pads the first axis after the batch's
            features[TIME_FIRST] = features.pop("input_features").mT
        return {**features, "window": torch.tensor([window])}

    def collate(self, prepared: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As [`Judging.collate`]."""
        return pad_collate_fn(None, self.feature_extractor)(prepared)

    def infer(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        """As [`Judging.infer`]."""
        return super(Judging, self).forward(model_inputs)

    def _forward(self, model_inputs):
        window, is_last = model_inputs.pop("window"), model_inputs.pop("is_last", True)
        if TIME_FIRST in model_inputs:
            model_inputs["input_features"] = model_inputs.pop(TIME_FIRST).mT
        outputs = self.model(**model_inputs)
        logits = {name: outputs.get(name) for name in ("logits", "keyword_logits")}
        logits = {name: value if value is None else value.float() for name, value in logits.items()}
        return {"is_last": is_last, "window": window, **logits}


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 of the parameters and buffers as they are loaded, by name: however they were stored, and also of models
    that never were."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
