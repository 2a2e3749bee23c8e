import pytest
import torch
from helpers import tiny_processor
from tiny_models import tiny_model

from experiments.average_models import AverageArguments, main
from modeling_toxmtl import ToxicityMTLProcessor, WavLMForToxicityMTL


def save(folder, **fields):
    model = tiny_model(**fields)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return model.state_dict()


def test_parameters_are_means_and_what_was_fitted_to_scores_goes(tmp_path):
    fitted = {"label_thresholds": {"Profanity": 0.3}, "keyword_evidence": {"Profanity": 2.0}}
    one, two = save(tmp_path / "one", seed=1), save(tmp_path / "two", seed=2, **fitted)
    main(AverageArguments([str(tmp_path / "one"), str(tmp_path / "two")], str(tmp_path / "both")))
    both = WavLMForToxicityMTL.from_pretrained(tmp_path / "both")
    for name, tensor in both.state_dict().items():
        torch.testing.assert_close(tensor, (one[name] + two[name]) / 2)
    assert both.config.label_thresholds is both.config.keyword_evidence is None
    assert len(ToxicityMTLProcessor.from_pretrained(tmp_path / "both").keywords) == len(tiny_processor().keywords)


def test_models_with_other_parameters_are_refused(tmp_path):
    save(tmp_path / "one"), save(tmp_path / "two", tasks=["classification"])
    with pytest.raises(ValueError, match="two have not the same parameters"):
        main(AverageArguments([str(tmp_path / "one"), str(tmp_path / "two")], str(tmp_path / "both")))
    assert not (tmp_path / "both").exists()
