import numpy as np
import pytest
import torch
from pipeline_runs import row_of
from transformers import DistilBertForSequenceClassification

from datasets_scripts.pipeline_demo import small_text_model
from modeling_toxmtl.data.models import find_text_classifier
from modeling_toxmtl.data.text_classifier import ClassifierFilter
from modeling_toxmtl.labels import VIOLATIONS


@pytest.fixture
def save_classifier(tmp_path):
    """A function that saves a classifier which gives every text the same logits, one for each of `names`."""

    def save(names, logits, problem_type=None):
        model, tokenizer = small_text_model(["good game"])
        model.config.update({"id2label": dict(enumerate(names)), "problem_type": problem_type})
        model = DistilBertForSequenceClassification(model.config)
        torch.nn.init.zeros_(model.classifier.weight)
        model.classifier.bias.data = torch.tensor(logits)
        for part in (model, tokenizer):
            part.save_pretrained(tmp_path)
        return str(tmp_path)

    return save


@pytest.mark.parametrize(
    ("names", "logits", "problem_type", "score"),
    [
        (["toxic"], [-6.0], None, 1 / (1 + np.exp(6))),  # with one output, softmax is always 1
        (["toxic", "neutral"], [-6.0, 1.0], None, 1 / (1 + np.exp(7))),
        (["toxic", "rude"], [-6.0, 1.0], "multi_label_classification", 1 / (1 + np.exp(6))),
    ],
)
def test_scores_are_those_of_the_pipeline_of_transformers(save_classifier, names, logits, problem_type, score):
    folder = save_classifier(names, logits, problem_type)
    mapping = dict.fromkeys(names) | {"toxic": "Bullying"}
    classifier = ClassifierFilter(folder, None, find_text_classifier(folder, None, mapping))
    (scores,) = classifier.score([row_of("good game")])
    assert scores[VIOLATIONS.index("Bullying")] == pytest.approx(score, rel=1e-4) and np.count_nonzero(scores) == 1


def test_a_regression_is_no_classifier(save_classifier):
    with pytest.raises(ValueError, match="is a regression, which gives no probabilities"):
        find_text_classifier(save_classifier(["toxic"], [0.2], "regression"), None, {"toxic": "Bullying"})
