"""The released model, and what it makes of an example."""

from pathlib import Path

import pytest
from choices import Choices
from clips import HeardClip, hear

from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge


ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="session")
def judge() -> Judge:
    return Judge(load_judge(str(ROOT / "model_cards" / "whisper-tiny-en-toxmtl")))


@pytest.fixture
def own(judge) -> Choices:
    """The model's own list and thresholds."""
    return Choices.of(judge)


@pytest.fixture(scope="session")
def insult(judge) -> HeardClip:
    return hear(judge, str(EXAMPLES / "insult.ogg"))


@pytest.fixture(scope="session")
def harmless(judge) -> HeardClip:
    return hear(judge, str(EXAMPLES / "harmless.ogg"))


@pytest.fixture
def deaf(judge, monkeypatch) -> Judge:
    """A judge whose model may not be asked."""

    def fail(inputs):
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(judge.pipe, "infer", fail)
    return judge
