"""Recognisers beside the CTC one: a tiny random Whisper, and faster-whisper by a stand-in."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import RATE, tone, wav
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from modeling_toxmtl.data.recognizers import WhisperRecognizer
from modeling_toxmtl.data.transcribe import TranscribeStage
from modeling_toxmtl.data.transcripts import Word


SPECIAL = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|es|> <|translate|> <|transcribe|> <|startoflm|> <|startofprev|>"
)
SPECIAL = [*SPECIAL.split(), "<|nospeech|>", "<|notimestamps|>"]
CLIPS = [tone(RATE, 200.0), tone(2 * RATE, 900.0, seed=1), tone(RATE + 4000, 1500.0, seed=2)]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A checkpoint folder: every byte is a token."""
    folder = tmp_path_factory.mktemp("whisper")
    vocabulary = {token: id for id, token in enumerate([*bytes_to_unicode().values(), *SPECIAL])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], language="en", task="transcribe", pad_token=SPECIAL[0])
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    tokenizer.add_tokens([f"<|{0.02 * step:.2f}|>" for step in range(1501)])
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    tokens = {f"{name}_token_id": ids["<|endoftext|>"] for name in ("bos", "eos", "pad")}
    tokens["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes |= {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_target_positions": 64}
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer), suppress_tokens=None, begin_suppress_tokens=None, **sizes, **tokens
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={name: ids[name] for name in ("<|en|>", "<|es|>")},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        alignment_heads=[[0, 0], [1, 1]],
        max_length=24,
        **tokens,
    )
    for part in (model, tokenizer, WhisperFeatureExtractor()):
        part.save_pretrained(folder)
    return str(folder)


def test_whisper_hears_clips_at_once_as_one_by_one(whisper):
    recognizer = WhisperRecognizer(whisper)
    together = recognizer(CLIPS)
    for clip, heard in zip(CLIPS, together, strict=True):
        (alone,) = recognizer([clip])
        assert [word.word for word in heard.words] == [word.word for word in alone.words] != []
        assert heard.confidence == pytest.approx(alone.confidence, rel=1e-3) and 0 < heard.confidence < 1
        assert heard.language == alone.language and heard.language in ("en", "es")
        assert all(0 <= word.start <= word.end <= len(clip) / RATE for word in heard.words)


def test_a_chunk_that_cannot_be_decoded_is_rejected_and_the_others_are_heard(whisper):
    audio = {"good": wav(CLIPS[0]), "bad": b"OggS and nothing else"}
    place = {"source_path": "raw/call.ogg", "start": 2.5}
    rows = [{"id": id, "audio": {"bytes": audio[id]}, **place} for id in ("bad", "good")]
    rejected, heard = TranscribeStage(whisper)(rows)
    assert rejected.id == "bad" and rejected.reason.startswith("raw/call.ogg, from 2.50 s: <21 bytes> cannot be read")
    assert heard["id"] == "good" and heard["words"]


def test_silence_is_not_transcribed(whisper):
    """Whisper hears words in it. A click of a sample is no speech either."""
    click = np.zeros(RATE, dtype=np.float32)
    click[RATE // 2] = 0.01
    clips = {"digital": np.zeros(RATE), "hiss": 3e-4 * np.random.default_rng(0).normal(size=RATE), "click": click}
    place = {"source_path": "raw/call.ogg", "start": 0.0}
    rows = [{"id": id, "audio": {"bytes": wav(samples)}, **place} for id, samples in clips.items()]
    assert [row.reason for row in TranscribeStage(whisper)(rows)] == ["silence: no louder than -60 dB"] * 3


def test_whisper_is_told_the_language(whisper):
    stage = TranscribeStage(whisper, language="es")
    assert [heard.language for heard in stage._recognizer(CLIPS)] == ["es"] * 3
    assert stage.asr.startswith("whisper")
    stage.check()
    with pytest.raises(ValueError, match="--language spanisch: Whisper knows af, am, .* es, "):
        TranscribeStage(whisper, language="spanisch").check()


def test_whisper_of_one_language_says_english(whisper):
    recognizer = WhisperRecognizer(whisper)
    recognizer.pipe.model.generation_config.is_multilingual = False
    assert recognizer._languages(CLIPS) == ["en"] * 3


def test_faster_whisper(monkeypatch, tmp_path):
    stage = TranscribeStage("faster-whisper:tiny", language="de")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ImportError, match="pip install .*faster-whisper"):
        stage._recognizer  # noqa: B018

    class WhisperModel:
        def __init__(self, name, compute_type, cpu_threads):
            assert (name, compute_type, cpu_threads) == (str(tmp_path), "default", 0)

        def transcribe(self, clip, language, word_timestamps):
            assert language == "de" and word_timestamps and clip.dtype == np.float32
            words = [SimpleNamespace(word=" hallo", start=0.1, end=0.4, probability=0.5)]
            words.append(SimpleNamespace(word=" du", start=0.5, end=0.6, probability=1.0))
            return iter([SimpleNamespace(words=words)]), SimpleNamespace(language="de")

    def download_model(name):
        if name == "nowhere":  # as huggingface_hub without a network
            raise FileNotFoundError("no cached snapshot, outgoing traffic is disabled,\nin many lines")
        return str(tmp_path)

    module = ModuleType("faster_whisper")
    module.WhisperModel, module.download_model = WhisperModel, download_model
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    with pytest.raises(FileNotFoundError, match="faster-whisper:tiny: .* has no model.bin"):
        stage.check()
    (tmp_path / "model.bin").touch()
    (heard,) = stage._recognizer([tone(RATE)])
    assert heard.words == [Word("hallo", 0.1, 0.4, 0.5), Word("du", 0.5, 0.6, 1.0)]
    assert (heard.language, heard.confidence) == ("de", 0.75)
    with pytest.raises(FileNotFoundError, match="^[^\n]*'nowhere'.*--asr-model faster-whisper:FOLDER[^\n]*$"):
        TranscribeStage("faster-whisper:nowhere")._recognizer  # noqa: B018


def test_a_faster_whisper_folder_is_named_by_its_content(tmp_path):
    """Rows say which weights heard them, and not where they lie."""
    names = []
    for place, content in (("here", b"first"), ("there", b"first"), ("elsewhere", b"second")):
        (folder := tmp_path / place / "tiny.en").mkdir(parents=True)
        (folder / "model.bin").write_bytes(content)
        names.append(TranscribeStage(f"faster-whisper:{folder}").asr)
    assert names[0] == names[1] != names[2] and names[0].startswith("faster-whisper:tiny.en@")
    assert TranscribeStage("faster-whisper:small").asr == "faster-whisper:small"
