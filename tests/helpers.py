"""Clips, data sets and checkpoints small enough to make in a test."""

import importlib.util
import io
import random
import types
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, Features, Value
from scipy.io import wavfile
from tiny_models import randomize_, tiny_model, tiny_wavlm_config, tiny_whisper_config
from transformers import (
    WavLMForCTC,
    WavLMForSequenceClassification,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from datasets_scripts.effects import encode_opus
from modeling_toxmtl import ToxicityMTLProcessor, WavLMForToxicityMTL, WhisperForToxicityMTL
from modeling_toxmtl.alphabet import CHARACTERS, SPECIAL_TOKENS, WORD_DELIMITER, character_tokenizer
from modeling_toxmtl.data.schema import FEATURES, Row, write_split
from modeling_toxmtl.data.transcripts import Transcription, Word
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.processing_toxmtl import mel_feature_extractor, speech_feature_extractor


RATE = 16_000
needs_kenlm = pytest.mark.skipif(importlib.util.find_spec("kenlm") is None, reason="kenlm is not installed")
# WavLM's frame rate with three convolutions: a frame is 320 samples (20 ms) and sees 325; a second has 49
SPEECH_FRAMES = {"conv_kernel": (10, 8, 8), "conv_stride": (5, 8, 8), "vocab_size": len(CHARACTERS)}
MEL_FRAMES = {"num_mel_bins": 80, "max_source_positions": 1500, "vocab_size": len(CHARACTERS)}  # as Whisper has them
UPPER_CASE = (*SPECIAL_TOKENS, WORD_DELIMITER, *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
SECONDS_PER_FRAME = 20 / RATE  # of `tiny_config`
KEYWORDS = {"A", "B"}  # of `random_clips`
INSPECTED = Features({**FEATURES, "num_samples": Value("int64"), "sha256": Value("string")})


def tone(num_samples: int, frequency: float = 300.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A sine with noise that swells and fades as speech does, float32 of shape `(num_samples,)`."""
    time, noise = np.arange(num_samples) / rate, np.random.default_rng(seed).normal(0, 0.05, num_samples)
    return (syllables(time) * (0.6 * np.sin(2 * np.pi * frequency * time) + noise)).astype(np.float32)


def syllables(time: np.ndarray) -> np.ndarray:
    """The gain of something said, at these seconds: three syllables a second, 14 dB deep."""
    return 0.6 + 0.4 * np.cos(2 * np.pi * 3 * time)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A 16-bit mono WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(rate)
        output.writeframes((samples * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def float_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A mono WAV file of float32 samples as they are."""
    file = io.BytesIO()
    wavfile.write(file, rate, samples.astype(np.float32))
    return file.getvalue()


def tracks(
    *sounds: np.ndarray, container="matroska", codec="libopus", rate=48_000, delay=lambda seconds: 0.0
) -> bytes:
    """A file with a mono track of each sound; a packet's time is put off by `delay(time)` seconds."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        streams = [output.add_stream(codec, rate=rate, layout="mono") for _ in sounds]
        packets = [packet for pair in zip(streams, sounds, strict=True) for packet in encoded_packets(*pair, rate)]
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            shift = int(delay(float(packet.pts * packet.time_base)) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            output.mux(packet)
    return file.getvalue()


def encoded_packets(stream, sound: np.ndarray, rate: int):
    """Packets of 20 ms."""
    size = rate // 50
    for start in range(0, len(sound), size):
        block = np.ascontiguousarray(sound[None, start : start + size], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def as_read(samples: np.ndarray) -> np.ndarray:
    """What a reader of `wav(samples)` gets: 16-bit samples."""
    return ((samples * 32767).round() / 32768).astype(np.float32)


def record(id: str, audio: bytes | None = None, labels=("NoViolation",), transcript="hello", path=None, **fields):
    """A row with the columns of a data set; labels, transcript and audio may be None."""
    row = dict.fromkeys(FEATURES)
    labels = None if labels is None else list(labels)
    row |= {"id": id, "audio": {"bytes": audio, "path": path}, "labels": labels, "transcript": transcript}
    return row | fields


def dataset_of(*records: dict) -> Dataset:
    """The rows as `load_clips` gives them; as `inspect_rows` gives them if they have `num_samples`."""
    features = INSPECTED if "num_samples" in records[0] else FEATURES
    return Dataset(pa.Table.from_pylist(list(records), features.arrow_schema))


def keyword_list() -> KeywordList:
    return KeywordList(
        [
            KeywordEntry("damn", ("Profanity",), ("dammit",)),
            KeywordEntry("shut up", ("Bullying", "Other")),
            KeywordEntry("crap", ("Profanity",)),
        ]
    )


def tiny_processor(keywords: KeywordList | None = None, family: str = "wavlm") -> ToxicityMTLProcessor:
    feature_extractor = mel_feature_extractor() if family == "whisper" else speech_feature_extractor()
    return ToxicityMTLProcessor(feature_extractor, character_tokenizer(), keywords or keyword_list())


def tiny_speech_model(
    seed: int = 0, family: str = "wavlm", **overrides
) -> WavLMForToxicityMTL | WhisperForToxicityMTL:
    """A tiny random model with the frame rate of the real ones and the characters of the default tokenizer."""
    frames = MEL_FRAMES if family == "whisper" else SPEECH_FRAMES
    return tiny_model(seed, family=family, **{**frames, **overrides})


def save_tiny_model(folder: Path, keywords: KeywordList | None = None, family: str = "wavlm") -> Path:
    """A model folder as `save_pretrained` writes it: model and processor."""
    tiny_speech_model(family=family).save_pretrained(folder)
    tiny_processor(keywords, family).save_pretrained(folder)
    return folder


def tiny_checkpoint(folder: Path) -> Path:
    """A `WavLMForCTC` checkpoint with its tokenizer and feature extractor, as on the Hub."""
    config = tiny_wavlm_config(**SPEECH_FRAMES, ctc_loss_reduction="mean", pad_token_id=0)
    randomize_(WavLMForCTC(config)).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    speech_feature_extractor().save_pretrained(folder)
    return folder


def tiny_classifier(labels, **fields) -> WavLMForSequenceClassification:
    """transformers' classifier with random weights and the frame rate of the real ones, in evaluation mode."""
    config = tiny_wavlm_config(**{**SPEECH_FRAMES, "id2label": dict(enumerate(labels)), **fields})
    return randomize_(WavLMForSequenceClassification(config)).eval()


class SaysAlways:
    """Stands in for a recogniser: hears the same words in every clip, one a second, and counts the clips."""

    def __init__(self, text: str):
        self.words = [Word(word, index, index + 0.5, 0.8) for index, word in enumerate(text.split())]
        self.clips = 0

    def __call__(self, clips):
        self.clips += len(clips)
        return [Transcription(self.words, "en", 0.8)] * len(clips)


def tiny_whisper_checkpoint(folder: Path) -> Path:
    """A `WhisperForConditionalGeneration` checkpoint with its feature extractor and a vocabulary of tokens, as on the
    Hub."""
    config = tiny_whisper_config(num_mel_bins=80, max_source_positions=1500)
    randomize_(WhisperForConditionalGeneration(config)).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    (folder / "vocab.json").write_text('{"a": 0, "b": 1}')
    return folder


def write_arpa(path: Path, unigrams: dict[str, float], bigrams: dict[str, float] | None = None) -> Path:
    """A word model of order two from log10 probabilities; back-off weights are 0.5 for all words."""
    bigrams = bigrams or {"<s> good": -0.5}
    unigrams = {"<unk>": -4.0, "<s>": -99.0, "</s>": -1.0, **unigrams}
    lines = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines += [f"{value}\t{word}\t-0.30103" for word, value in unigrams.items()]
    lines += ["", "\\2-grams:", *(f"{value}\t{words}" for words, value in bigrams.items()), "", "\\end\\", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def spell(text: str, frames: int, confidence: float = 0.9, characters: tuple[str, ...] = CHARACTERS) -> np.ndarray:
    """`(frames, characters)` keyword logits that spell a text, a frame per character: `_` is the blank, a space the
    delimiter."""
    logits = np.full((frames, len(characters)), np.log((1 - confidence) / (len(characters) - 1)))
    for frame, character in enumerate(text.ljust(frames, "_")[:frames]):
        logits[frame, characters.index({"_": "<pad>", " ": WORD_DELIMITER}.get(character, character))] = np.log(
            confidence
        )
    return logits.astype(np.float32)


def logits_of(*texts: str, characters: tuple[str, ...] = CHARACTERS, confidence: float = 0.9) -> np.ndarray:
    """Keyword logits that spell each text, as many frames as the longest has characters."""
    frames = max(map(len, texts))
    return np.stack([spell(text, frames, confidence, characters) for text in texts])


class Speller(torch.nn.Module):
    """Stands in for a keyword head: says the same text in every window."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def forward(self, frames):
        logits = torch.tensor(spell(self.text, frames.shape[1]))
        return logits.expand(len(frames), -1, -1)


SENTENCES = (
    (("Profanity",), "oh damn it"),
    (("NoViolation",), "hello my friend"),
    (("Bullying", "Profanity"), "shut up you crap player"),
    (("NoViolation",), "a nice game"),
)


def clip_row(id: str, split: str, index: int, seconds: float) -> Row:
    """A clip whose tone depends on its labels."""
    labels, transcript = SENTENCES[index % len(SENTENCES)]
    samples = tone(round(seconds * RATE), frequency=200.0 + 150 * (index % len(SENTENCES)), seed=index)
    audio = encode_opus(samples, RATE, 24_000)
    return Row(id, audio, seconds, labels, transcript, "tone", f"tone-{index}", split)


def write_corpus(folder: Path, train: int = 8, validation: int = 3, test: int = 4) -> Path:
    """Three splits of clips of about a second as Parquet; the test split has one of 2.5 s at its end."""
    for split, size in {"train": train, "validation": validation, "test": test}.items():
        seconds = [1.0 + 0.1 * (index % 3) for index in range(size)]
        if split == "test":
            seconds[-1] = 2.5
        write_split(
            (clip_row(f"{split}-{i:02d}", split, i, length) for i, length in enumerate(seconds)), folder, split
        )
    return folder


def write_audio_folder(folder, split: str, table: str, names: list[str]):
    """Clips of a tone each, with a table of metadata beside them."""
    (folder / split).mkdir(parents=True)
    for seed, name in enumerate(names):
        (folder / split / name).write_bytes(wav(tone(RATE, seed=seed)))
    suffix = "jsonl" if table.startswith("{") else "csv"
    (folder / split / f"metadata.{suffix}").write_text(table, encoding="utf-8")


def by_label(verdict: list[dict]) -> dict[str, float]:
    """The scores of the labels of a verdict."""
    return {item["label"]: item["score"] for item in verdict}


def assert_same(verdict: list[dict], expected: list[dict], tolerance: float = 1e-5):
    """The labels have the same scores, whatever their order."""
    assert by_label(verdict) == pytest.approx(by_label(expected), abs=tolerance)


class Decoder:
    """As torchcodec's `AudioDecoder`, which `datasets` hands out for a decoded column."""

    def __init__(self, *channels: np.ndarray, rate: int = RATE):
        self.channels, self.rate = channels, rate

    def get_all_samples(self):
        samples = torch.tensor(np.stack(self.channels), dtype=torch.float32)
        return types.SimpleNamespace(data=samples, sample_rate=self.rate, pts_seconds=0.0)


def random_clips(number, seed, max_words=8):
    """Reference words, hypothesis words and hypothesis scores of `number` clips, where `A` and `B` stand for keywords
    and `x`, `y` for fillers; coarse scores, so that many tie."""
    rng = random.Random(seed)
    references = [[rng.choice("ABxy") for _ in range(rng.randint(0, max_words))] for _ in range(number)]
    hypotheses = [
        [rng.choice([word, word, word, *"ABx"]) for word in words if rng.random() < 0.9] for words in references
    ]
    return references, hypotheses, [[rng.randint(0, 4) / 4 for _ in words] for words in hypotheses]
