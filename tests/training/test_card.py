import json

import pytest
from helpers import keyword_list, tiny_processor, tiny_speech_model
from huggingface_hub import ModelCard

from modeling_toxmtl.training.card import write_model_card


RESULTS = {
    "commit": "c0ffee",
    "versions": {"torch": "2.13.0"},
    "model": {"model_name_or_path": "someone/backbone"},
    "parameters": 1_234_567,
    "data": {"dataset": "my_clips", "sha256": {"test": "ab12"}, "rejected": {"test": 7}},
    "training": {"seed": 3, "world_size": 2},
    "validation": {"mAP": 50.0},
    "test": {"AP_Racist": 12.345, "AP_Other": 23.0, "mAP": 17.67, "support_Racist": 41, "keyword_support": 99}
    | {"keyword_false_reject_rate": 61.25},
    "test_intervals": {"mAP": [15.004, 20.5]},
}


@pytest.fixture
def folder(tmp_path):
    tiny_speech_model(use_info_sharing=True).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    return tmp_path


def test_tags_name_the_encoder(folder, family):
    tiny_speech_model(family=family).save_pretrained(folder)
    assert ModelCard(write_model_card(folder)).data.tags[0] == family


def test_every_number_comes_from_the_results(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "train_results.json").write_text('{"train_runtime": 90.0}')
    card = write_model_card(folder, name="me/model", license="mit")
    assert (folder / "README.md").read_text(encoding="utf-8") == card
    for text in (
        f"| Racist | {12.345:.2f} |",
        "| mAP | 17.67 [15.00, 20.50] |",
        "| test | `ab12` | 7 |",
        "41 clips with Racist, 99 keywords said",
        "weakest label is Racist",
        "misses 61.2 % of the keywords",
        "1,234,567 parameters",
        'System "MTL + Info. Sharing"',
        "Commit `c0ffee`",
        "Training took 1.5 minutes on 2 processes",
        f"{len(keyword_list().keywords)} keywords",
    ):
        assert text in card, text
    changed = {**RESULTS, "test": {**RESULTS["test"], "mAP": 18.0}}
    (folder / "results.json").write_text(json.dumps(changed))
    assert "| mAP | 18.00 [15.00, 20.50] |" in write_model_card(folder)


def test_thresholds_and_calibration(folder):
    model = tiny_speech_model(label_thresholds={"Racist": 0.25, "Other": 0.5})
    model.save_pretrained(folder)
    results = {**RESULTS, "test_uncalibrated": {"calibration_error": 21.36, "brier_score": 0.2}}
    results["test"] = {**RESULTS["test"], "precision_Racist": 62.5, "recall_Racist": 40.0, "recall_Other": 0.0} | {
        "calibration_error": 4.31,
        "brier_score": 0.1234,
    }
    (folder / "results.json").write_text(json.dumps(results))
    card = write_model_card(folder)
    assert "| Racist | 0.25 | 62.5 | 40.0 |\n| Other | 0.50 | - | 0.0 |\n" in card
    assert "calibration error is 4.3 % (21.4 % before)" in card
    assert "Brier score 0.123 (0.200 before)" in card
    assert "On the test split, in\npercent" in card
    assert "which was chosen on the validation split" in card


@pytest.mark.parametrize(
    "stated",
    [{"thresholds": {"Racist": 0.25, "Other": 0.5}}, {"calibration": {"Racist": {"threshold": 0.25}}}],
)
def test_thresholds_that_were_chosen_after_the_results(folder, stated):
    """As `toxmtl calibrate` does: figures at the threshold before are not those of the new one."""
    tiny_speech_model(label_thresholds={"Racist": 0.75, "Other": 0.5}).save_pretrained(folder)
    results = {**RESULTS, **stated, "test_uncalibrated": {"calibration_error": 21.36, "brier_score": 0.2}}
    results["test"] = RESULTS["test"] | {"precision_Racist": 62.5, "recall_Racist": 40.0, "recall_Other": 0.0}
    results["test"] |= {"calibration_error": 4.31, "brier_score": 0.1234}
    (folder / "results.json").write_text(json.dumps(results))
    card = write_model_card(folder)
    assert "| Racist | 0.75 | - | - |\n| Other | 0.50 | - | 0.0 |\n" in card
    assert "some of which were chosen after the results were measured" in card
    assert "validation split" not in card  # neither thresholds nor scores need come from it any more


def test_metadata_is_what_the_hub_reads(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS))
    data = ModelCard(write_model_card(folder, name="me/model", license="mit")).data
    assert (data.license, data.language, data.base_model) == ("mit", "en", "someone/backbone")
    assert (data.pipeline_tag, data.library_name) == ("audio-classification", "transformers")
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values == {"AP_Racist": 12.35, "AP_Other": 23.0, "mAP": 17.67, "keyword_false_reject_rate": 61.25} | {
        "AP_Racist": round(12.345, 2)
    }
    assert {result.dataset_name for result in data.eval_results} == {"my_clips"}


def test_card_without_results_claims_none(folder):
    card = write_model_card(folder)
    assert "None were recorded with this model" in card and f"# {folder.name}\n" in card
    assert "weakest" not in card and "misses" not in card and ModelCard(card).data.eval_results is None
    for section in card.split("\n## ")[1:]:
        assert len(section.split("\n", 1)[1].strip()) > 10, section  # none is empty
