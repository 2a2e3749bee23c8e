"""What holds whichever encoder a model has."""

import pytest
import torch
from tiny_models import ENCODERS, NORMS, clips_of, inputs_of, tiny_model
from torch import nn


def batch_of(model, *lengths):
    return inputs_of(model, clips_of(*lengths))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32, torch.bfloat16])
def test_attention_masks_of_any_kind(encoder, dtype):
    model = tiny_model(**encoder).base_model
    batch = batch_of(model, 900, 411)
    with torch.no_grad():
        expected = model(**batch)
        found = model(batch[model.main_input_name], batch["attention_mask"].to(dtype))
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


# --- what happens in training alone


@pytest.mark.parametrize("kind", ["hidden", "activation", "attention"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_dropout_only_in_training(encoder, kind, attention):
    field = "dropout" if kind == "hidden" and "family" in encoder else f"{kind}_dropout"
    model = tiny_model(**encoder, **{field: 0.5}).base_model
    model.set_attn_implementation(attention)
    batch = batch_of(model, 400, 95)
    assert torch.equal(model(**batch).last_hidden_state, model(**batch).last_hidden_state)
    model.train()
    assert not torch.allclose(model(**batch).last_hidden_state, model(**batch).last_hidden_state)


def test_spec_augment_only_in_training(encoder):
    masked = {"apply_spec_augment": True, "mask_time_prob": 0.4, "mask_time_length": 4, "mask_time_min_masks": 1}
    model = tiny_model(**encoder, **masked).base_model
    batch = batch_of(model, 600, 310)
    given = batch[model.main_input_name].clone()
    expected = model(**batch).last_hidden_state
    model.train()
    assert not torch.allclose(model(**batch).last_hidden_state, expected)
    assert torch.equal(batch[model.main_input_name], given)  # the caller's own
    model.config.apply_spec_augment = False
    torch.testing.assert_close(model(**batch).last_hidden_state, expected)


def test_layer_drop_only_in_training(encoder):
    """The first block, which holds WavLM's position bias, always runs, and so does the norm on top."""
    field = "encoder_layerdrop" if "family" in encoder else "layerdrop"
    model = tiny_model(**encoder, num_hidden_layers=4, **{field: 1.0 - 1e-6}).base_model
    batch = batch_of(model, 200)
    states = model(**batch, output_hidden_states=True).hidden_states
    assert not any(torch.equal(below, above) for below, above in zip(states[:-1], states[1:], strict=True))
    model.train()
    states = model(**batch, output_hidden_states=True).hidden_states
    assert len(states) == 5
    assert not torch.equal(states[0], states[1]) and torch.equal(states[1], states[3])
    has_norm_on_top = encoder not in (NORMS["group"], ENCODERS["plain"])
    assert torch.equal(states[3], states[4]) != has_norm_on_top


# --- what others' tools find


def test_linear_layers_are_plain_and_called_as_modules(encoder, system):
    """4-bit quantisation replaces `nn.Linear` itself, not what derives from it; pruning and offloading hook into the
    call, and see clips and frames there."""
    model = tiny_model(**encoder, **system)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert linears and {type(module) for module in linears.values()} == {nn.Linear}
    batch = batch_of(model, 400, 130)
    num_frames = model.base_model(**batch).frame_mask.shape[1]
    shapes = {}
    for name, module in linears.items():
        module.register_forward_hook(lambda *call, name=name: shapes.update({name: call[2].shape[:-1]}))
    for is_training in (False, True):
        shapes.clear()
        with torch.set_grad_enabled(is_training):
            model.train(is_training)(**batch)
        assert set(shapes) == set(linears)
        framewise = {shape for name, shape in shapes.items() if name != "classifier" and "gru_rel_pos" not in name}
        assert framewise == {(2, num_frames)}


def test_blocks_are_found_by_fsdp(encoder, system):
    """By the names of classes that the model really has."""
    pytest.importorskip("accelerate", "1.6", reason="has no FSDP 2")
    utils = pytest.importorskip("accelerate.utils")
    model = tiny_model(**encoder, **system)
    plugin = utils.FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    policy = utils.fsdp_utils.fsdp2_prepare_auto_wrap_policy(plugin, model)
    blocks = model.base_model.encoder
    adapters = [adapter for places in blocks.task_adapters.values() for adapter in places.values()]
    assert {module for module in model.modules() if policy(module)} == {*blocks.layers, *adapters}
