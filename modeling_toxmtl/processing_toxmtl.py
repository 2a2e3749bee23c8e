"""Processor: waveforms in, keyword targets in, keywords out.

Design choices:
- The keyword list is part of the processor and is saved in its `processor_config.json`, so a pushed model carries the
  list it obeys.
- The character vocabulary belongs to the tokenizer. A checkpoint's own tokenizer is kept, so that its trained keyword
  head keeps its meaning.
"""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import ProcessorMixin, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor
from transformers.utils import PROCESSOR_NAME
from transformers.utils.hub import has_file

from .audio import SAMPLING_RATE
from .configuration_toxmtl import WavLMToxicityMTLConfig
from .decoding_toxmtl import DecodedWord, GreedyDecoder
from .keywords import KeywordList


SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
WORD_DELIMITER = "|"
CHARACTERS = (*SPECIAL_TOKENS, WORD_DELIMITER, *"etaonihsrdlumwcfgypbvk'xjqz")


class DetectedKeyword(NamedTuple):
    """A keyword heard in a clip.

    Args:
        keyword: as the keyword list spells it.
        labels: the labels that the list gives it.
        start: in seconds from the start of the clip.
        end: in seconds.
        score: in [0, 1].
    """

    keyword: str
    labels: tuple[str, ...]
    start: float
    end: float
    score: float

    def shifted(self, seconds: float) -> "DetectedKeyword":
        """The keyword of a window that starts `seconds` into its clip, in the clip's own time."""
        return self._replace(start=self.start + seconds, end=self.end + seconds)


class DecodedClip(NamedTuple):
    """What the keyword head read of a clip.

    Args:
        keywords: in order of time.
        words: the whole word sequence; a keyword, phrases too, is one item in its canonical spelling.
    """

    keywords: list[DetectedKeyword]
    words: list[str]


def character_tokenizer(characters: tuple[str, ...] = CHARACTERS) -> Wav2Vec2CTCTokenizer:
    """CTC tokenizer over `characters` (ids in order; by default the 32 of English Wav2Vec2 and WavLM checkpoints, in
    lower case)."""
    with tempfile.TemporaryDirectory() as folder:
        vocab_file = Path(folder, "vocab.json")
        vocab_file.write_text(
            json.dumps({character: index for index, character in enumerate(characters)}), encoding="utf-8"
        )
        return Wav2Vec2CTCTokenizer(str(vocab_file), word_delimiter_token=WORD_DELIMITER)


def speech_feature_extractor() -> Wav2Vec2FeatureExtractor:
    """16 kHz waveforms, each normalised to zero mean and unit variance over its own length."""
    return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLING_RATE, do_normalize=True, return_attention_mask=True)


class ToxicityMTLProcessor(ProcessorMixin):
    """Prepares clips and targets for `WavLMForToxicityMTL` and reads its keyword logits.

    Args:
        feature_extractor: of the backbone's checkpoint.
        tokenizer: CTC character tokenizer whose vocabulary is that of the keyword head.
        keywords: the keyword list, or its dictionary form; the packaged English list by default.

    Raises:
        ValueError: if a keyword or the filler word holds a character that the tokenizer does not know.
    """

    def __init__(
        self,
        feature_extractor: Wav2Vec2FeatureExtractor,
        tokenizer: Wav2Vec2CTCTokenizer,
        keywords: KeywordList | dict | None = None,
    ):
        super().__init__(feature_extractor, tokenizer)
        if isinstance(keywords, dict):
            keywords = KeywordList.from_dict(keywords)
        self.keywords = KeywordList.default() if keywords is None else keywords
        vocabulary = tokenizer.get_vocab()
        # some checkpoints know capital letters only
        self._upper_case = "A" in vocabulary and "a" not in vocabulary
        self._check_alphabet(vocabulary)

    @classmethod
    def from_checkpoint(
        cls, name_or_path: str, keywords: KeywordList | None = None, revision: str = "main"
    ) -> "ToxicityMTLProcessor":
        """The processor to fine-tune a checkpoint with: its own tokenizer and feature extractor, where it has them.

        Args:
            name_or_path: folder or Hub id of a WavLM checkpoint, with or without heads, or of a model of this package.
            keywords: the keyword list; by default that of the checkpoint, or else the packaged one.
            revision: branch, tag or commit of a Hub checkpoint.
        """
        parts = []
        for part, default in (
            (Wav2Vec2FeatureExtractor, speech_feature_extractor),
            (Wav2Vec2CTCTokenizer, character_tokenizer),
        ):
            try:
                parts.append(part.from_pretrained(name_or_path, revision=revision))
            except (OSError, TypeError):  # a bare encoder has no tokenizer; transformers raises either
                parts.append(default())
        if keywords is None and has_file(name_or_path, PROCESSOR_NAME, revision=revision):
            keywords = cls.from_pretrained(name_or_path, revision=revision).keywords
        return cls(*parts, keywords)

    def to_dict(self):
        output = super().to_dict()
        output["keywords"] = self.keywords.to_dict()
        return output

    def __call__(self, audio, sampling_rate: int | None = None, transcripts: list[str] | None = None, **kwargs):
        """Prepares a batch.

        Args:
            audio: one waveform of shape `(samples,)` or a list of them.
            sampling_rate: of the waveforms, in Hz; another rate than the model's is an error.
            transcripts: what is said in each clip; gives `keyword_labels`.
            kwargs: passed to the feature extractor (`padding`, `return_tensors`, …).

        Returns:
            `BatchFeature` with `input_values`, `attention_mask` and, with transcripts, `keyword_labels` (a list of id
            lists, not padded).
        """
        features = self.feature_extractor(audio, sampling_rate=sampling_rate, **kwargs)
        if transcripts is not None:
            features["keyword_labels"] = [self.encode_keywords(transcript) for transcript in transcripts]
        return features

    def encode_keywords(self, transcript: str) -> list[int]:
        """Character ids of the keyword target: the transcript with every word that is no keyword replaced by the
        filler (paper, section 3.2)."""
        target = self.keywords.substitute(transcript)
        ids = self.tokenizer(target.upper() if self._upper_case else target).input_ids
        if self.tokenizer.unk_token_id in ids:  # the list was edited since it was checked
            self._check_alphabet(self.tokenizer.get_vocab())
        return ids or [self.tokenizer.pad_token_id]  # the blank alone: nothing is said

    def decode_keywords(
        self, keyword_logits: np.ndarray, config: WavLMToxicityMTLConfig, num_samples: list[int] | None = None
    ) -> list[DecodedClip]:
        """Reads keywords, with times and scores, from the model's `keyword_logits`.

        Args:
            keyword_logits: `(clips, frames, characters)`, array or tensor.
            config: of the model: it tells how many samples a frame is.
            num_samples: length of each clip in samples; without it every frame counts.

        Returns:
            one `DecodedClip` per clip; its keywords are in order of time and lie inside the clip.
        """
        if isinstance(keyword_logits, torch.Tensor):
            keyword_logits = keyword_logits.detach().float().cpu()
        logits = np.asarray(keyword_logits, dtype=np.float32)
        if num_samples is None:
            num_samples = [logits.shape[1] * config.inputs_to_logits_ratio] * len(logits)
            num_frames = [logits.shape[1]] * len(logits)
        else:
            num_frames = [max(int(config.num_frames(int(samples))), 0) for samples in num_samples]
        decoder = self._decoder()
        rate = self.feature_extractor.sampling_rate
        clips = []
        for clip_logits, frames, samples in zip(logits, num_frames, num_samples, strict=True):
            words = decoder.decode(_log_softmax(clip_logits[:frames]))
            seconds_per_frame = config.inputs_to_logits_ratio / rate
            clips.append(self._find_keywords(words, seconds_per_frame, duration=int(samples) / rate))
        return clips

    def _decoder(self):
        vocabulary = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        if self._upper_case:
            vocabulary = [token.lower() for token in vocabulary]
        return GreedyDecoder(vocabulary, self.tokenizer.pad_token_id, self.tokenizer.word_delimiter_token_id)

    def _find_keywords(self, words: list[DecodedWord], seconds_per_frame: float, duration: float) -> DecodedClip:
        texts = [word.text for word in words]
        keywords = []
        for match in self.keywords.find(texts):
            said = words[match.start : match.end]
            start, end = (
                min(frame * seconds_per_frame, duration) for frame in (said[0].start_frame, said[-1].end_frame)
            )
            score = min(word.score for word in said)
            keywords.append(DetectedKeyword(match.keyword, self.keywords.labels_of(match.keyword), start, end, score))
        return DecodedClip(keywords, self.keywords.merge(texts))

    def _check_alphabet(self, vocabulary):
        for word in sorted(self.keywords.words):
            missing = {c for c in (word.upper() if self._upper_case else word) if c not in vocabulary}
            if missing:
                raise ValueError(
                    f"The word {word!r} of the keyword list holds {sorted(missing)}, which the tokenizer's vocabulary "
                    "lacks: change the list, or train a keyword head on a vocabulary that has them."
                )


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
