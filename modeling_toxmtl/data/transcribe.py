"""Stage 2: transcribes the chunks: words with times and scores, phrases, language, confidence (paper, section 2).

    toxmtl data transcribe --asr-model openai/whisper-small --work-dir work
    toxmtl data transcribe --transcripts words.jsonl --work-dir work

Any CTC or Whisper model of transformers, faster-whisper (`--asr-model faster-whisper:small`, extra `faster-whisper`),
or transcripts that exist already. Chunks that cannot be decoded, or in which no word is recognised, go to the
quarantine list: nobody knows what is in them.

Design choices:
- Batches never reach beyond a shard, so a shard's rows do not depend on who makes it and after which others.
- A model gets a GPU if there is one.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from datasets import Features, List, Value
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    pipeline,
)
from transformers.utils import logging

from ..audio import SAMPLING_RATE, load_audio
from ..decoding import GreedyDecoder
from ..io.files import file_hash
from ..io.tables import read_table
from .chunk import ChunkStage
from .shards import ROWS_AT_ONCE, Rejected, batched, read_rows
from .stages import Manifest, WorkArguments, model_version, read_manifest, run_stage


logger = logging.get_logger(__name__)

FASTER_WHISPER = "faster-whisper:"
SENTENCE_ENDS = (".", "!", "?")


class Word(NamedTuple):
    """A word said from `start` to `end`, in seconds of the chunk; `score` in [0, 1]."""

    word: str
    start: float
    end: float
    score: float


class Transcription(NamedTuple):
    """What is said in a chunk. `confidence` is in [0, 1], `language` empty where the recogniser does not tell."""

    words: list[Word]
    language: str
    confidence: float


class Recognizer(Protocol):
    """Hears clips."""

    def __call__(self, clips: Sequence[np.ndarray]) -> list[Transcription]:
        """`clips` are float32 samples of 16 kHz, each of shape `(samples,)`."""


class CTCRecognizer:
    """A CTC model, read greedily. A clip's confidence is the mean of its words' scores."""

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


class FasterWhisperRecognizer:
    """faster-whisper (CTranslate2), several times as fast on processors."""

    def __init__(self, name: str, language: str | None = None) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ImportError(
                "faster-whisper is not installed: pip install 'modeling-toxmtl[faster-whisper]'."
            ) from error
        self.model, self.language = WhisperModel(name), language

    def __call__(self, clips: Sequence[np.ndarray]) -> list[Transcription]:
        return [self._hear(clip) for clip in clips]

    def _hear(self, clip):
        segments, info = self.model.transcribe(clip, language=self.language, word_timestamps=True)
        words = [
            Word(word.word.strip(), word.start, word.end, word.probability)
            for segment in segments
            for word in segment.words
        ]
        return Transcription(words, info.language, float(np.mean([word.score for word in words])) if words else 0.0)


class GivenTranscripts:
    """Transcripts that exist already, by recording.

    Args:
        path: table (.csv, .tsv, .jsonl) with a line per utterance or word: `path` of the recording, relative to the
            table, `track` (default 0), `start` and `end` in seconds, `text`, and `language` if known.

    Raises:
        ValueError: if a row lacks a value, its numbers are none, or no row has a text; the message names the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._words: dict[tuple[str, int], list[Word]] = {}
        self._languages: dict[str, str] = {}
        for number, row in enumerate(read_table(Path(path), required=["path", "start", "end"]), start=1):
            recording = os.path.abspath(Path(path).parent / str(row["path"]))
            try:
                track, start, end = int(row.get("track") or 0), float(row["start"]), float(row["end"])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, row {number}: `track`, `start` or `end` is no number ({error}).") from error
            words = spread_words(str(row.get("text") or ""), start, end)
            self._words.setdefault((recording, track), []).extend(words)
            self._languages[recording] = row.get("language") or ""
        if not any(self._words.values()):
            raise ValueError(f"{path} has no words: give them in a column `text`.")

    def check_recordings(self, chunks: Manifest) -> None:
        """Warns of transcripts whose recording the chunk stage has not met; ValueError if that is so for all."""
        met = {row["source_path"] for shard in chunks.shards for row in read_rows(shard.path, ["source_path"])}
        met |= {rejected.id for rejected in chunks.rejected}
        if not (unknown := sorted(self._languages.keys() - set(map(os.path.abspath, met)))):
            return
        message = (
            f"--transcripts {self.path}: {len(unknown)} of its {len(self._languages)} recordings were not chunked, "
            f"such as {unknown[0]}; a `path` is relative to the table."
        )
        if len(unknown) == len(self._languages):
            raise ValueError(message)
        logger.warning(message)

    def look_up(self, row: dict) -> Transcription:
        """The words whose middle is in the chunk `row`, in the time of the chunk."""
        recording = os.path.abspath(row["source_path"])
        words = [
            word._replace(start=word.start - row["start"], end=word.end - row["start"])
            for word in self._words.get((recording, row["track"]), [])
            if row["start"] <= (word.start + word.end) / 2 < row["end"]
        ]
        return Transcription(words, self._languages.get(recording, ""), 1.0)


def spread_words(text: str, start: float, end: float) -> list[Word]:
    """The words of a text said from `start` to `end`, each as long as it has letters."""
    words = text.split()
    bounds = np.cumsum([0, *(len(word) + 1 for word in words)])
    times = (start + (end - start) * bounds / max(1, bounds[-1])).tolist()
    return [Word(word, begin, stop, 1.0) for word, begin, stop in zip(words, times[:-1], times[1:], strict=True)]


def split_phrases(words: Sequence[Word], max_pause: float) -> list[list[Word]]:
    """Phrases end at pauses of more than `max_pause` seconds, and at the punctuation that ends a sentence."""
    phrases: list[list[Word]] = []
    for word in words:
        before = phrases[-1][-1] if phrases else None
        if before is None or word.start - before.end > max_pause or before.word.endswith(SENTENCE_ENDS):
            phrases.append([])
        phrases[-1].append(word)
    return phrases


def best_device() -> torch.device:
    """The first GPU, or else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class TranscribeStage:
    """Who transcribes."""

    asr_model: str = field(
        default="openai/whisper-small",
        metadata={"help": "Whisper or CTC model of transformers, a Hub id or folder; or faster-whisper:SIZE."},
    )
    asr_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    asr_batch_size: int = field(default=16, metadata={"help": "Chunks that the model hears at once."})
    language: str | None = field(
        default=None, metadata={"help": "Language that Whisper writes; default: as it hears it."}
    )
    transcripts: str | None = field(
        default=None,
        metadata={"help": "Table of existing transcripts (path, track, start, end, text), instead of a model."},
    )
    phrase_pause: float = field(default=0.5, metadata={"help": "Seconds; a longer pause ends a phrase."})

    name = "transcribe"
    features = Features(
        {
            **{column: kind for column, kind in ChunkStage.features.items() if column != "audio"},
            "transcript": Value("string"),
            "words": List(
                {
                    "word": Value("string"),
                    "start": Value("float32"),
                    "end": Value("float32"),
                    "score": Value("float32"),
                }
            ),
            "phrases": List({"text": Value("string"), "start": Value("float32"), "end": Value("float32")}),
            "language": Value("string"),
            "confidence": Value("float32"),
            "asr": Value("string"),
        }
    )

    @property
    def uses_model(self) -> bool:
        """Whether a recogniser is needed."""
        return self.transcripts is None

    @functools.cached_property
    def asr(self) -> str:
        """The recogniser and its revision."""
        if self.transcripts:
            return f"transcripts@{file_hash(self.transcripts)[:16]}"
        if self.asr_model.startswith(FASTER_WHISPER):
            return self.asr_model
        return model_version(self.asr_model, self.asr_revision)

    def settings(self) -> dict:
        """As of [`Stage`]."""
        arguments = {name: value for name, value in asdict(self).items() if name not in ("transcripts", "asr_model")}
        return arguments | {"asr": self.asr}  # names and contents, not paths

    @functools.cached_property
    def _recognizer(self) -> Recognizer:
        if self.asr_model.startswith(FASTER_WHISPER):
            return FasterWhisperRecognizer(self.asr_model.removeprefix(FASTER_WHISPER), self.language)
        config = AutoConfig.from_pretrained(self.asr_model, revision=self.asr_revision)
        if config.model_type == "whisper":
            return WhisperRecognizer(self.asr_model, self.asr_revision, self.language)
        if not any(name.endswith("ForCTC") for name in config.architectures or ()):
            raise ValueError(f"--asr_model {self.asr_model} is {config.architectures}: give a Whisper or CTC model.")
        return CTCRecognizer(self.asr_model, self.asr_revision)

    @functools.cached_property
    def _given(self) -> GivenTranscripts:
        return GivenTranscripts(self.transcripts)

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        for group in batched(rows, ROWS_AT_ONCE):
            heard = [self._given.look_up(row) for row in group] if self.transcripts else self._hear(group)
            for row, transcription in zip(group, heard, strict=True):
                yield transcription if isinstance(transcription, Rejected) else self._row(row, transcription)

    def _hear(self, rows):
        """Clips of about the same length at once: what pads the shorter ones is computed for nothing."""
        heard: list[Transcription | Rejected | None] = [None] * len(rows)
        clips = {}
        for index, row in enumerate(rows):
            try:
                clips[index] = load_audio(row["audio"]["bytes"])
            except ValueError as error:
                heard[index] = Rejected(row["id"], f"{row['source_path']}, from {row['start']:.2f} s: {error}")
        by_length = sorted(clips, key=lambda index: len(clips[index]))
        for batch in batched(by_length, self.asr_batch_size):
            for index, transcription in zip(batch, self._recognizer([clips[i] for i in batch]), strict=True):
                heard[index] = transcription
        return heard

    def _row(self, row, transcription):
        if not transcription.words:
            return Rejected(row["id"], "no word recognised")
        phrases = split_phrases(transcription.words, self.phrase_pause)
        return {
            **{name: value for name, value in row.items() if name != "audio"},
            "transcript": " ".join(word.word for word in transcription.words),
            "words": [word._asdict() for word in transcription.words],
            "phrases": [
                {"text": " ".join(word.word for word in words), "start": words[0].start, "end": words[-1].end}
                for words in phrases
            ],
            "language": transcription.language,
            "confidence": transcription.confidence,
            "asr": self.asr,
        }

    def __getstate__(self) -> dict:
        """Workers load the model themselves; what it is called is known."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_recognizer", "_given")}


def run(stage: TranscribeStage, work: WorkArguments) -> Manifest:
    """Runs the stage; returns what it made."""
    chunks = read_manifest(work.work_dir, "chunk")
    if stage.transcripts:
        stage._given.check_recordings(chunks)
    return run_stage(stage, chunks.shards, work)


def main(stage: TranscribeStage, work: WorkArguments) -> None:
    """Runs the stage and says how much it made."""
    manifest = run(stage, work)
    print(f"{manifest.num_rows} chunks transcribed, {len(manifest.rejected)} in quarantine.")
