"""Tuning: which settings are tried, which one wins, and what is stored."""

import logging

import numpy as np
import pytest
import torch
from helpers import (
    RATE,
    dataset_of,
    keyword_list,
    record,
    spell,
    tiny_processor,
    tiny_speech_model,
    write_arpa,
    write_corpus,
)
from transformers import EvalPrediction

from modeling_toxmtl import ToxicityMTLProcessor
from modeling_toxmtl.alphabet import CHARACTERS
from modeling_toxmtl.decoding import DecodingSettings
from modeling_toxmtl.training import tuning
from modeling_toxmtl.training.dataset import ToxicityDataset


FRAMES = 49  # of a second


@pytest.fixture
def dataset() -> ToxicityDataset:
    config = tiny_speech_model(tasks=["keyword"]).config
    rows = dataset_of(*(record(str(i), None, None, "oh damn it", num_samples=RATE) for i in range(2)))
    return ToxicityDataset(rows, tiny_processor(), config)


def outputs() -> list[EvalPrediction]:
    """A batch whose clips say "damn" with an "a" that is an "e" by a hair."""
    logits = spell("good damn good", FRAMES, confidence=0.999)
    logits[6, [CHARACTERS.index("a"), CHARACTERS.index("e")]] = np.log([0.1, 0.89])
    return [EvalPrediction((torch.tensor(logits[None]),), label_ids=None)] * 2


def test_the_grid_varies_what_matters():
    args = tuning.TuningArguments("m", alpha=[0.0, 1.0], beta=[0.0], beam_width=[8, 4], other_word_penalty=[1.0, 2.0])
    processor = tiny_processor()
    assert [(s.beam_width, s.other_word_penalty) for s in tuning.grid(args, processor)] == [
        (4, 1),
        (4, 2),
        (8, 1),
        (8, 2),
    ]
    processor.common_words = "words.txt"
    assert {s.common_word_penalty for s in tuning.grid(args, processor)} == {0.25, 0.35, 0.45}
    processor.common_words, processor.language_model = None, "some.arpa"
    assert len(tuning.grid(args, processor)) == 8
    processor.decoding = DecodingSettings(decoder="pyctcdecode")
    assert {(s.decoder, s.beam_width, s.alpha) for s in tuning.grid(args, processor)} == {
        ("pyctcdecode", width, alpha) for width in (4, 8) for alpha in (0.0, 1.0)
    }
    assert len(tuning.grid(args, processor)) == 4


def test_the_best_settings_win_and_ties_go_to_the_first(dataset):
    cheap, dear, wide = (
        DecodingSettings(other_word_penalty=0.0),
        DecodingSettings(other_word_penalty=9.0),
        DecodingSettings(other_word_penalty=9.0, beam_width=64),
    )
    results = tuning.tune(dataset, outputs(), [cheap, dear, wide])
    assert [settings for settings, _ in results] == [dear, wide, cheap]
    assert [metrics["keyword_f1"] for _, metrics in results[:2]] == [100.0, 100.0]
    assert results[2][1]["keyword_false_reject_rate"] == 100.0
    assert dataset.processor.decoding == dear
    assert tuning.markdown(results).splitlines()[2].startswith("| lexicon | 32 | 0.25 | 0.0 | 9.0 | 0.35 | 100.00 |")


def test_nothing_to_tune_on(dataset):
    dataset.rows = dataset.rows.remove_columns("transcript").add_column("transcript", [None] * len(dataset.rows))
    with pytest.raises(ValueError, match="nothing to tune on: no transcribed clip has a keyword"):
        tuning.tune(dataset, outputs(), [DecodingSettings()])


@pytest.fixture
def workbench(tmp_path):
    """A random model and a corpus."""
    tiny_speech_model().save_pretrained(tmp_path / "model")
    tiny_processor(keyword_list()).save_pretrained(tmp_path / "model")
    write_corpus(tmp_path / "corpus")
    return tmp_path


def test_the_command_stores_settings_and_language_model(workbench, capsys):
    arpa = write_arpa(workbench / "words.arpa", {"good": -0.2, "damn": -1.0})
    results = tuning.main(
        tuning.TuningArguments(
            model=str(workbench / "model"),
            dataset=str(workbench / "corpus"),
            language_model=str(arpa),
            alpha=[0.0, 2.0],
            beta=[1.5],
            beam_width=[4],
            max_samples=2,
        )
    )
    assert len(results) == 6
    stored = ToxicityMTLProcessor.from_pretrained(workbench / "model")
    assert stored.decoding == results[0][0]
    assert stored.decoding.beta == 1.5 and stored.decoding.beam_width == 4
    assert (workbench / "model" / "language_model" / "words.arpa").read_text() == arpa.read_text()
    assert capsys.readouterr().out.count("| lexicon |") == 6


@pytest.mark.parametrize("evidence", [None, {"Profanity": 2.0}])
def test_a_promise_goes_where_keywords_count_in_the_scores(workbench, caplog, evidence):
    logging.getLogger("transformers").addHandler(caplog.handler)
    folder = workbench / "model"
    tiny_speech_model(keyword_evidence=evidence).save_pretrained(folder)
    (folder / "calibration.json").write_text("{}")
    narrow = {"alpha": [0.0], "beta": [0.0], "beam_width": [4], "other_word_penalty": [4.0], "max_samples": 2}
    tuning.main(tuning.TuningArguments(model=str(folder), dataset=str(workbench / "corpus"), **narrow))
    assert (folder / "calibration.json").exists() == (evidence is None)
    assert ("choose its thresholds again (toxmtl calibrate)" in caplog.text) == (evidence is not None)
