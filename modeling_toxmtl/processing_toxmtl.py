"""Processor: waveforms in, keyword targets in, keywords out.

Design choices:
- The feature extractor decides what the encoder hears: normalised waveforms (`input_values`) for WavLM, log-mel
  features (`input_features`) for Whisper, which are made of each clip alone and never padded to 30 s.
- The keyword list is part of the processor and is saved in its `processor_config.json`, so a pushed model carries the
  list it obeys.
- The decoding settings are saved beside it, and the language model as a file in `language_model/`. The processor
  keeps its path only (a processor is copied and pickled), and reads it when it first decodes.
- Decoders are made from the list as it is at each call and cached by its content, so edits act at once.
- The character vocabulary belongs to the tokenizer. A checkpoint's own tokenizer is kept, so that its trained keyword
  head keeps its meaning.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    AutoConfig,
    BatchFeature,
    PreTrainedConfig,
    ProcessorMixin,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.utils import PROCESSOR_NAME
from transformers.utils.hub import cached_file, has_file

from .audio import SAMPLING_RATE
from .configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig, configuration_for
from .decoding import DecodedWord, Decoder, DecodingSettings, GreedyDecoder
from .keywords import KeywordList
from .language_model import load_language_model, usable_language_model
from .lexicon import LexiconDecoder
from .pyctcdecode_decoder import PyctcdecodeDecoder


SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
WORD_DELIMITER = "|"
LANGUAGE_MODEL_FOLDER = "language_model"  # in a model folder
CHARACTERS = (*SPECIAL_TOKENS, WORD_DELIMITER, *"etaonihsrdlumwcfgypbvk'xjqz")


class DetectedKeyword(NamedTuple):
    """A keyword heard in a clip.

    Args:
        keyword: as the keyword list spells it.
        labels: the labels that the list gives it.
        start: in seconds from the start of the clip.
        end: in seconds.
        score: in [0, 1]; of the lexicon decoder, the posterior probability that it was said there.
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
        words: the whole word sequence; a keyword, phrases too, is one item in its canonical spelling, and the filler
            where its score is below its threshold.
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


def alphabet_tokenizer(letters: str) -> Wav2Vec2CTCTokenizer:
    """CTC tokenizer for another alphabet.

    Args:
        letters: each once, in lower case, composed (NFC); an apostrophe too, if the words have one.
    """
    if repeated := sorted({letter for letter in letters if letters.count(letter) > 1}):
        raise ValueError(f"The alphabet has {', '.join(map(repr, repeated))} more than once: {letters!r}.")
    if any(letter != letter.casefold() or letter.isspace() for letter in letters):
        raise ValueError(f"The alphabet must be letters in lower case, without spaces, but is {letters!r}.")
    return character_tokenizer((*SPECIAL_TOKENS, WORD_DELIMITER, *letters))


def speech_feature_extractor() -> Wav2Vec2FeatureExtractor:
    """16 kHz waveforms, each normalised to zero mean and unit variance over its own length."""
    return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLING_RATE, do_normalize=True, return_attention_mask=True)


def mel_feature_extractor(num_mel_bins: int = 80) -> WhisperFeatureExtractor:
    """Whisper's log-mel features of 16 kHz waveforms, scaled by each clip's own maximum."""
    return WhisperFeatureExtractor(feature_size=num_mel_bins, sampling_rate=SAMPLING_RATE, return_attention_mask=True)


class ToxicityMTLProcessor(ProcessorMixin):
    """Prepares clips and targets for the models and reads their keyword logits.

    Args:
        feature_extractor: of the encoder's checkpoint.
        tokenizer: CTC character tokenizer whose vocabulary is that of the keyword head.
        keywords: the keyword list, or its dictionary form; the packaged English list by default.
        decoding: how keywords are decoded, or its dictionary form.
        language_model: path of a word n-gram model of substituted transcripts (ARPA or kenlm binary).

    Raises:
        ValueError: if a keyword or the filler word holds a character that the tokenizer does not know, or a decoding
            setting is out of range.
    """

    def __init__(
        self,
        feature_extractor: Wav2Vec2FeatureExtractor | WhisperFeatureExtractor,
        tokenizer: Wav2Vec2CTCTokenizer,
        keywords: KeywordList | dict | None = None,
        decoding: DecodingSettings | dict | None = None,
        language_model: str | PathLike | None = None,
    ):
        super().__init__(feature_extractor, tokenizer)
        if isinstance(keywords, dict):
            keywords = KeywordList.from_dict(keywords)
        self.keywords = KeywordList.default() if keywords is None else keywords
        if isinstance(decoding, dict):
            decoding = DecodingSettings(**decoding)
        self.decoding = DecodingSettings() if decoding is None else decoding
        self.language_model = None if language_model is None else str(language_model)
        vocabulary = tokenizer.get_vocab()
        # some checkpoints know capital letters only
        self._upper_case = "A" in vocabulary and "a" not in vocabulary
        _check_alphabet(self.keywords.words, self._characters)

    @classmethod
    def from_checkpoint(
        cls,
        name_or_path: str,
        keywords: KeywordList | None = None,
        revision: str = "main",
        tokenizer: Wav2Vec2CTCTokenizer | None = None,
    ) -> "ToxicityMTLProcessor":
        """The processor to fine-tune a checkpoint with: its own tokenizer and feature extractor, where it has them.

        Args:
            name_or_path: folder or Hub id of an encoder's checkpoint, with or without heads, or of a model of this
                package.
            keywords: the keyword list; by default that of the checkpoint, or else the packaged one. Decoding settings
                and language model are those of the checkpoint, where it has them.
            revision: branch, tag or commit of a Hub checkpoint.
            tokenizer: another than the checkpoint's, see [`alphabet_tokenizer`].
        """

        if has_file(name_or_path, PROCESSOR_NAME, revision=revision):
            saved = cls.from_pretrained(name_or_path, revision=revision)
            keywords = saved.keywords if keywords is None else keywords
            parts = (saved.feature_extractor, tokenizer or saved.tokenizer, keywords, saved.decoding)
            return cls(*parts, saved.language_model)

        def load(part, default):
            try:
                return part.from_pretrained(name_or_path, revision=revision)
            except (OSError, TypeError, ValueError):  # a bare encoder has no tokenizer; transformers raises any
                return default()

        config = load(AutoConfig, WavLMToxicityMTLConfig)
        if configuration_for(config.model_type) is WhisperToxicityMTLConfig:  # its own tokens are no characters
            feature_extractor = load(WhisperFeatureExtractor, lambda: mel_feature_extractor(config.num_mel_bins))
            return cls(feature_extractor, tokenizer or character_tokenizer(), keywords)
        feature_extractor = load(Wav2Vec2FeatureExtractor, speech_feature_extractor)
        return cls(feature_extractor, tokenizer or load(Wav2Vec2CTCTokenizer, character_tokenizer), keywords)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike, **kwargs) -> "ToxicityMTLProcessor":
        """As [`ProcessorMixin.from_pretrained`]; fetches the language model too, where the checkpoint has one.

        Raises:
            OSError: also if the language model that the processor names is missing.
        """
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if processor.language_model is not None and "language_model" not in kwargs:
            hub = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
            try:
                processor.language_model = cached_file(
                    pretrained_model_name_or_path,
                    processor.language_model,
                    **{name: kwargs[name] for name in hub if name in kwargs},
                )
            except OSError as error:
                raise OSError(
                    f"{pretrained_model_name_or_path} lacks the language model that its {PROCESSOR_NAME} names, "
                    f"{processor.language_model}: restore the file, or load with `language_model=None`."
                ) from error
        return processor

    def save_pretrained(self, save_directory: str | PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """As [`ProcessorMixin.save_pretrained`]; the language model is copied into the folder."""
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        files = super().save_pretrained(save_directory, **kwargs)
        if self.language_model is not None:
            target = Path(save_directory, self._saved_language_model())
            target.parent.mkdir(exist_ok=True)
            if target.resolve() != Path(self.language_model).resolve():
                shutil.copyfile(self.language_model, target)
            files.append(str(target))
        return files

    def to_dict(self):
        output = super().to_dict()
        output["keywords"] = self.keywords.to_dict()
        output["decoding"] = asdict(self.decoding)
        output["language_model"] = self._saved_language_model()
        return output

    def _saved_language_model(self):
        """Where the language model lies in a model folder."""
        return None if self.language_model is None else f"{LANGUAGE_MODEL_FOLDER}/{Path(self.language_model).name}"

    def __call__(self, audio, sampling_rate: int | None = None, transcripts: str | list[str] | None = None, **kwargs):
        """Prepares a batch.

        Args:
            audio: one waveform of shape `(samples,)` or a list of them.
            sampling_rate: of the waveforms, in Hz; another rate than the model's is an error.
            transcripts: what is said in each clip, a string for a single one; gives `keyword_labels`.
            kwargs: passed to the feature extractor (`padding`, `return_tensors`, …).

        Returns:
            `BatchFeature` with `input_values` or `input_features` (see `input_name`), `attention_mask` and, with
            transcripts, `keyword_labels` (a list of id lists, not padded).

        Raises:
            ValueError: if there are more clips than transcripts, or fewer.
        """
        extract = self._mel_features if self.input_name == "input_features" else self.feature_extractor
        features = extract(audio, sampling_rate=sampling_rate, **kwargs)
        if transcripts is not None:
            transcripts = [transcripts] if isinstance(transcripts, str) else transcripts
            if len(transcripts) != len(features[self.input_name]):
                raise ValueError(
                    f"There are {len(features[self.input_name])} clips, but {len(transcripts)} transcripts."
                )
            features["keyword_labels"] = [self.encode_keywords(transcript) for transcript in transcripts]
        return features

    @property
    def input_name(self) -> str:
        """The model's main input: "input_values" or "input_features"."""
        return self.feature_extractor.model_input_names[0]

    def _mel_features(self, audio, sampling_rate, padding=False, return_tensors=None, return_attention_mask=True):
        """Log-mel features of each clip by itself, `(mel bins, mel frames)`."""
        clips = [audio] if isinstance(audio, torch.Tensor | np.ndarray) and audio.ndim == 1 else audio
        clips = [clips] if np.ndim(clips[0]) == 0 else clips
        features = [
            self.feature_extractor(
                np.asarray(clip, dtype=np.float32), sampling_rate=sampling_rate, padding=False, return_tensors="np"
            )["input_features"][0]
            for clip in clips
        ]
        if return_tensors is None and not padding:
            return BatchFeature({"input_features": features})
        return self.pad({"input_features": features}, return_tensors=return_tensors)

    def pad(self, features: dict[str, list[np.ndarray]], return_tensors: str | None = "pt") -> BatchFeature:
        """Pads clips to a batch.

        Args:
            features: as the processor gives them without padding, under `input_name`.
            return_tensors: "pt" or "np".

        Returns:
            `BatchFeature` with `input_values` `(B, samples)` or `input_features` `(B, mel bins, mel frames)`, and
            `attention_mask` `(B, samples or mel frames)`, 1 on what belongs to the clip.
        """
        is_mel = self.input_name == "input_features"
        arrays = [np.asarray(array).T if is_mel else array for array in features[self.input_name]]  # time comes first
        batch = self.feature_extractor.pad(
            {self.input_name: arrays},
            padding=True,
            return_attention_mask=True,  # the model needs it, whatever the checkpoint's own default is
            return_tensors=return_tensors,
        )
        if is_mel:
            batch["input_features"] = batch["input_features"].swapaxes(1, 2)
        return batch

    def encode_keywords(self, transcript: str) -> list[int]:
        """Character ids of the keyword target: the transcript with every word that is no keyword replaced by the
        filler (paper, section 3.2)."""
        target = self.keywords.substitute(transcript)
        ids = self.tokenizer(target.upper() if self._upper_case else target).input_ids
        if self.tokenizer.unk_token_id in ids:  # the list was edited since it was checked
            _check_alphabet(self.keywords.words, self._characters)
        return ids or [self.tokenizer.pad_token_id]  # the blank alone: nothing is said

    def decode_keywords(
        self,
        keyword_logits: np.ndarray,
        config: PreTrainedConfig,
        num_samples: list[int] | None = None,
        decoder: str | None = None,
    ) -> list[DecodedClip]:
        """Reads keywords, with times and scores, from the model's `keyword_logits`.

        Args:
            keyword_logits: `(clips, frames, characters)`, array or tensor.
            config: of the model: it tells how many samples a frame is.
            num_samples: length of each clip in samples; without it every frame counts.
            decoder: "lexicon", "pyctcdecode" or "greedy"; by default that of `decoding`.

        Returns:
            one `DecodedClip` per clip; its keywords are in order of time and lie inside the clip.

        Raises:
            ValueError: the logits have another shape, or another alphabet than the tokenizer, the edited list has
                characters outside it, or there is no such decoder.
            FileNotFoundError: the language model is gone.
            ImportError: pyctcdecode is asked for and not installed.
        """
        if isinstance(keyword_logits, torch.Tensor):
            keyword_logits = keyword_logits.detach().float().cpu()
        logits = np.asarray(keyword_logits, dtype=np.float32)
        if logits.ndim != 3:
            raise ValueError(f"`keyword_logits` must be (clips, frames, characters), but is of shape {logits.shape}.")
        if num_samples is None:
            num_samples = [logits.shape[1] * config.inputs_to_logits_ratio] * len(logits)
            num_frames = [logits.shape[1]] * len(logits)
        else:
            num_frames = [max(int(config.num_frames(int(samples))), 0) for samples in num_samples]
        reader = self.decoder(decoder)
        rate = self.feature_extractor.sampling_rate
        clips = []
        for clip_logits, frames, samples in zip(logits, num_frames, num_samples, strict=True):
            words = reader.decode(log_softmax(clip_logits[:frames]))
            seconds_per_frame = config.inputs_to_logits_ratio / rate
            clips.append(self._find_keywords(words, seconds_per_frame, duration=int(samples) / rate))
        return clips

    def decoder(self, name: str | None = None) -> Decoder:
        """The decoder of a name, by default that of `decoding`, for the list as it is now. Errors are those of
        `decode_keywords`."""
        settings = self.decoding if name is None else replace(self.decoding, decoder=name)
        return _build_decoder(
            settings,
            self._characters,
            self.tokenizer.pad_token_id,
            self.tokenizer.word_delimiter_token_id,
            self.keywords.words,
            tuple(self.keywords.decodable.items()),
            self.keywords.filler,
            None if name == "greedy" else usable_language_model(self.language_model),
        )

    def _find_keywords(self, words: list[DecodedWord], seconds_per_frame: float, duration: float) -> DecodedClip:
        texts = [word.text for word in words]
        keywords, sequence, position = [], [], 0
        for match in self.keywords.find(texts):
            said = words[match.start : match.end]
            sequence += texts[position : match.start]
            position = match.end
            score = min(word.score for word in said)
            if score < self.keywords.threshold_of(match.keyword):
                sequence += [self.keywords.filler] * len(said)
                continue
            start, end = (
                min(frame * seconds_per_frame, duration) for frame in (said[0].start_frame, said[-1].end_frame)
            )
            keywords.append(DetectedKeyword(match.keyword, self.keywords.labels_of(match.keyword), start, end, score))
            sequence.append(match.keyword)
        return DecodedClip(keywords, sequence + texts[position:])

    @property
    def _characters(self) -> tuple[str, ...]:
        """The tokenizer's, by id, in the list's lower case."""
        characters = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        return tuple(map(str.lower, characters) if self._upper_case else characters)


def _check_alphabet(words, characters):
    for word in sorted(words):
        missing = set(word).difference(characters)
        if missing:
            raise ValueError(
                f"The word {word!r} of the keyword list holds {sorted(missing)}, which the tokenizer's vocabulary "
                "lacks: change the list, or train a keyword head on a vocabulary that has them."
            )


@lru_cache(maxsize=8)
def _build_decoder(settings, characters, blank, delimiter, words, spellings, filler, language_model) -> Decoder:
    """Arguments as of the decoders, but hashable; the list may have been edited since its words were checked."""
    _check_alphabet(words, characters)
    vocabulary = list(characters)
    # a variant that no head can write still counts in transcripts
    spellings = {spelling: word for spelling, word in spellings if not set(spelling).difference(characters)}
    if settings.decoder == "greedy":
        return GreedyDecoder(vocabulary, blank, delimiter)
    language_model = None if language_model is None else load_language_model(*language_model)
    common = {"alpha": settings.alpha, "beta": settings.beta, "beam_width": settings.beam_width}
    if settings.decoder == "pyctcdecode":
        return PyctcdecodeDecoder(
            vocabulary,
            blank,
            delimiter,
            words=spellings,
            keywords=set(spellings) - {filler},
            language_model=language_model,
            hotword_weight=settings.hotword_weight,
            **common,
        )
    return LexiconDecoder(
        vocabulary,
        blank,
        delimiter,
        spellings,
        filler,
        language_model,
        blank_threshold=settings.blank_threshold,
        other_word_penalty=settings.other_word_penalty,
        **common,
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log posteriors from the logits of each frame, as decoders read them."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
