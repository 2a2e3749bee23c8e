import logging

import pytest
import torch
from conftest import NORMS, clips_of, pad, randomize_, tiny_config, tiny_wavlm_config
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import WavLMForCTC, WavLMForSequenceClassification, WavLMModel

from modeling_toxmtl.backbone_toxmtl import (
    TaskAdapter,
    WavLMToxicityBackbone,
    length_mask,

)
from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL


def reference_and_ours(norm, attention="sdpa"):
    """transformers' model and ours with the same random weights."""
    config = tiny_wavlm_config(**norm)
    reference = randomize_(WavLMModel(config)).eval()
    nn.init.normal_(reference.encoder.layers[0].attention.rel_attn_embed.weight)
    ours = WavLMToxicityBackbone._from_config(WavLMToxicityMTLConfig.from_wavlm(config), attn_implementation=attention)
    ours.load_state_dict(reference.state_dict(), strict=True)
    return reference, ours.eval()


# --- equality with transformers


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_transformers(norm, attention):
    reference, ours = reference_and_ours(norm, attention)
    assert ours.config._attn_implementation == attention
    input_values = torch.stack(clips_of(900, 900, 900))  # 44 frames: beyond max_bucket_distance
    with torch.no_grad():
        expected = reference(input_values, output_hidden_states=True)
        unmasked = ours(input_values, output_hidden_states=True)
        masked = ours(input_values, torch.ones_like(input_values, dtype=torch.long))
    assert unmasked.frame_mask is None
    assert masked.frame_mask.all() and masked.frame_mask.shape == (3, 44)
    torch.testing.assert_close(unmasked.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(masked.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
    assert len(unmasked.hidden_states) == len(expected.hidden_states) == 3
    for ours_states, theirs in zip(unmasked.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        assert ours_states.shape == (3, 44, 16)
        torch.testing.assert_close(ours_states, theirs, atol=1e-5, rtol=0)
    # transformers' last state of a pre-norm model has been with and without the final norm, from version to version
    assert torch.equal(unmasked.hidden_states[-1], unmasked.last_hidden_state)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_transformers_with_padding(attention):
    """With layer norm, transformers too is exact in a padded batch."""
    reference, ours = reference_and_ours(NORMS["layer"], attention)
    batch = pad(clips_of(900, 411, 63))
    with torch.no_grad():
        expected = reference(**batch).last_hidden_state
        encoded = ours(**batch)
    assert encoded.frame_mask.sum(-1).tolist() == [44, 20, 2]
    torch.testing.assert_close(
        encoded.last_hidden_state[encoded.frame_mask], expected[encoded.frame_mask], atol=1e-5, rtol=0
    )


def test_position_bias_is_transformers(norm):
    reference, ours = reference_and_ours(norm)
    for length in (1, 2, 40):
        expected = reference.encoder.layers[0].attention.compute_bias(length, length)
        assert torch.equal(ours.encoder.layers[0].attention.position_bias(length), expected[None])
    assert not any(name.endswith("rel_attn_embed.weight") for name, _ in ours.encoder.layers[1].named_parameters())


# --- attention weights


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_weights(norm, attention):
    _, ours = reference_and_ours(norm, attention)
    batch = pad(clips_of(400, 130, 31))
    with torch.no_grad():
        encoded = ours(**batch, output_attentions=True)
        plain = ours(**batch)
    assert plain.attentions is None and plain.hidden_states is None
    assert len(encoded.attentions) == 2
    valid = encoded.frame_mask
    for weights in encoded.attentions:
        assert weights.shape == (3, 2, 19, 19)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 19))
        assert (weights.transpose(1, 3)[~valid] == 0).all()  # (clip, key, query, head)
        assert not torch.allclose(weights[:, 0], weights[:, 1])  # per head, not averaged
    torch.testing.assert_close(encoded.last_hidden_state[valid], plain.last_hidden_state[valid], atol=1e-5, rtol=0)


def test_outputs_chosen_in_the_configuration():
    model = WavLMToxicityBackbone(
        tiny_config(output_hidden_states=True, output_attentions=True, attn_implementation="eager")
    )
    batch = pad(clips_of(100))
    assert len(model(**batch).hidden_states) == 3
    assert len(model(**batch).attentions) == 2
    assert model(**batch, output_hidden_states=False).hidden_states is None
    assert model(**batch, output_attentions=False).attentions is None


def test_attention_dropout_only_in_training():
    for attention in ("sdpa", "eager"):
        config = tiny_config(attention_dropout=0.5)
        model = randomize_(WavLMToxicityBackbone._from_config(config, attn_implementation=attention))
        batch = pad(clips_of(200))
        model.eval()
        assert torch.equal(model(**batch).last_hidden_state, model(**batch).last_hidden_state)
        model.train()
        assert not torch.allclose(model(**batch).last_hidden_state, model(**batch).last_hidden_state)


# --- lengths


def test_length_mask():
    assert length_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]


def test_masked_group_norm_by_hand():
    norm = nn.GroupNorm(1, 1, eps=0.0)
    nn.init.constant_(norm.weight, 2.0)
    nn.init.constant_(norm.bias, 0.5)
    x = torch.tensor([[[1.0, 3.0, 100.0]]])  # mean 2 and deviation 1 over the first two
    y = masked_group_norm(x, norm, torch.tensor([[True, True, False]]))
    assert y[0, 0, :2].tolist() == [-1.5, 2.5]


def test_masked_group_norm_of_full_clips_is_group_norm():
    norm = randomize_(nn.GroupNorm(4, 4))
    x = torch.randn(3, 4, 11)
    torch.testing.assert_close(masked_group_norm(x, norm, torch.ones(3, 11, dtype=torch.bool)), norm(x))


def test_too_short_clip_is_named(norm):
    model = WavLMToxicityBackbone(tiny_config(**norm))
    with pytest.raises(ValueError, match=r"clip 1 of the batch has 29 samples.* at least 30"):
        model(**pad(clips_of(100, 29, 60)))
    with pytest.raises(ValueError, match=r"every clip of the batch has 29 samples.* at least 30"):
        model(torch.zeros(2, 29))
    assert model(**pad(clips_of(100, 30))).frame_mask.sum(-1).tolist() == [4, 1]
    assert model(torch.zeros(2, 30)).last_hidden_state.shape == (2, 1, 16)


def test_padding_values_do_not_matter(norm):
    model = randomize_(WavLMToxicityBackbone(tiny_config(**norm))).eval()
    clips = clips_of(200, 95)
    quiet, loud = model(**pad(clips, extra=30)), model(**pad(clips, extra=30, value=1e3))
    valid = quiet.frame_mask
    torch.testing.assert_close(loud.last_hidden_state[valid], quiet.last_hidden_state[valid], atol=1e-5, rtol=0)


# --- checkpoints


def test_loads_a_ctc_checkpoint(tmp_path, norm):
    source = randomize_(WavLMForCTC(tiny_wavlm_config(**norm)))
    source.save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_wavlm(source.config)
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    new = {"classifier.weight", "classifier.bias", "projector.weight", "projector.bias"}
    assert set(info["missing_keys"]) == new
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    loaded = model.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(loaded[name], value), name
    assert set(loaded) - set(source.state_dict()) == new


def test_loads_a_classifier_checkpoint(tmp_path):
    source = WavLMForSequenceClassification(tiny_wavlm_config(id2label={0: "calm", 1: "angry", 2: "sad"}))
    randomize_(source).save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_wavlm(source.config, tasks=["classification"])
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    source.eval(), model.eval()
    clip = torch.stack(clips_of(300))
    torch.testing.assert_close(model(clip).logits, source(clip).logits, atol=1e-5, rtol=0)


def test_loads_a_bare_checkpoint(tmp_path):
    source = randomize_(WavLMModel(tiny_wavlm_config()))
    source.save_pretrained(tmp_path)
    config = WavLMToxicityMTLConfig.from_wavlm(source.config, tasks=["keyword"])
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

    config = WavLMToxicityMTLConfig.from_wavlm(source.config)
    backbone, info = WavLMToxicityBackbone.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    model = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config)
    for name, value in expected.items():
        assert torch.equal(backbone.state_dict()[name], value), name
        assert torch.equal(model.wavlm.state_dict()[name], value), name


# --- task adapters


def test_adapter_has_the_papers_size():
    with torch.device("meta"):
        adapter = TaskAdapter(WavLMToxicityMTLConfig())
    count = sum(parameter.numel() for parameter in adapter.parameters())
    assert count == 4_331_648
    assert 4_328_700 <= count <= 4_332_500


def test_adapter_mask_lies_between_0_and_2():
    adapter = randomize_(TaskAdapter(tiny_config()))
    nn.init.normal_(adapter.up_proj.weight, std=10.0)
    shared = torch.rand(2, 7, 16) + 0.5
    mask = adapter(shared) / shared
    assert (mask >= 0).all() and (mask <= 2).all()
    assert mask.min() < 0.5 and mask.max() > 1.5


def test_adapter_reads_the_place_below():
    adapter = randomize_(TaskAdapter(tiny_config()))
    shared, previous = torch.randn(2, 1, 7, 16)
    assert not torch.allclose(adapter(shared), adapter(shared, previous))
    torch.testing.assert_close(
        adapter(shared, previous) / shared, adapter(shared + previous) / (shared + previous), atol=1e-5, rtol=1e-5
    )


def test_adapter_sees_frames_around():
    """Its convolution and attention mix the frames of a clip, but never those of the padding."""
    adapter = randomize_(TaskAdapter(tiny_config()))
    mask = length_mask(torch.tensor([5]), 7)
    shared = torch.randn(1, 7, 16)
    in_clip, in_padding = shared.clone(), shared.clone()
    in_clip[:, 4] *= -1.0
    in_padding[:, 5:] *= -1.0
    expected = adapter(shared, None, mask)
    assert not torch.allclose(adapter(in_clip, None, mask)[:, 0], expected[:, 0])
    torch.testing.assert_close(adapter(in_padding, None, mask)[:, :5], expected[:, :5])
    torch.testing.assert_close(adapter(shared[:, :5]), expected[:, :5], atol=1e-6, rtol=1e-5)


def test_adapters_of_each_task_at_each_place():
    backbone = WavLMToxicityBackbone(tiny_config(use_task_adapter=True))
    assert {task: len(adapters) for task, adapters in backbone.encoder.task_adapters.items()} == {
        "classification": 3,
        "keyword": 3,
    }
    only = WavLMToxicityBackbone(tiny_config(use_task_adapter=True, tasks=["keyword"]))
    assert list(only.encoder.task_adapters) == ["keyword"]
    assert len(WavLMToxicityBackbone(tiny_config()).encoder.task_adapters) == 0
    assert not any("task_adapters" in name for name in WavLMToxicityBackbone(tiny_config()).state_dict())


def test_task_features_are_the_last_adapters_output(norm):
    """Recomputed from the hidden states: `adapted_j = adapter_j(shared_j, adapted_{j-1})`."""
    backbone = randomize_(WavLMToxicityBackbone(tiny_config(use_task_adapter=True, **norm))).eval()
    encoded = backbone(**pad(clips_of(200, 90)), output_hidden_states=True)
    for task, adapters in backbone.encoder.task_adapters.items():
        adapted = None
        for adapter, shared in zip(adapters, encoded.hidden_states, strict=True):
            adapted = adapter(shared, adapted, encoded.frame_mask)
        torch.testing.assert_close(encoded.task_features[task], adapted)
    plain = randomize_(WavLMToxicityBackbone(tiny_config(**norm))).eval()(**pad(clips_of(200, 90)))
    assert all(torch.equal(features, plain.last_hidden_state) for features in plain.task_features.values())


# --- SpecAugment and LayerDrop


def test_spec_augment_only_in_training():
    fields = {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 3}
    model = randomize_(WavLMToxicityBackbone(tiny_config(**fields)))
    batch = pad(clips_of(400, 200, 31))
    model.eval()
    expected = model(**batch).last_hidden_state
    model.train()
    assert not torch.allclose(model(**batch).last_hidden_state, expected)
    model.config.apply_spec_augment = False
    torch.testing.assert_close(model(**batch).last_hidden_state, expected)


def test_spec_augment_puts_the_mask_embedding_on_spans():
    fields = {"apply_spec_augment": True, "mask_time_prob": 0.3, "mask_time_length": 4, "mask_time_min_masks": 1}
    model = randomize_(WavLMToxicityBackbone(tiny_config(**fields))).train()
    frames = torch.randn(4, 50, 16)
    frame_mask = length_mask(torch.tensor([50, 50, 50, 20]), 50)
    masked = model._mask_time(frames, frame_mask)
    changed = (masked != frames).any(-1)
    assert changed.any(-1).all()
    assert (masked[changed] == model.masked_spec_embed).all()
    assert torch.equal(masked[~changed], frames[~changed])
    assert not changed[3, 20:].any()


def test_no_mask_embedding_without_time_masking():
    model = WavLMToxicityBackbone(tiny_config(apply_spec_augment=True, mask_time_prob=0.0)).train()
    assert model.masked_spec_embed is None
    model(**pad(clips_of(100)))


def test_layer_drop_only_in_training():
    model = randomize_(WavLMToxicityBackbone(tiny_config(num_hidden_layers=4, layerdrop=0.999)))
    batch = pad(clips_of(200))
    model.eval()
    states = model(**batch, output_hidden_states=True).hidden_states
    assert not any(torch.equal(below, above) for below, above in zip(states[:-1], states[1:], strict=True))
    model.train()
    states = model(**batch, output_hidden_states=True).hidden_states
    assert len(states) == 5
    assert not torch.equal(states[0], states[1])  # the first block holds the position bias and always runs
    assert torch.equal(states[1], states[4])


def test_import_is_quiet(caplog):
    with caplog.at_level(logging.WARNING):
        WavLMToxicityBackbone(tiny_config())
    assert not caplog.text
