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
- The character vocabulary belongs to the tokenizer. A checkpoint's own tokenizer is kept, so that its trained keyword
  head keeps its meaning.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    BatchFeature,
    ProcessorMixin,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME
from transformers.utils.hub import cached_file, has_file

from .alphabet import Alphabet, character_tokenizer, check_words
from .configuration_toxmtl import WhisperToxicityMTLConfig, configuration_for
from .decoding import DecodingSettings
from .hub import HUB_OPTIONS
from .inputs import extract_features, mel_feature_extractor, pad_features, pad_targets, speech_feature_extractor
from .keyword_reader import KEYWORD_TARGETS, KeywordReader
from .keywords import KeywordList


LANGUAGE_MODEL_FOLDER = "language_model"  # in a model folder
PROCESSOR_FILES = (PROCESSOR_NAME, "vocab.json")  # what every saved processor has
LANGUAGE_FILES = ("language_model", "common_words")  # attributes that are paths, of files in that folder


class ToxicityMTLProcessor(KeywordReader, ProcessorMixin):
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
        check_words(self.keywords.words, self.alphabet.characters)

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

        Raises:
            OSError: if there is no checkpoint.
            ValueError: if it is of an architecture that does not fit, or one of its files cannot be read.
        """

        if has_file(name_or_path, PROCESSOR_NAME, revision=revision):
            saved = cls.from_pretrained(name_or_path, revision=revision)
            keywords = saved.keywords if keywords is None else keywords
            parts = (saved.feature_extractor, tokenizer or saved.tokenizer, keywords, saved.decoding)
            target = keyword_target or saved.keyword_target
            return cls(*parts, saved.language_model, target, saved.common_words)

        def load(part, file, default=None):
            if default is not None and not has_file(name_or_path, file, revision=revision):
                return default()  # a bare encoder has no tokenizer
            try:
                return part.from_pretrained(name_or_path, revision=revision)
            except (AttributeError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
                raise ValueError(f"{file} of {name_or_path} cannot be read ({error}): restore the file.") from error

        config = load(AutoConfig, CONFIG_NAME)
        if configuration_for(config.model_type) is WhisperToxicityMTLConfig:  # its own tokens are no characters
            default = partial(mel_feature_extractor, config.num_mel_bins)
            feature_extractor = load(WhisperFeatureExtractor, FEATURE_EXTRACTOR_NAME, default)
            tokenizer = tokenizer or character_tokenizer()
        else:
            feature_extractor = load(Wav2Vec2FeatureExtractor, FEATURE_EXTRACTOR_NAME, speech_feature_extractor)
            tokenizer = tokenizer or load(Wav2Vec2CTCTokenizer, "vocab.json", character_tokenizer)
        return cls(feature_extractor, tokenizer, keywords, keyword_target=keyword_target or "keywords")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike, **kwargs) -> "ToxicityMTLProcessor":
        """As [`ProcessorMixin.from_pretrained`]; fetches language model and common words too, where there are some.

        Raises:
            OSError: also if a file is missing that a processor is made of, or that it names.
        """
        options = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        try:
            processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except Exception as error:  # of a missing tokenizer, transformers says that sentencepiece is missing
            folder = Path(pretrained_model_name_or_path, kwargs.get("subfolder", ""))
            missing = [name for name in PROCESSOR_FILES if not (folder / name).is_file()]
            if not missing or not folder.is_dir():
                raise
            raise OSError(
                f"{folder} has no {' and no '.join(missing)}: restore what is missing, or make a processor for an "
                "encoder's checkpoint with `ToxicityMTLProcessor.from_checkpoint`."
            ) from error
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

    def to_dict(self) -> dict:
        """What `processor_config.json` holds."""
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

    def __call__(
        self,
        audio: np.ndarray | torch.Tensor | Sequence | None = None,
        text: str | Sequence[str] | None = None,
        *,
        sampling_rate: int | None = None,
        padding: bool | str = False,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Prepares a batch.

        Args:
            audio: one waveform of shape `(samples,)` or a list of them.
            text: what is said in each clip, a string for a single one; gives `keyword_labels`.
            sampling_rate: of the waveforms, in Hz; another rate than the model's is an error.
            padding, max_length, pad_to_multiple_of: see [`pad`].
            return_attention_mask: with what is padded.
            return_tensors: "pt" or "np"; pads too.

        Returns:
            `BatchFeature` of [`pad`], or without padding and tensors the list of each clip's `input_values` or
            `input_features` (see `input_name`) and the list of its `keyword_labels`.

        Raises:
            ValueError: if there is neither audio nor text, or there are more clips than texts, or fewer.
            TypeError: for an argument that there is not.
        """
        if audio is None and text is None:
            raise ValueError("There is nothing to prepare: give `audio`, `text`, or both.")
        features = (
            {} if audio is None else {self.input_name: extract_features(self.feature_extractor, audio, sampling_rate)}
        )
        if text is not None:
            texts = [text] if isinstance(text, str) else text
            if audio is not None and len(texts) != len(features[self.input_name]):
                raise ValueError(f"There are {len(features[self.input_name])} clips, but {len(texts)} texts.")
            features["keyword_labels"] = [self.encode_keywords(each) for each in texts]
        if not padding and return_tensors is None:
            return BatchFeature(features)
        batch = self.pad(features, return_tensors or "np", padding or True, max_length, pad_to_multiple_of)
        if not return_attention_mask:
            batch.pop("attention_mask", None)
        return batch

    @property
    def model_input_names(self) -> list[str]:
        """What a model takes of a batch, beside its targets."""
        return [self.input_name, "attention_mask"]

    @property
    def input_name(self) -> str:
        """The model's main input: "input_values" or "input_features"."""
        return self.feature_extractor.model_input_names[0]

    def pad(
        self,
        features: dict[str, list] | Sequence[dict],
        return_tensors: str = "pt",
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> BatchFeature:
        """Pads clips and targets to a batch.

        Args:
            features: as the processor gives them without padding, or one such dictionary for each clip; `labels` may
                stand beside them.
            return_tensors: "pt" or "np".
            padding: True or "longest", or "max_length".
            max_length: samples or mel frames to pad to, with "max_length".
            pad_to_multiple_of: makes the length a multiple.

        Returns:
            `BatchFeature` with `input_values` `(B, samples)` or `input_features` `(B, mel bins, mel frames)`,
            `attention_mask` `(B, samples or mel frames)`, 1 on what belongs to the clip, and those there are of
            `keyword_labels` `(B, S)`, padded with -100, and `labels` `(B, L)`.

        Raises:
            ValueError: for an entry of another name.
        """
        if not isinstance(features, Mapping):
            features = {name: [item[name] for item in features] for name in features[0]}
        known = (*self.model_input_names, "keyword_labels", "labels")
        if unknown := sorted(features.keys() - set(known)):
            raise ValueError(f"There is {', '.join(unknown)} to pad, but only {', '.join(known)} can be.")
        batch = {}
        if self.input_name in features:
            clips = features[self.input_name]
            batch |= pad_features(self.feature_extractor, clips, padding, max_length, pad_to_multiple_of)
        if "labels" in features:
            batch["labels"] = np.stack(features["labels"])
        if "keyword_labels" in features:
            batch["keyword_labels"] = pad_targets(features["keyword_labels"])
        return BatchFeature(batch, tensor_type=return_tensors)

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
        ids = self.tokenizer(target.upper() if self.alphabet.is_upper_case else target).input_ids
        if self.tokenizer.unk_token_id in ids:
            characters = self.alphabet.characters
            check_words(self.keywords.words, characters)  # the list was edited since it was checked
            unknown = sorted(set(target).difference(characters, " "))
            raise ValueError(f"the transcript holds {', '.join(unknown)}, which the tokenizer's vocabulary lacks")
        return ids or [self.tokenizer.pad_token_id]  # the blank alone: nothing is said

    @property
    def alphabet(self) -> Alphabet:
        """Of the tokenizer."""
        tokens = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        return Alphabet.of_tokens(tokens, self.tokenizer.pad_token_id, self.tokenizer.word_delimiter_token_id)

    @property
    def sampling_rate(self) -> int:
        """Of the feature extractor, in Hz."""
        return self.feature_extractor.sampling_rate
