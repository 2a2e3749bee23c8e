"""Stage 2: transcribes the chunks: words with times and scores, phrases, language, confidence (paper, section 2).

    toxmtl data transcribe --asr-model openai/whisper-small --work-dir work
    toxmtl data transcribe --transcripts words.jsonl --work-dir work

Any model of transformers that is a Whisper, or has CTC and hears waveforms (wav2vec 2.0, HuBERT, WavLM and their like;
Wav2Vec2-BERT and Parakeet hear features), faster-whisper (`--asr-model faster-whisper:small`, or a folder in place of
the size; extra `faster-whisper`), or transcripts that exist already. Chunks that cannot be decoded, or in which no
word is recognised, go to the quarantine list: nobody knows what is in them.

Design choices:
- Batches never reach beyond a shard, so a shard's rows do not depend on who makes it and after which others.
- A model gets a GPU if there is one.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from datasets import Features, List, Value

from ..audio import SAMPLING_RATE, load_audio
from ..io.files import file_hash
from ..io.tables import batched
from .chunk import ChunkStage
from .shards import ROWS_AT_ONCE, Rejected
from .speech_spans import QUIETEST_SPEECH, is_silence
from .stages import Manifest, WorkArguments, read_manifest, run_stage
from .transcripts import GivenTranscripts, Transcription, Word, split_phrases


FASTER_WHISPER = "faster-whisper:"


class Recognizer(Protocol):
    """Hears clips."""

    def __call__(self, clips: Sequence[np.ndarray]) -> list[Transcription]:
        """`clips` are float32 samples of 16 kHz, each of shape `(samples,)`."""


def faster_whisper_folder(name: str) -> str:
    """The folder of a model in CTranslate2's format; a size or Hub id is downloaded.

    Raises:
        ImportError: faster-whisper is not installed.
        FileNotFoundError: the weights are not here, and no hub is reachable.
    """
    try:
        from faster_whisper import download_model
    except ImportError as error:
        raise ImportError("faster-whisper is not installed: pip install 'modeling-toxmtl[faster-whisper]'.") from error
    try:
        folder = name if Path(name).is_dir() else download_model(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The weights of faster-whisper's {name!r} are not here, and the Hub is not reachable: download them "
            f"where it is, and give their folder (--asr-model {FASTER_WHISPER}FOLDER)."
        ) from error
    if not Path(folder, "model.bin").exists():
        raise FileNotFoundError(
            f"--asr-model {FASTER_WHISPER}{name}: {folder} has no model.bin, CTranslate2's weights."
        )
    return folder


class FasterWhisperRecognizer:
    """faster-whisper (CTranslate2), several times as fast on processors.

    Args:
        name: size, Hub id or folder of a model in CTranslate2's format.
        language: that is spoken; default: as the model hears it.
        compute_type: CTranslate2's, such as "float32" or "int8"; default: that of the weights, where the processor
            has it.
        cpu_threads: 0 for CTranslate2's choice.

    Raises:
        As [`faster_whisper_folder`].
    """

    def __init__(
        self, name: str, language: str | None = None, compute_type: str = "default", cpu_threads: int = 0
    ) -> None:
        folder = faster_whisper_folder(name)
        from faster_whisper import WhisperModel

        self.model = WhisperModel(folder, compute_type=compute_type, cpu_threads=cpu_threads)
        self.language = language

    def __call__(self, clips: Sequence[np.ndarray]) -> list[Transcription]:
        """As of [`Recognizer`]."""
        return [self._hear(clip) for clip in clips]

    def _hear(self, clip):
        segments, info = self.model.transcribe(clip, language=self.language, word_timestamps=True)
        words = [
            Word(word.word.strip(), word.start, word.end, word.probability)
            for segment in segments
            for word in segment.words
        ]
        return Transcription(words, info.language, float(np.mean([word.score for word in words])) if words else 0.0)


@dataclass
class TranscribeStage:
    """Who transcribes."""

    asr_model: str = field(
        default="openai/whisper-small",
        metadata={
            "help": "Whisper model of transformers, or CTC model that hears waveforms (wav2vec 2.0, HuBERT, WavLM), a "
            "Hub id or folder; or faster-whisper:SIZE, or :FOLDER."
        },
    )
    asr_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    asr_batch_size: int = field(default=16, metadata={"help": "Chunks that the model hears at once."})
    language: str | None = field(
        default=None, metadata={"help": "Language that Whisper writes, such as en; default: as it hears it."}
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
        from .models import model_version  # it loads transformers, which workers with transcripts do without

        if self.asr_model.startswith(FASTER_WHISPER):
            name = self.asr_model.removeprefix(FASTER_WHISPER)
            return FASTER_WHISPER + (model_version(name) if Path(name).is_dir() else name)
        return model_version(self.asr_model, self.asr_revision)

    def settings(self) -> dict:
        """As of [`Stage`]."""
        arguments = {name: value for name, value in asdict(self).items() if name not in ("transcripts", "asr_model")}
        return arguments | {"asr": self.asr}  # names and contents, not paths

    def check(self) -> None:
        """Raises ValueError, OSError or ImportError for what would stop the stage at its first row: the recogniser's
        library, a model or a table of transcripts that is not there, a language that Whisper does not know."""
        if self.transcripts:
            self._given  # noqa: B018
            return
        from .models import WHISPER_LANGUAGES, find_recognizer

        if self.asr_model.startswith(FASTER_WHISPER):
            faster_whisper_folder(self.asr_model.removeprefix(FASTER_WHISPER))
        elif find_recognizer(self.asr_model, self.asr_revision).model_type != "whisper":
            return
        if self.language is not None and self.language not in WHISPER_LANGUAGES:
            raise ValueError(f"--language {self.language}: Whisper knows {', '.join(WHISPER_LANGUAGES)}.")

    @functools.cached_property
    def _recognizer(self) -> Recognizer:
        if self.asr_model.startswith(FASTER_WHISPER):
            return FasterWhisperRecognizer(self.asr_model.removeprefix(FASTER_WHISPER), self.language)
        from .recognizers import load_recognizer  # it needs PyTorch

        return load_recognizer(self.asr_model, self.asr_revision, self.language)

    @functools.cached_property
    def _given(self) -> GivenTranscripts:
        return GivenTranscripts(self.transcripts)

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        """Rows of chunks with their words."""
        if self.transcripts:
            yield from self._look_up(rows)
            return
        for group in batched(rows, ROWS_AT_ONCE):
            for row, transcription in zip(group, self._hear(group), strict=True):
                yield transcription if isinstance(transcription, Rejected) else self._row(row, transcription)

    def _look_up(self, rows):
        """A shard has all chunks of a track, one after the other: what is in none of them is not used, and said."""
        for (path, track), chunks in itertools.groupby(rows, lambda row: (row["source_path"], row["track"])):
            spans = []
            for row in chunks:
                spans.append((row["start"], row["end"]))
                yield self._row(row, self._given.look_up(row))
            if reason := self._given.outside(path, track, spans):
                yield Rejected(f"{path}#{track}", reason)

    def _hear(self, rows):
        """Clips of about the same length at once: what pads the shorter ones is computed for nothing."""
        heard: list[Transcription | Rejected | None] = [None] * len(rows)
        clips = {}
        for index, row in enumerate(rows):
            try:
                samples = load_audio(row["audio"]["bytes"])
                if is_silence(samples, SAMPLING_RATE):  # in which recognisers hear words nevertheless
                    heard[index] = Rejected(row["id"], f"silence: no louder than {QUIETEST_SPEECH:g} dB")
                else:
                    clips[index] = samples
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
    stage.check()
    chunks = read_manifest(work.work_dir, "chunk")
    if stage.transcripts:
        stage._given.check_recordings(chunks)
    return run_stage(stage, chunks.shards, work)


def main(stage: TranscribeStage, work: WorkArguments) -> None:
    """Runs the stage and says how much it made."""
    manifest = run(stage, work)
    print(f"{manifest.num_rows} chunks transcribed, {len(manifest.rejected)} in quarantine.")
