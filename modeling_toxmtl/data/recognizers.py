"""Recognisers of transformers: Whisper, and CTC models that hear waveforms. The only stage code, with
`text_classifier.py`, that needs PyTorch."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    pipeline,
)

from ..audio import SAMPLING_RATE
from ..decoding import GreedyDecoder
from .models import find_recognizer
from .transcripts import Transcription, Word


def load_recognizer(
    name_or_path: str, revision: str | None = None, language: str | None = None
) -> "CTCRecognizer | WhisperRecognizer":
    """A Whisper model, or a CTC model that hears waveforms, a Hub id or folder. Raises ValueError for other models."""
    if find_recognizer(name_or_path, revision).model_type == "whisper":
        return WhisperRecognizer(name_or_path, revision, language)
    return CTCRecognizer(name_or_path, revision)


def best_device() -> torch.device:
    """The first GPU, or else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class CTCRecognizer:
    """A CTC model that hears waveforms, read greedily. A clip's confidence is the mean of its words' scores."""

    def __init__(self, name_or_path: str, revision: str | None = None) -> None:
        self.device = best_device()
        self.model = AutoModelForCTC.from_pretrained(name_or_path, revision=revision, dtype=torch.float32)
        self.model.eval().to(self.device)
        self.feature_extractor = AutoFeatureExtractor.from_pretrained(name_or_path, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        vocabulary = tokenizer.convert_ids_to_tokens(range(self.model.config.vocab_size))
        delimiter = tokenizer.convert_tokens_to_ids(tokenizer.word_delimiter_token)
        self.decoder = GreedyDecoder(vocabulary, tokenizer.pad_token_id, delimiter)
        self.unspoken = [id for id in tokenizer.all_special_ids if id not in (tokenizer.pad_token_id, delimiter)]

    @torch.inference_mode()
    def __call__(self, clips: Sequence[np.ndarray]) -> list[Transcription]:
        """As of [`Recognizer`]."""
        features = self.feature_extractor(list(clips), sampling_rate=SAMPLING_RATE, padding=True, return_tensors="pt")
        log_probs = self.model(**features.to(self.device)).logits.log_softmax(-1)
        log_probs[..., self.unspoken] = -torch.inf
        lengths = self.model._get_feat_extract_output_lengths(torch.tensor([len(clip) for clip in clips]))
        return [self._read(frames[:length].cpu().numpy()) for frames, length in zip(log_probs, lengths, strict=True)]

    def _read(self, log_probs):
        frame = self.model.config.inputs_to_logits_ratio / SAMPLING_RATE
        words = [
            Word(word.text.lower(), word.start_frame * frame, word.end_frame * frame, word.score)
            for word in self.decoder.decode(log_probs)
        ]
        return Transcription(words, "", float(np.mean([word.score for word in words])) if words else 0.0)


class WhisperRecognizer:
    """A Whisper model. A clip's confidence, and that of its words, is the geometric mean of the probabilities that the
    model gives to the tokens of its transcript."""

    def __init__(self, name_or_path: str, revision: str | None = None, language: str | None = None) -> None:
        model = AutoModelForSpeechSeq2Seq.from_pretrained(name_or_path, revision=revision, dtype="auto")
        self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        self.feature_extractor = AutoFeatureExtractor.from_pretrained(name_or_path, revision=revision)
        self.pipe = pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=self.tokenizer,
            feature_extractor=self.feature_extractor,
            device=best_device(),
        )
        self.language = language

    def __call__(self, clips: Sequence[np.ndarray]) -> list[Transcription]:
        """As of [`Recognizer`]."""
        heard = self.pipe(
            [{"raw": clip, "sampling_rate": SAMPLING_RATE} for clip in clips],
            batch_size=len(clips),
            return_timestamps="word",
            generate_kwargs={"language": self.language} if self.language else {},
        )
        languages = self._languages(clips)
        return [self._read(*each) for each in zip(clips, heard, languages, strict=True)]

    @torch.inference_mode()
    def _languages(self, clips):
        """The pipeline's own `return_language` fails for more than one clip."""
        model = self.pipe.model
        if self.language or not getattr(model.generation_config, "is_multilingual", False):
            return [self.language or "en"] * len(clips)
        features = self._features(clips)
        codes = {token: name.strip("<|>") for name, token in model.generation_config.lang_to_id.items()}
        return [codes[token] for token in model.detect_language(input_features=features).tolist()]

    def _features(self, clips):
        features = self.feature_extractor(list(clips), sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features
        return features.to(self.pipe.model.device, self.pipe.model.dtype)

    def _read(self, clip, result, language):
        confidence = self._confidence(clip, result["text"])
        words, seconds = [], len(clip) / SAMPLING_RATE
        for chunk in result["chunks"]:
            start, end = chunk["timestamp"]  # of the last word, the end may be missing
            start = words[-1].end if start is None and words else start or 0.0
            end = seconds if end is None else end
            # what Whisper imagines in the silence that fills up its 30 s is put at the end of the clip
            words.append(Word(chunk["text"].strip(), min(start, seconds), min(end, seconds), confidence))
        return Transcription([word for word in words if word.word], language, confidence)

    @torch.inference_mode()
    def _confidence(self, clip, text):
        if not text.strip():
            return 0.0
        model = self.pipe.model
        prefix = len(self.tokenizer("", add_special_tokens=True).input_ids) - 1  # the end of text is at the end
        ids = torch.tensor([self.tokenizer(text).input_ids], device=model.device)
        logits = model(self._features([clip]), decoder_input_ids=ids[:, :-1]).logits.float()
        log_probs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[0, prefix - 1 : -1, 0]
        return float(log_probs.mean().exp()) if len(log_probs) else 0.0
