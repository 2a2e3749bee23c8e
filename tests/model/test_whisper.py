import copy
import json

import pytest
import torch
from tiny_models import mel_of, pad_mel, randomize_, tiny_config, tiny_model, tiny_whisper_config
from torch import nn
from transformers import (
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging

from modeling_toxmtl.configuration_toxmtl import WhisperToxicityMTLConfig
from modeling_toxmtl.modeling_toxmtl import WhisperForToxicityMTL
from modeling_toxmtl.whisper import WhisperBackbone


def reference_and_ours(attention="sdpa"):
    """transformers' encoder and ours with the same random weights."""
    config = tiny_whisper_config(attn_implementation=attention)
    reference = randomize_(WhisperEncoder(config)).eval()
    ours = WhisperBackbone._from_config(WhisperToxicityMTLConfig.from_encoder(config), attn_implementation=attention)
    ours.encoder.load_state_dict(reference.state_dict(), strict=True)
    return reference, ours.eval()


# --- equality with transformers


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_transformers_on_clips_that_fill_the_positions(attention):
    reference, ours = reference_and_ours(attention)
    assert ours.config._attn_implementation == attention
    features = torch.stack(mel_of(200, 200))
    with torch.no_grad():
        expected = reference(features, output_hidden_states=True)
        unmasked = ours(features, output_hidden_states=True)
        masked = ours(features, torch.ones(2, 200, dtype=torch.long))
    assert unmasked.frame_mask is None
    assert masked.frame_mask.all() and masked.frame_mask.shape == (2, 100)
    torch.testing.assert_close(unmasked.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(masked.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
    assert len(unmasked.hidden_states) == 3
    for ours_states, theirs in zip(unmasked.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours_states, theirs, atol=1e-5, rtol=0)


def test_training_equals_transformers():
    reference, ours = reference_and_ours()
    features = torch.stack(mel_of(200, 200))
    reference(features).last_hidden_state.square().mean().backward()
    ours(features).last_hidden_state.square().mean().backward()
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    for name, parameter in ours.encoder.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected.pop(name), atol=1e-5, rtol=1e-3, msg=name)
    assert not expected


def test_a_shorter_clip_is_not_padded_to_the_positions():
    """Position, convolutions and attention of the frames that there are, and no others: as transformers with as many
    positions."""
    reference, ours = reference_and_ours()
    shorter = WhisperEncoder(tiny_whisper_config(max_source_positions=31)).eval()
    weights = reference.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:31]
    shorter.load_state_dict(weights)
    features = torch.stack(mel_of(62))
    with torch.no_grad():
        found, expected = ours(features).last_hidden_state, shorter(features).last_hidden_state
    assert found.shape == (1, 31, 16)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_positions_are_sinusoids():
    """Also where a checkpoint has none: they are never trained."""
    model = WhisperForToxicityMTL(tiny_config("whisper"))
    positions = model.model.encoder.embed_positions.weight
    torch.testing.assert_close(positions, WhisperEncoder(tiny_whisper_config()).embed_positions.weight)
    assert not positions.requires_grad


# --- lengths


def test_features_do_not_depend_on_the_batch():
    _, model = reference_and_ours()
    clips = mel_of(60, 1, 37, 2)
    with torch.no_grad():
        for order, extra in (((0, 1, 2, 3), 0), ((2, 3, 0, 1), 9)):
            together = model(**pad_mel([clips[i] for i in order], extra=extra, value=1e3))
            assert together.frame_mask.sum(-1).tolist() == [(clips[i].shape[1] + 1) // 2 for i in order]
            for row, i in enumerate(order):
                alone = model(clips[i][None]).last_hidden_state[0]
                found = together.last_hidden_state[row][together.frame_mask[row]]
                torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


def test_padding_that_is_no_number():
    _, model = reference_and_ours()
    clips = mel_of(20, 7)
    with torch.no_grad():
        expected, found = model(**pad_mel(clips)), model(**pad_mel(clips, value=float("nan")))
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


def test_frames_are_those_of_the_configuration():
    """Whisper's features have a mel frame for each 160 samples, and the encoder a frame for each two of these."""
    config = WhisperToxicityMTLConfig()
    model = WhisperBackbone(tiny_config("whisper"))
    for num_samples in (400, 480, 800, 16_000):
        frames = model(torch.zeros(1, 8, num_samples // 160)).last_hidden_state.shape[1]
        assert frames == config.num_frames(num_samples)
    assert torch.equal(config.num_frames(torch.tensor([479, 480])), torch.tensor([1, 2]))
    assert config.num_frames(30 * 16_000) == config.max_source_positions == 1500
    assert config.inputs_to_logits_ratio == 320
    assert config.max_samples == 30 * 16_000


def test_longer_than_the_positions():
    model = WhisperBackbone(tiny_config("whisper"))
    assert model(torch.zeros(1, 8, 200)).last_hidden_state.shape == (1, 100, 16)
    with pytest.raises(ValueError, match=r"201 mel frames.* for 200 \(2 s\).* shorter windows"):
        model(torch.zeros(1, 8, 201))


def test_inputs_that_say_something_else():
    model = WhisperBackbone(tiny_config("whisper"))
    batch = pad_mel(mel_of(50, 23))
    with pytest.raises(ValueError, match="pad on the right"):
        model(batch["input_features"], batch["attention_mask"].flip(1))
    with pytest.raises(ValueError, match=r"must be of shape \(2, 50\), as the features' frames, but is of \(2, 25\)"):
        model(batch["input_features"], batch["attention_mask"][:, :25])
    with pytest.raises(ValueError, match="clip 1 of the batch has no frame"):
        model(batch["input_features"], batch["attention_mask"] * torch.tensor([[1], [0]]))
    with pytest.raises(ValueError, match=r"\(2, 8, mel frames\).* but is of \(2, 50, 8\)"):
        model(batch["input_features"].mT)


# --- attention weights


def test_attention_weights():
    _, model = reference_and_ours("eager")
    with torch.no_grad():
        encoded = model(**pad_mel(mel_of(40, 13)), output_attentions=True)
        plain = model(**pad_mel(mel_of(40, 13)))
    assert plain.attentions is None and plain.hidden_states is None
    assert len(encoded.attentions) == 2
    for weights in encoded.attentions:
        assert weights.shape == (2, 2, 20, 20)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 20))
        assert (weights[1, :, :, 7:] == 0).all()
    assert torch.equal(encoded.last_hidden_state, plain.last_hidden_state)
    assert not any(layer.self_attn._forward_hooks for layer in model.encoder.layers)


def test_attention_weights_need_an_implementation_that_has_them():
    _, model = reference_and_ours()
    with pytest.raises(ValueError, match="eager"):
        model(**pad_mel(mel_of(40)), output_attentions=True)
    model.set_attn_implementation("eager")
    assert len(model(**pad_mel(mel_of(40)), output_attentions=True).attentions) == 2


# --- training


MASKED = {"apply_spec_augment": True, "mask_time_prob": 0.4, "mask_time_length": 4, "mask_time_min_masks": 1}


def test_spec_augment_puts_zeros_on_spans():
    fields = {"mask_feature_prob": 0.3, "mask_feature_length": 2, "mask_feature_min_masks": 1}
    features, mask = torch.ones(4, 8, 50), torch.arange(50) < torch.tensor([[50], [50], [50], [20]])
    model = WhisperBackbone(tiny_config("whisper", **MASKED)).train()
    masked = model._mask_features(features, mask) == 0
    assert masked.all(1).any(-1).all() and torch.equal(masked.all(1), masked.any(1))  # whole frames of each clip
    assert not masked[3, :, 20:].any()
    model = WhisperBackbone(tiny_config("whisper", **MASKED | {"mask_time_prob": 0.0}, **fields)).train()
    masked = model._mask_features(features, mask) == 0
    assert masked.all(2).any(-1).all() and torch.equal(masked.all(2), masked.any(2))  # whole bins of each clip


def test_spec_augment_on_clips_shorter_than_its_spans():
    model = WhisperBackbone(tiny_config("whisper", apply_spec_augment=True, mask_time_length=10)).train()
    assert model(**pad_mel(mel_of(6, 1))).last_hidden_state.isfinite().all()


# --- checkpoints


def loaded(folder, caplog, **options):
    """The model and what transformers had to say of its loading."""
    logging.enable_propagation()
    model, info = WhisperForToxicityMTL.from_pretrained(folder, output_loading_info=True, **options)
    logging.disable_propagation()
    return model, info, caplog.text


@pytest.mark.parametrize("kind", [WhisperModel, WhisperForConditionalGeneration])
def test_loads_the_encoder_of_a_checkpoint(kind, tmp_path, caplog):
    source = randomize_(kind(tiny_whisper_config())).eval()
    source.save_pretrained(tmp_path)
    model, info, said = loaded(tmp_path, caplog)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"projector", "classifier", "lm_head"}
    assert "decoder" not in said and "You are using a model of type" not in said
    encoder = source.get_encoder()
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.model.encoder.state_dict()[name], value), name
    assert model.config.vocab_size == 32 and model.config.pad_token_id == 0  # characters, not Whisper's tokens
    features = torch.stack(mel_of(200))
    with torch.no_grad():
        found = model.eval().model(features).last_hidden_state
        torch.testing.assert_close(found, encoder(features).last_hidden_state, atol=1e-5, rtol=0)


def test_loads_a_classifier(tmp_path, caplog):
    """transformers' classifier on Whisper is the Toxicity Classifier: same logits on clips that fill the positions."""
    source = WhisperForAudioClassification(tiny_whisper_config(id2label={0: "calm", 1: "angry", 2: "sad"}))
    randomize_(source).eval().save_pretrained(tmp_path)
    config = WhisperToxicityMTLConfig.from_encoder(source.config, tasks=["classification"])
    model, info, _ = loaded(tmp_path, caplog, config=config)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    features = torch.stack(mel_of(200, 200))
    with torch.no_grad():
        found = model.eval()(features).logits
        torch.testing.assert_close(found, source(features).logits, atol=1e-5, rtol=0)


def test_backbone_loads_too(tmp_path):
    source = randomize_(WhisperForConditionalGeneration(tiny_whisper_config()))
    source.save_pretrained(tmp_path)
    backbone, info = WhisperBackbone.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    expected = source.get_encoder().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.encoder.state_dict().items())


def test_configuration_takes_over_the_encoder(tmp_path):
    """And nothing that concerns the decoder, with fields that transformers no longer has, as the published ones."""
    source = tiny_whisper_config(scale_embedding=False, dropout=0.1, apply_spec_augment=True).to_dict()
    source |= {"forced_decoder_ids": [[1, 2]], "max_length": 448, "suppress_tokens": [1, 2], "torch_dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(source))
    config = WhisperToxicityMTLConfig.from_pretrained(tmp_path)
    assert (config.hidden_size, config.num_hidden_layers, config.dropout, config.num_mel_bins) == (16, 2, 0.1, 8)
    assert config.apply_spec_augment and not config.is_encoder_decoder and config.suppress_tokens is None
    assert config.decoder_layers == WhisperToxicityMTLConfig().decoder_layers
    config.save_pretrained(tmp_path)
    assert WhisperToxicityMTLConfig.from_pretrained(tmp_path).to_diff_dict() == config.to_diff_dict()


def test_fields_by_their_common_names():
    config = WhisperToxicityMTLConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    assert (config.d_model, config.encoder_layers, config.encoder_attention_heads) == (32, 3, 4)


def test_adapters_have_the_places_of_the_paper():
    model = tiny_model(family="whisper", use_task_adapter=True)
    places = model.model.encoder.task_adapters
    assert set(places) == {"classification", "keyword"} and all(len(adapters) == 3 for adapters in places.values())
    before = copy.deepcopy(model)
    nn.init.normal_(places["keyword"]["0"].up_proj.weight)
    batch = pad_mel(mel_of(40, 13))
    with torch.no_grad():
        after, expected = model(**batch), before(**batch)
    assert torch.equal(after.logits, expected.logits)
    assert not torch.allclose(after.keyword_logits, expected.keyword_logits)
