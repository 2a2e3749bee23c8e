"""Fixtures of the tests of the pipeline and of keyword lists."""

import pytest
from helpers import Speller, tiny_processor, tiny_speech_model

from modeling_toxmtl import ToxicityDetectionPipeline
from modeling_toxmtl.keywords import KeywordEntry, KeywordList


@pytest.fixture(scope="module")
def model(family):
    """Says "damn" in frames 10 to 13, and "shut up" in 20 to 26, of every window."""
    model = tiny_speech_model(family=family)
    model.lm_head = Speller("_" * 10 + "damn " + "_" * 5 + "shut up")
    return model


@pytest.fixture(scope="module")
def processor(family):
    """Of the default tokenizer, with a list of three keywords."""
    return tiny_processor(family=family)


@pytest.fixture(scope="module")
def pipe(model, processor):
    """Of `model` and `processor`."""
    return ToxicityDetectionPipeline(model=model, processor=processor)


@pytest.fixture(scope="module")
def default() -> KeywordList:
    """The list that the package brings along."""
    return KeywordList.default()


@pytest.fixture
def small() -> KeywordList:
    """A list of five keywords, of which one is part of another."""
    return KeywordList(
        [
            KeywordEntry("damn", ("Profanity",), ("dammit", "damned")),
            KeywordEntry("shit", ("Profanity",), ("shits",)),
            KeywordEntry("shut up", ("Bullying",), ("shutting up",)),
            KeywordEntry("shut", ("Other",)),
            KeywordEntry("goddamn", ("Profanity", "Bullying"), ("god damn",)),
        ]
    )
