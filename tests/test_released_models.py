"""What the released models promise: what they hear, and what accuses nobody."""

from pathlib import Path

import numpy as np
import pytest
from helpers import RATE, tracks
from transformers import pipeline

import modeling_toxmtl  # noqa: F401  registers the models
from modeling_toxmtl.audio import load_audio


ROOT = Path(__file__).parent.parent
RELEASED = ROOT / "model_cards" / "whisper-tiny-en-toxmtl"


@pytest.fixture(scope="module")
def released():
    return pipeline("audio-classification", model=str(RELEASED))


def test_the_model_hears_an_insult_from_a_voice_that_it_never_heard(released):
    verdict = released(str(ROOT / "docs" / "examples" / "insult.ogg"), return_keywords=True)
    assert "Bullying" in verdict["violations"] and verdict["labels"][0]["label"] == "Bullying"
    assert [word["keyword"] for word in verdict["keywords"]] == ["shut up", "idiot"]
    assert verdict["keywords"][0]["end"] <= verdict["keywords"][1]["start"]


def test_the_model_hears_a_word_that_joins_the_list(released):
    clip = str(ROOT / "docs" / "examples" / "harmless.ogg")
    assert released(clip, return_keywords=True)["keywords"] == []
    keywords = released.processor.keywords
    keywords.add("market", ["Other"])
    try:
        (heard,) = released(clip, return_keywords=True)["keywords"]
    finally:
        keywords.remove("market")
    assert heard["keyword"] == "market" and heard["labels"] == ("Other",)


def test_a_word_that_joins_the_list_counts_in_the_verdict(released):
    clip = str(ROOT / "docs" / "examples" / "harmless.ogg")
    scores = []
    for labels in ([], ["Racist"]):
        if labels:
            released.processor.keywords.add("market", labels)
        scores.append({item["label"]: item["score"] for item in released(clip)}["Racist"])
    released.processor.keywords.remove("market")
    assert scores[0] < 0.05 and scores[1] > 5 * scores[0]


def background(name: str) -> np.ndarray:
    time, rng = np.arange(3 * RATE) / RATE, np.random.default_rng(0)
    return {
        "silence": np.zeros(3 * RATE),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * time),
        "noise": 0.1 * rng.standard_normal(3 * RATE),
        "tone": 0.2 * np.sin(2 * np.pi * 440 * time),
        "chord": sum(0.1 * np.sin(2 * np.pi * pitch * time) for pitch in (262, 330, 392)),
        "breath": 0.05 * rng.standard_normal(3 * RATE) * np.sin(2 * np.pi * 0.4 * time) ** 2,
    }[name].astype(np.float32)


BACKGROUNDS = ["silence", "hum", "noise", "tone", "chord", "breath"]


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_the_model_accuses_nobody_of_silence(released, name):
    verdict = released(background(name), return_keywords=True)
    assert verdict["violations"] == verdict["keywords"] == []


def test_the_older_model_accuses_nobody_of_silence():
    """Of breath it does, and its card says so."""
    older = pipeline("audio-classification", model=str(RELEASED.with_name("wavlm-tiny-toxmtl-demo")))
    verdicts = {name: older(background(name), return_keywords=True) for name in BACKGROUNDS[:-1]}
    assert all(verdict["violations"] == verdict["keywords"] == [] for verdict in verdicts.values()), verdicts


def example(name: str) -> np.ndarray:
    return load_audio(ROOT / "docs" / "examples" / f"{name}.ogg")


def test_the_model_hears_words_where_windows_meet(released):
    """The word "idiot", 2.37 s into the insult, at 14.9 s, where windows of 15 s side by side meet."""
    insult, start = example("insult"), round((14.9 - 2.37) * RATE)
    others = np.concatenate([example("harmless"), example("sound_alikes")] * 2)
    clip = np.concatenate([others[:start], insult, others[: 5 * RATE]])
    clip += 0.003 * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)  # it is nowhere silent
    words = [("shut up", pytest.approx(13.6, abs=0.15)), ("idiot", pytest.approx(14.9, abs=0.15))]
    for stride, expected in ((None, words), (15, words[:1])):
        heard = released(clip, return_keywords=True, stride_seconds=stride)["keywords"]
        assert [(word["keyword"], word["start"]) for word in heard] == expected


@pytest.mark.parametrize("seconds", [1, 14, 30])
def test_the_model_does_not_mind_a_muted_microphone(released, seconds):
    insult = example("insult")
    expected = released(insult, return_keywords=True)
    verdict = released(np.append(insult, np.zeros(seconds * RATE, dtype=np.float32)), return_keywords=True)
    assert verdict["violations"] == expected["violations"] == ["Bullying"]
    assert [word["keyword"] for word in verdict["keywords"]] == ["shut up", "idiot"]


def test_the_model_hears_every_track(released):
    """Noise in the first hides what is said in the second, if they sound together."""
    insult = example("insult")
    noise = 0.3 * np.random.default_rng(1).standard_normal(len(insult)).astype(np.float32)
    together = released(insult + noise, return_keywords=True)
    assert together["violations"] == together["keywords"] == []
    verdict = released(tracks(noise, insult, codec="flac", rate=RATE), return_keywords=True)
    assert verdict["violations"] == ["Bullying"]
    assert [(word["keyword"], word["track"]) for word in verdict["keywords"]] == [("shut up", 1), ("idiot", 1)]
