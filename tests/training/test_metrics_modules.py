"""The modules of `metrics/` for `evaluate`."""

import doctest
import socket
from pathlib import Path

import evaluate
import numpy as np
import pytest
from helpers import KEYWORDS, random_clips

from modeling_toxmtl.labels import LABELS
from modeling_toxmtl.training.metrics import classification_metrics, keyword_metrics


REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def load_module(tmp_path_factory):
    """`evaluate.load` as called from the root of the repository, with caches of its own and no network."""

    def refuse(*_):
        raise OSError("the test has no network")

    cache = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        patch.syspath_prepend(str(cache))  # undoes what `evaluate` adds to the path
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(cache))
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", cache)
        yield evaluate.load


def test_toxicity_classification_module_equals_function(load_module):
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(2, size=(20, 6)), rng.normal(size=(20, 6)).astype(np.float32)
    metric = load_module("metrics/toxicity_classification")
    expected = classification_metrics(scores, labels, LABELS)
    assert metric.compute(predictions=scores, references=labels) == expected
    metric.add_batch(predictions=scores[:7], references=labels[:7])
    metric.add_batch(predictions=scores[7:], references=labels[7:])
    assert metric.compute() == expected
    two = metric.compute(predictions=scores[:, :2], references=labels[:, :2], label_names=["a", "b"])
    assert two == classification_metrics(scores[:, :2], labels[:, :2], ["a", "b"])


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[0.1] * 6, [0.1] * 5 + [float("nan")]], [[0] * 6] * 2, "row 1 of scores holds NaN"),
        ([[0.1] * 6], [[0.5] + [0] * 5], "only 0 and 1"),
        ([[0.1] * 6] * 2, [[0] * 6], "Mismatch in the number of predictions"),
    ],
)
def test_toxicity_classification_module_refuses(load_module, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        load_module("metrics/toxicity_classification").compute(predictions=predictions, references=references)


def test_keyword_detection_module_equals_function(load_module):
    references, hypotheses, _ = random_clips(20, seed=6)
    references[0] = hypotheses[0] = []
    metric = load_module("metrics/keyword_detection")
    expected = keyword_metrics(references, hypotheses, KEYWORDS)
    assert metric.compute(predictions=hypotheses, references=references, keywords=KEYWORDS) == expected
    metric.add_batch(predictions=hypotheses[:1], references=references[:1])
    metric.add_batch(predictions=hypotheses[1:], references=references[1:])
    assert metric.compute(keywords=KEYWORDS) == expected


def test_keyword_detection_module_takes_scores(load_module):
    references, hypotheses, scores = random_clips(20, seed=7)
    references[0] = hypotheses[0] = scores[0] = []
    metric = load_module("metrics/keyword_detection", "scored")
    for clip in range(0, 20, 5):
        batch = slice(clip, clip + 5)
        metric.add_batch(predictions=hypotheses[batch], references=references[batch], scores=scores[batch])
    assert metric.compute(keywords=KEYWORDS) == keyword_metrics(references, hypotheses, KEYWORDS, scores)


def test_keyword_detection_module_refuses(load_module):
    with pytest.raises(ValueError, match='configuration \'score\' is unknown: choose "default" or "scored"'):
        load_module("metrics/keyword_detection", "score")
    with pytest.raises(TypeError, match="clip 0 of hypotheses is None"):
        load_module("metrics/keyword_detection").compute(predictions=[None], references=[["A"]], keywords=KEYWORDS)


@pytest.mark.parametrize("name", ["toxicity_classification", "keyword_detection"])
def test_metric_card_and_description_examples(load_module, name):
    metric = load_module(f"metrics/{name}")
    card = (REPOSITORY / "metrics" / name / "README.md").read_text(encoding="utf-8")
    assert metric.name == name and metric.info.module_type == "metric" and metric.info.reference_urls
    assert metric.info.citation in card
    for text in (card, metric.info.inputs_description):
        examples = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
        results = doctest.DocTestRunner().run(examples)
        assert results.attempted > 0 and results.failed == 0
