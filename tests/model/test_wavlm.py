import logging

import pytest
import torch
from tiny_models import NORMS, clips_of, pad, randomize_, tiny_config, tiny_model, tiny_wavlm_config
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import WavLMModel

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.outputs import length_mask
from modeling_toxmtl.wavlm import WavLMBackbone


def reference_and_ours(norm, attention="sdpa"):
    """transformers' model and ours with the same random weights."""
    config = tiny_wavlm_config(**norm)
    reference = randomize_(WavLMModel(config)).eval()
    nn.init.normal_(reference.encoder.layers[0].attention.rel_attn_embed.weight)
    ours = WavLMBackbone._from_config(WavLMToxicityMTLConfig.from_encoder(config), attn_implementation=attention)
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
    atol = 1e-5 if attention == "eager" else 2e-5  # other operations, other rounding
    torch.testing.assert_close(unmasked.last_hidden_state, expected.last_hidden_state, atol=atol, rtol=0)
    torch.testing.assert_close(masked.last_hidden_state, expected.last_hidden_state, atol=atol, rtol=0)
    assert len(unmasked.hidden_states) == len(expected.hidden_states) == 3
    for ours_states, theirs in zip(unmasked.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        assert ours_states.shape == (3, 44, 16)
        torch.testing.assert_close(ours_states, theirs, atol=atol, rtol=0)
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


def test_interface_is_that_of_transformers(norm):
    reference, ours = reference_and_ours(norm)
    input_values = torch.stack(clips_of(900, 900))
    spans = torch.arange(44)[None, :] % torch.tensor([[5], [7]]) == 0
    reference.config.apply_spec_augment = ours.config.apply_spec_augment = True
    with torch.no_grad():
        ours.masked_spec_embed.copy_(reference.masked_spec_embed)
        expected, found = reference(input_values, mask_time_indices=spans), ours(input_values, mask_time_indices=spans)
        plain, features, *_ = ours(input_values, return_dict=False)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.extract_features, expected.extract_features, atol=2e-5, rtol=0)
    assert torch.equal(features, found.extract_features)  # spans are masked after them
    assert not torch.allclose(found.last_hidden_state, plain, atol=0.1)


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
    model = WavLMBackbone(tiny_config(output_hidden_states=True, output_attentions=True, attn_implementation="eager"))
    batch = pad(clips_of(100))
    assert len(model(**batch).hidden_states) == 3
    assert len(model(**batch).attentions) == 2
    assert model(**batch, output_hidden_states=False).hidden_states is None
    assert model(**batch, output_attentions=False).attentions is None


# --- training


def test_frozen_convolutions_keep_no_graph(norm):
    model = WavLMBackbone(tiny_config(**norm)).train()
    model.freeze_feature_encoder()
    input_values = torch.stack(clips_of(900))
    assert not model.feature_extractor(input_values).requires_grad
    assert model(input_values).last_hidden_state.requires_grad
    assert model.feature_extractor(input_values.requires_grad_()).requires_grad


def test_training_equals_transformers(norm):
    """Recomputed activations give transformers' gradients."""
    reference, ours = reference_and_ours(norm)
    input_values = torch.stack(clips_of(900, 900))
    reference(input_values).last_hidden_state.square().mean().backward()
    ours(input_values).last_hidden_state.square().mean().backward()
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    for name, parameter in ours.named_parameters():
        if name != "masked_spec_embed":
            torch.testing.assert_close(parameter.grad, expected.pop(name), atol=1e-5, rtol=1e-3, msg=name)
    assert not expected


def gradients_of(model, names):
    """Of a loss that weighs every feature differently, for the parameters named."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in names))
    states = model(torch.stack(clips_of(700, 700))).last_hidden_state
    (states * torch.arange(1, states.shape[-1] + 1)).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("names", [["conv_layers.1", "conv_layers.2"], ["feature_extractor", "bias"], ["layer_norm"]])
def test_partly_frozen_convolutions_train(norm, names):
    """As in transformers, whichever of them are trained."""
    reference, ours = reference_and_ours(norm)
    expected = gradients_of(reference.eval(), names)
    found = gradients_of(ours.eval(), names)
    assert any("feature_extractor" in name for name in found)
    for name, gradient in found.items():
        if expected[name] is not None and gradient is not None:
            torch.testing.assert_close(gradient, expected[name], atol=1e-3, rtol=1e-3, msg=name)
        assert (gradient is None) == (expected[name] is None), name


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_repeats_the_dropout_of_attention(norm, use_reentrant):
    model = randomize_(WavLMBackbone(tiny_config(**norm, attention_dropout=0.4))).train()
    gradients = []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        torch.manual_seed(0)
        model.zero_grad()
        model(torch.stack(clips_of(700, 700))).last_hidden_state.square().sum().backward()
        gradients.append(model.encoder.layers[1].attention.v_proj.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 8), reason="shards on a CPU are new")
def test_sharded_blocks(norm, tmp_path):
    """FSDP gathers a block's parameters while the block runs, not before."""
    model, sharded = tiny_model(**norm, layerdrop=0.0).train(), tiny_model(**norm, layerdrop=0.0).train()
    batch = pad(clips_of(700, 400))
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for layer in sharded.wavlm.encoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        for each in (model, sharded):
            each(**batch).logits.square().sum().backward()
        for (name, parameter), expected in zip(sharded.named_parameters(), model.parameters(), strict=True):
            if expected.grad is not None:
                torch.testing.assert_close(parameter.grad.full_tensor(), expected.grad, msg=name)
    finally:
        torch.distributed.destroy_process_group()


# --- lengths


def test_too_short_clip_is_named(norm):
    model = WavLMBackbone(tiny_config(**norm))
    with pytest.raises(ValueError, match=r"clip 1 of the batch has 29 samples.* at least 30"):
        model(**pad(clips_of(100, 29, 60)))
    with pytest.raises(ValueError, match=r"every clip of the batch has 29 samples.* at least 30"):
        model(torch.zeros(2, 29))
    assert model(**pad(clips_of(100, 30))).frame_mask.sum(-1).tolist() == [4, 1]
    assert model(torch.zeros(2, 30)).last_hidden_state.shape == (2, 1, 16)


def test_padding_values_do_not_matter(norm):
    model = randomize_(WavLMBackbone(tiny_config(**norm))).eval()
    clips = clips_of(200, 95)
    quiet, loud = model(**pad(clips, extra=30)), model(**pad(clips, extra=30, value=1e3))
    valid = quiet.frame_mask
    torch.testing.assert_close(loud.last_hidden_state[valid], quiet.last_hidden_state[valid], atol=1e-5, rtol=0)


def test_attention_masks_that_say_something_else(norm):
    _, model = reference_and_ours(norm)
    batch = pad(clips_of(900, 411))
    with pytest.raises(ValueError, match="pad on the right"):
        model(batch["input_values"], batch["attention_mask"].flip(1))
    with pytest.raises(ValueError, match=r"must be of shape \(2, 900\), as the waveforms, but is of \(2, 44\)"):
        model(batch["input_values"], batch["attention_mask"][:, :44])


# --- SpecAugment


def test_spec_augment_puts_the_mask_embedding_on_spans():
    fields = {"apply_spec_augment": True, "mask_time_prob": 0.3, "mask_time_length": 4, "mask_time_min_masks": 1}
    model = randomize_(WavLMBackbone(tiny_config(**fields))).train()
    frames = torch.randn(4, 50, 16)
    frame_mask = length_mask(torch.tensor([50, 50, 50, 20]), 50)
    masked = model._mask_time(frames, frame_mask)
    changed = (masked != frames).any(-1)
    assert changed.any(-1).all()
    assert (masked[changed] == model.masked_spec_embed).all()
    assert torch.equal(masked[~changed], frames[~changed])
    assert not changed[3, 20:].any()


def test_no_mask_embedding_without_time_masking():
    model = WavLMBackbone(tiny_config(apply_spec_augment=True, mask_time_prob=0.0)).train()
    assert model.masked_spec_embed is None
    model(**pad(clips_of(100)))


def test_import_is_quiet(caplog):
    with caplog.at_level(logging.WARNING):
        WavLMBackbone(tiny_config())
    assert not caplog.text
