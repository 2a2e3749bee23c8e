"""Checkpoints of transformers' WavLM models load by the names of their weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import clips_of, randomize_, tiny_wavlm_config
from transformers import WavLMForCTC, WavLMForSequenceClassification, WavLMModel

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL
from modeling_toxmtl.wavlm import WavLMBackbone


def test_loads_a_ctc_checkpoint(tmp_path, norm):
    source = randomize_(WavLMForCTC(tiny_wavlm_config(**norm)))
    source.save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_encoder(source.config)
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    new = {"classifier.weight", "classifier.bias", "projector.weight", "projector.bias"}
    assert set(info["missing_keys"]) == new
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    loaded = model.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(loaded[name], value), name
    assert set(loaded) - set(source.state_dict()) == new


# the layout of Roblox/voice-safety-classifier v1 and v2, on a tiny backbone
VOICE_SAFETY = {
    "id2label": dict(enumerate(["Profanity", "DatingAndSexting", "Racist", "Bullying", "Other", "NoViolation"])),
    "problem_type": "multi_label_classification",
    "classifier_proj_size": 256,
    "architectures": ["WavLMForSequenceClassification"],
    "mask_feature_prob": 0.0,
    "final_dropout": 0.1,
}


@pytest.mark.parametrize("fields", [VOICE_SAFETY, {"id2label": {0: "calm", 1: "angry", 2: "sad"}}])
def test_loads_a_classifier_checkpoint(tmp_path, fields, norm):
    """The Toxicity Classifier is transformers' classifier: same logits on clips without padding, names of labels from
    the checkpoint."""
    source = WavLMForSequenceClassification(tiny_wavlm_config(**fields, **norm))
    randomize_(source).save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_encoder(source.config, tasks=["classification"])
    assert config.id2label == fields["id2label"]
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.projector.out_features == config.classifier_proj_size
    source.eval(), model.eval()
    clips = torch.stack(clips_of(300, 300))
    with torch.no_grad():
        torch.testing.assert_close(model(clips).logits, source(clips).logits, atol=1e-5, rtol=0)


def test_reports_keys_of_another_task(tmp_path):
    """A classifier's heads are of no use to a transcriber, and the report says so."""
    source = randomize_(WavLMForSequenceClassification(tiny_wavlm_config(**VOICE_SAFETY)))
    source.save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_encoder(source.config, tasks=["keyword"])
    _, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert set(info["missing_keys"]) == {"lm_head.weight", "lm_head.bias"}
    heads = ("projector", "classifier")
    assert set(info["unexpected_keys"]) == {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}


def test_keyword_head_of_another_vocabulary_starts_anew(tmp_path):
    source = randomize_(WavLMForCTC(tiny_wavlm_config(vocab_size=7)))
    source.save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_encoder(source.config, vocab_size=10)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        WavLMForToxicityMTL.from_pretrained(tmp_path, config=config)
    model, info = WavLMForToxicityMTL.from_pretrained(
        tmp_path, config=config, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key[0] for key in info["mismatched_keys"]} == {"lm_head.weight", "lm_head.bias"}
    assert model.lm_head.weight.shape == (10, 16) and model.lm_head.weight.isfinite().all()


def test_loads_a_bare_checkpoint(tmp_path):
    source = randomize_(WavLMModel(tiny_wavlm_config()))
    source.save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_encoder(source.config, tasks=["keyword"])
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert set(info["missing_keys"]) == {"lm_head.weight", "lm_head.bias"}
    for name, value in source.state_dict().items():
        assert torch.equal(model.wavlm.state_dict()[name], value), name


def test_loads_the_old_names_of_weight_norm(tmp_path):
    source = randomize_(WavLMModel(tiny_wavlm_config()))
    source.save_pretrained(tmp_path)
    new, old = (
        [f"encoder.pos_conv_embed.conv.{name}" for name in names]
        for names in (
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
            ("weight_g", "weight_v"),
        )
    )
    expected = {name: value.clone() for name, value in source.state_dict().items()}
    tensors = dict(expected)
    for old_name, new_name in zip(old, new, strict=True):
        tensors[old_name] = tensors.pop(new_name)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert set(old) <= set(load_file(tmp_path / "model.safetensors"))

    config = WavLMToxicityMTLConfig.from_encoder(source.config)
    backbone, info = WavLMBackbone.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    model = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config)
    for name, value in expected.items():
        assert torch.equal(backbone.state_dict()[name], value), name
        assert torch.equal(model.wavlm.state_dict()[name], value), name
