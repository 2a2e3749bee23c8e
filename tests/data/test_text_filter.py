import json

import pytest
from pipeline_runs import row_of

from datasets_scripts.pipeline_demo import small_text_model
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments, LabelStage
from modeling_toxmtl.data.text_filter import TextFilterArguments, read_texts, train
from modeling_toxmtl.labels import LABELS


TEXTS = [
    ("you are a fool", "Bullying"),
    ("meet me at the bridge", "NoViolation"),
    ("send me a kiss", "DatingAndSexting"),
]


def test_a_classifier_is_trained_on_labelled_text_and_used(tmp_path):
    (tmp_path / "texts.csv").write_text("text,labels\n" + "".join(f"{text},{label}\n" for text, label in TEXTS))
    rows = read_texts(str(tmp_path / "texts.csv"))
    model, tokenizer = small_text_model([row["text"] for row in rows])
    arguments = TextFilterArguments("", output_dir=str(tmp_path / "filter"), max_steps=40, learning_rate=5e-3)
    train(arguments, model, tokenizer, rows)
    labelling = LabelArguments(text_classifier=str(tmp_path / "filter"), use_keywords=False)
    stage = LabelStage(labelling, KeywordArguments())
    assert [row["labels"] for row in stage(row_of(text) for text, _ in TEXTS)] == [[label] for _, label in TEXTS]
    assert stage.text_filter.startswith("any >= 0.5 of classifier filter@")

    (tmp_path / "mapping.json").write_text(json.dumps(dict.fromkeys(LABELS, "Other")))
    labelling.label_mapping = str(tmp_path / "mapping.json")
    mapped = LabelStage(labelling, KeywordArguments())
    assert next(mapped([row_of("you are a fool")]))["labels"] == ["Other"]
    (tmp_path / "mapping.json").write_text('{"Bullying": "Rude"}')
    with pytest.raises(ValueError, match="--label-mapping lacks"):
        LabelStage(labelling, KeywordArguments())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",Other", "row 1: give `text`"),
        ("hi,Rude", r"unknown labels \['Rude'"),
        ("hi,NoViolation|Other", "texts.csv, row 1: the labels NoViolation, Other contradict each other"),
    ],
)
def test_texts_with_faults_are_named(tmp_path, line, message):
    (tmp_path / "texts.csv").write_text(f"text,labels\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_texts(str(tmp_path / "texts.csv"))
