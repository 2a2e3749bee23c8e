import pytest
import torch
from helpers import tiny_checkpoint, tiny_processor, tiny_speech_model
from tiny_models import tiny_model
from transformers import WavLMForCTC

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
    with pytest.raises(ValueError, match="one has not the parameters of the last model"):
        main(AverageArguments([str(tmp_path / "one"), str(tmp_path / "two")], str(tmp_path / "both")))
    assert not (tmp_path / "both").exists()


def test_shares_weigh_the_models_and_a_plain_encoder_counts_in_the_encoder_alone(tmp_path):
    tiny_checkpoint(tmp_path / "encoder")
    encoder = WavLMForCTC.from_pretrained(tmp_path / "encoder").state_dict()
    tuned = tiny_speech_model(seed=1)
    tuned.save_pretrained(tmp_path / "tuned"), tiny_processor().save_pretrained(tmp_path / "tuned")
    folders = [str(tmp_path / name) for name in ("encoder", "tuned")]
    main(AverageArguments(folders, str(tmp_path / "both"), weights=[1.0, 3.0]))
    both = WavLMForToxicityMTL.from_pretrained(tmp_path / "both").state_dict()
    for name, tensor in tuned.state_dict().items():
        is_shared = name.startswith("wavlm.")
        expected = 0.25 * encoder[name] + 0.75 * tensor if is_shared else tensor
        if not name.startswith("lm_head"):  # the CTC checkpoint has one, too
            torch.testing.assert_close(both[name], expected)
    with pytest.raises(ValueError, match="--weights: give a share above 0 for each of the 2 models"):
        AverageArguments(folders, "both", weights=[1.0])
