"""Processor: waveforms in, keyword targets in, keywords out.

Design choices:
- The feature extractor decides what the encoder hears: normalised waveforms (`input_values`) for WavLM, log-mel
  features (`input_features`) for Whisper, which are made of each clip alone and never padded to 30 s.
- The keyword list is part of the processor and is saved in its `processor_config.json`, so a pushed model carries the
  list it obeys.
- The decoding settings are saved beside it, and the language model and the common words as files in `language_model/`.
  The processor keeps their paths only (a processor is copied and pickled), and reads them when it first decodes.
- The keyword head learns to write the keywords alone (`keyword_target`), as in the paper, or all words: then a keyword
  that joins the list later is heard without training.
- Decoders are made from the list as it is at each call and cached by its content, so edits act at once.
- The character vocabulary belongs to the tokenizer. A checkpoint's own tokenizer is kept, so that its trained keyword
  head keeps its meaning.
"""

import shutil
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path

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

from .alphabet import character_tokenizer, check_words
from .audio import SAMPLING_RATE
from .configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig, configuration_for
from .decoders import build_decoder, log_softmax
from .decoding import DecodedClip, DecodedWord, Decoder, DecodingSettings, DetectedKeyword
from .hub import HUB_OPTIONS
from .keywords import KeywordList
from .language_model import usable_common_words, usable_language_model


KEYWORD_TARGETS = ("keywords", "transcript")
LANGUAGE_MODEL_FOLDER = "language_model"  # in a model folder
LANGUAGE_FILES = ("language_model", "common_words")  # attributes that are paths, of files in that folder


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
        keyword_target: what the keyword head writes: "keywords" (every other word as the filler) or "transcript" (all
            words as they are said).
        common_words: path of a text file of words that are no keywords, one a line, the commonest first, which the
            lexicon decoder lets compete with the keywords where the head writes all words.

    Raises:
        ValueError: if a keyword or the filler word holds a character that the tokenizer does not know, a decoding
            setting is out of range, or there is no such target.
    """

    def __init__(
        self,
        feature_extractor: Wav2Vec2FeatureExtractor | WhisperFeatureExtractor,
        tokenizer: Wav2Vec2CTCTokenizer,
        keywords: KeywordList | dict | None = None,
        decoding: DecodingSettings | dict | None = None,
        language_model: str | PathLike | None = None,
        keyword_target: str = "keywords",
        common_words: str | PathLike | None = None,
    ):
        super().__init__(feature_extractor, tokenizer)
        if isinstance(keywords, dict):
            keywords = KeywordList.from_dict(keywords)
        self.keywords = KeywordList.default() if keywords is None else keywords
        if isinstance(decoding, dict):
            decoding = DecodingSettings(**decoding)
        self.decoding = DecodingSettings() if decoding is None else decoding
        if keyword_target not in KEYWORD_TARGETS:
            raise ValueError(f"`keyword_target` is {keyword_target!r}: choose one of {', '.join(KEYWORD_TARGETS)}")
        self.keyword_target = keyword_target
        self.language_model = None if language_model is None else str(language_model)
        self.common_words = None if common_words is None else str(common_words)
        vocabulary = tokenizer.get_vocab()
        # some checkpoints know capital letters only
        self._upper_case = "A" in vocabulary and "a" not in vocabulary
        check_words(self.keywords.words, self._characters)

    @classmethod
    def from_checkpoint(
        cls,
        name_or_path: str,
        keywords: KeywordList | None = None,
        revision: str = "main",
        tokenizer: Wav2Vec2CTCTokenizer | None = None,
        keyword_target: str | None = None,
    ) -> "ToxicityMTLProcessor":
        """The processor to fine-tune a checkpoint with: its own tokenizer and feature extractor, where it has them.

        Args:
            name_or_path: folder or Hub id of an encoder's checkpoint, with or without heads, or of a model of this
                package.
            keywords: the keyword list; by default that of the checkpoint, or else the packaged one. Decoding settings,
                language model and common words are those of the checkpoint, where it has them.
            revision: branch, tag or commit of a Hub checkpoint.
            tokenizer: another than the checkpoint's, see `alphabet.py`.
            keyword_target: by default that of the checkpoint, or else "keywords".
        """

        if has_file(name_or_path, PROCESSOR_NAME, revision=revision):
            saved = cls.from_pretrained(name_or_path, revision=revision)
            keywords = saved.keywords if keywords is None else keywords
            parts = (saved.feature_extractor, tokenizer or saved.tokenizer, keywords, saved.decoding)
            target = keyword_target or saved.keyword_target
            return cls(*parts, saved.language_model, target, saved.common_words)

        def load(part, default):
            try:
                return part.from_pretrained(name_or_path, revision=revision)
            except (OSError, TypeError, ValueError):  # a bare encoder has no tokenizer; transformers raises any
                return default()

        config = load(AutoConfig, WavLMToxicityMTLConfig)
        if configuration_for(config.model_type) is WhisperToxicityMTLConfig:  # its own tokens are no characters
            feature_extractor = load(WhisperFeatureExtractor, lambda: mel_feature_extractor(config.num_mel_bins))
            tokenizer = tokenizer or character_tokenizer()
        else:
            feature_extractor = load(Wav2Vec2FeatureExtractor, speech_feature_extractor)
            tokenizer = tokenizer or load(Wav2Vec2CTCTokenizer, character_tokenizer)
        return cls(feature_extractor, tokenizer, keywords, keyword_target=keyword_target or "keywords")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike, **kwargs) -> "ToxicityMTLProcessor":
        """As [`ProcessorMixin.from_pretrained`]; fetches language model and common words too, where there are some.

        Raises:
            OSError: also if a file that the processor names is missing.
        """
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        options = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        for name in LANGUAGE_FILES:
            path = getattr(processor, name)
            if path is None or name in kwargs:
                continue
            try:
                setattr(processor, name, cached_file(pretrained_model_name_or_path, path, **options))
            except OSError as error:
                raise OSError(
                    f"{pretrained_model_name_or_path} lacks the {name.replace('_', ' ')} that its {PROCESSOR_NAME} "
                    f"names, {path}: restore the file, or load with `{name}=None`."
                ) from error
        return processor

    def save_pretrained(self, save_directory: str | PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """As [`ProcessorMixin.save_pretrained`]; language model and common words are copied into the folder."""
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        files = super().save_pretrained(save_directory, **kwargs)
        for name in LANGUAGE_FILES:
            if (source := getattr(self, name)) is None:
                continue
            target = Path(save_directory, self._saved(name))
            target.parent.mkdir(exist_ok=True)
            if target.resolve() != Path(source).resolve():
                shutil.copyfile(source, target)
            files.append(str(target))
        return files

    def to_dict(self):
        output = super().to_dict()
        output["keywords"] = self.keywords.to_dict()
        output["decoding"] = asdict(self.decoding)
        for name in LANGUAGE_FILES:
            output[name] = self._saved(name)
        return output

    def _saved(self, name):
        """Where a language file lies in a model folder."""
        path = getattr(self, name)
        return None if path is None else f"{LANGUAGE_MODEL_FOLDER}/{Path(path).name}"

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
    def model_input_names(self) -> list[str]:
        """What a model takes of a batch, beside its targets."""
        return [self.input_name, "attention_mask"]

    @property
    def input_name(self) -> str:
        """The model's main input: "input_values" or "input_features"."""
        return self.feature_extractor.model_input_names[0]

    def _mel_features(self, audio, sampling_rate, padding=False, return_tensors=None, return_attention_mask=True):
        """Log-mel features of each clip by itself, `(mel bins, mel frames)`."""
        clips = [audio] if isinstance(audio, torch.Tensor | np.ndarray) and audio.ndim == 1 else audio
        clips = [clips] if np.ndim(clips[0]) == 0 else clips
        options = {"sampling_rate": sampling_rate, "padding": False, "truncation": False, "return_tensors": "np"}
        features = [
            self.feature_extractor(np.asarray(clip, dtype=np.float32), **options)["input_features"][0]
            for clip in clips
        ]
        if return_tensors is None and not padding:
            return BatchFeature({"input_features": features})
        return self.pad({"input_features": features}, return_tensors=return_tensors or "np")

    def pad(self, features: dict[str, list[np.ndarray]], return_tensors: str = "pt") -> BatchFeature:
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
        """Character ids of the keyword target: the transcript, in which the filler stands for every word that is no
        keyword (paper, section 3.2) unless `keyword_target` is "transcript".

        Raises:
            ValueError: a word of the target holds a character that the tokenizer does not know.
        """
        if self.keyword_target == "transcript":
            target = " ".join(self.keywords.undisguise(transcript))
        else:
            target = self.keywords.substitute(transcript)
        ids = self.tokenizer(target.upper() if self._upper_case else target).input_ids
        if self.tokenizer.unk_token_id in ids:
            check_words(self.keywords.words, self._characters)  # the list was edited since it was checked
            unknown = sorted(set(target).difference(self._characters, " "))
            raise ValueError(f"the transcript holds {', '.join(unknown)}, which the tokenizer's vocabulary lacks")
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
            FileNotFoundError: the language model or the common words are gone.
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
        writes_all_words = self.keyword_target == "transcript"
        spellings = self.keywords.spellings if writes_all_words else self.keywords.decodable
        return build_decoder(
            settings,
            self._characters,
            self.tokenizer.pad_token_id,
            self.tokenizer.word_delimiter_token_id,
            self.keywords.words,
            tuple(spellings.items()),
            self.keywords.filler,
            None if settings.decoder == "greedy" else usable_language_model(self.language_model),
            usable_common_words(self.common_words) if writes_all_words else None,
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
