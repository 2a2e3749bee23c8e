import logging

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny_models import NORMS, clips_of, pad, randomize_, tiny_config, tiny_model, tiny_wavlm_config
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.flop_counter import FlopCounterMode
from transformers import WavLMForCTC, WavLMForSequenceClassification, WavLMModel

from modeling_toxmtl import attention, kernels, wavlm
from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.kernels import apply_dropout, dropout_mask, recomputed
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL
from modeling_toxmtl.outputs import length_mask
from modeling_toxmtl.wavlm import TaskAdapter, ToxicityDropout, ToxicityGroupNormConvLayer, WavLMToxicityBackbone


def reference_and_ours(norm, attention="sdpa"):
    """transformers' model and ours with the same random weights."""
    config = tiny_wavlm_config(**norm)
    reference = randomize_(WavLMModel(config)).eval()
    nn.init.normal_(reference.encoder.layers[0].attention.rel_attn_embed.weight)
    ours = WavLMToxicityBackbone._from_config(
        WavLMToxicityMTLConfig.from_encoder(config), attn_implementation=attention
    )
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


def test_position_bias_is_transformers(norm):
    reference, ours = reference_and_ours(norm)
    attention = ours.encoder.layers[0].attention
    for length in (1, 2, 40):
        expected = reference.encoder.layers[0].attention.compute_bias(length, length)
        assert torch.equal(attention.position_bias(length), expected[None])
        assert torch.equal(attention.distance_bias(length)[:, length - 1 :], expected[:, 0])  # keys from the first on
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
    for implementation in ("sdpa", "eager"):
        config = tiny_config(attention_dropout=0.5)
        model = randomize_(WavLMToxicityBackbone._from_config(config, attn_implementation=implementation))
        batch = pad(clips_of(200))
        model.eval()
        assert torch.equal(model(**batch).last_hidden_state, model(**batch).last_hidden_state)
        model.train()
        assert not torch.allclose(model(**batch).last_hidden_state, model(**batch).last_hidden_state)


@pytest.mark.parametrize("frames", [1, 7, 1000])
def test_convolutions_a_piece_at_a_time(norm, frames, monkeypatch):
    _, model = reference_and_ours(norm)
    batch = pad(clips_of(900, 410))  # 44 frames
    lengths = batch["attention_mask"].sum(-1)
    expected = model.feature_extractor(batch["input_values"], lengths)
    assert expected.shape == (2, 44, 8)
    monkeypatch.setattr(wavlm, "FRAMES_IN_CACHE", frames)
    with torch.no_grad():
        pieces = model.feature_extractor(batch["input_values"], lengths)
    torch.testing.assert_close(pieces, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_feed_forward_a_piece_at_a_time(norm, rows, monkeypatch):
    _, model = reference_and_ours(norm)
    batch = pad(clips_of(900, 410))  # 88 rows
    expected = model(**batch).last_hidden_state
    monkeypatch.setattr(kernels, "ROWS_IN_CACHE", rows)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def test_frozen_convolutions_keep_no_graph(norm):
    model = WavLMToxicityBackbone(tiny_config(**norm)).train()
    model.freeze_feature_encoder()
    input_values = torch.stack(clips_of(900))
    assert not model.feature_extractor(input_values).requires_grad
    assert model(input_values).last_hidden_state.requires_grad
    assert model.feature_extractor(input_values.requires_grad_()).requires_grad


def operations(function, *inputs):
    """In floating point; of float64, PyTorch counts all."""
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops()


def test_mixed_lengths_cost_no_more_than_their_padded_length(norm):
    model = WavLMToxicityBackbone(tiny_config(**norm)).double()
    batch = pad(clips_of(900, 410, 31))
    samples = batch["input_values"].double()
    assert 0 < operations(model, samples, batch["attention_mask"]) <= operations(model, samples)


@pytest.mark.parametrize(("grad", "share"), [(False, 0.7), (True, 0.8)])
@pytest.mark.parametrize("adapters", [False, True])
def test_padding_costs_little_on_a_cpu(norm, adapters, grad, share):
    """Half of the samples are valid; attention (when small) and an adapter's convolution see the others too, and in
    training in float64 all convolutions."""
    sizes = {"conv_dim": (64, 64, 64), "hidden_size": 64, "intermediate_size": 256, "task_adapter_bottleneck_size": 32}
    model = WavLMToxicityBackbone(tiny_config(use_task_adapter=adapters, **sizes, **norm)).double()
    samples = torch.stack(clips_of(3000, 3000, 3000)).double()
    attention_mask = (torch.arange(3000) < torch.tensor([3000, 1000, 500])[:, None]).long()
    with torch.set_grad_enabled(grad):
        assert operations(model, samples, attention_mask) < share * operations(model, samples)


# --- training memory and speed


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


def test_recomputation_repeats_no_matrix_product_at_the_end():
    weight = torch.randn(5, 5, requires_grad=True)
    hidden_states = torch.randn(3, 5, requires_grad=True)

    def count(run):
        with FlopCounterMode(display=False) as counter:
            run(lambda x: nn.functional.gelu(x) @ weight, hidden_states).sum().backward()
        return counter.get_total_flops()

    assert count(recomputed) == count(lambda function, x: function(x)) == 3 * 2 * 3 * 5 * 5


def saved_bytes(model, input_values):
    """What the forward pass keeps for the backward pass, parameters aside."""
    kept = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        states = model(input_values).last_hidden_state
    assert states.requires_grad
    return sum(size for size, _ in kept.values())


def test_training_keeps_at_most_half_of_what_transformers_keeps(norm):
    """Wide enough that features, not parameters, count; dropout as by default."""
    fields = {"hidden_size": 64, "intermediate_size": 256, "conv_dim": (64, 64, 64), "num_attention_heads": 4}
    fields |= dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout"), 0.1)
    config = tiny_wavlm_config(**norm, **fields)
    input_values = torch.stack(clips_of(4000, 4000))
    ours = saved_bytes(WavLMToxicityBackbone(WavLMToxicityMTLConfig.from_encoder(config)).train(), input_values)
    theirs = saved_bytes(WavLMModel(config).train(), input_values)
    assert ours < 0.5 * theirs, (ours, theirs)


def test_dropout():
    dropout = ToxicityDropout(0.25)
    ones = torch.ones(100_000, requires_grad=True)
    dropped = dropout(ones)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped)
    assert dropout.eval()(ones) is ones
    assert torch.equal(ToxicityDropout(0.0).train()(ones), ones)


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_dropout_decides_for_each_feature_by_itself(probability):
    kept = (ToxicityDropout(probability).train()(torch.ones(4, 249, 101)) > 0).float().flatten()
    assert kept.mean().item() == pytest.approx(
        1 - probability, abs=4 * (probability * (1 - probability) / len(kept)) ** 0.5
    )
    shifted = torch.stack([kept.roll(shift) for shift in range(5)])  # four decisions share a random number
    correlations = torch.corrcoef(shifted)[0, 1:]
    assert correlations.abs().max() < 4 / len(kept) ** 0.5


def test_gradients_with_dropout_belong_to_the_forward_pass():
    """The recomputation drops what the forward pass dropped: the loss falls as the gradient says."""
    fields = {"attention_dropout": 0.3, "activation_dropout": 0.3, "hidden_dropout": 0.3}
    model = randomize_(WavLMToxicityBackbone(tiny_config(**fields))).double().train()
    clip = torch.stack(clips_of(400, 400)).double()

    def loss():
        torch.manual_seed(3)
        return model(clip).last_hidden_state.square().mean()

    loss().backward()
    layer = model.encoder.layers[0]
    parameters = (layer.attention.v_proj.weight, layer.attention.q_proj.weight, layer.feed_forward.output_dense.weight)
    for parameter in (*parameters, layer.feed_forward.intermediate_dense.weight):
        direction = parameter.grad / parameter.grad.norm()
        with torch.no_grad():
            parameter += 1e-5 * direction
            above = loss()
            parameter -= 2e-5 * direction
            slope = (above - loss()) / 2e-5
            parameter += 1e-5 * direction
        torch.testing.assert_close(slope, parameter.grad.norm(), atol=1e-7, rtol=1e-4)


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


@pytest.mark.parametrize("grad", [True, False])
def test_layers_are_called_as_modules(norm, grad):
    """Pruning, quantisation and offloading hook into the call, and LoRA takes the layer's place."""
    model = reference_and_ours(norm)[1].train(grad)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    called = set()
    for name, module in linears.items():
        module.register_forward_hook(lambda *args, name=name: called.add(name))
    with torch.set_grad_enabled(grad):
        model(torch.stack(clips_of(700)))
    assert called == set(linears)


def test_a_layer_in_the_place_of_the_last_one_runs_once(norm):
    """Such as LoRA, which has a dropout of its own: the backward pass must see the same."""

    class Noisy(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.calls = base, 0

        def forward(self, hidden_states):
            self.calls += 1
            return self.base(F.dropout(hidden_states, 0.5))

    model = reference_and_ours(norm)[1].train()
    feed_forward = model.encoder.layers[0].feed_forward
    feed_forward.output_dense = noisy = Noisy(feed_forward.output_dense)
    model(torch.stack(clips_of(700))).last_hidden_state.sum().backward()
    assert noisy.calls == 1


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_repeats_the_dropout_of_attention(norm, use_reentrant):
    model = randomize_(WavLMToxicityBackbone(tiny_config(**norm, attention_dropout=0.4))).train()
    gradients = []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        torch.manual_seed(0)
        model.zero_grad()
        model(torch.stack(clips_of(700, 700))).last_hidden_state.square().sum().backward()
        gradients.append(model.encoder.layers[1].attention.v_proj.weight.grad)
    torch.testing.assert_close(*gradients)


def test_dropout_of_everything():
    assert apply_dropout(torch.ones(3), dropout_mask(torch.ones(3), 1.0, True), 1.0).tolist() == [0, 0, 0]


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


# --- FlexAttention


@pytest.fixture
def flex_on_cpu(monkeypatch):
    """FlexAttention's formula without its kernel."""
    monkeypatch.setattr(attention, "flex_obstacle", lambda *args: None)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_equals_sdpa(flex_on_cpu, norm):
    _, flex = reference_and_ours(norm, "flex_attention")
    _, sdpa = reference_and_ours(norm, "sdpa")
    sdpa.load_state_dict(flex.state_dict())
    assert flex.config._attn_implementation == "flex_attention"
    batch = pad(clips_of(900, 411, 63))
    with torch.no_grad():
        actual, expected = flex(**batch), sdpa(**batch)
        valid = expected.frame_mask
        torch.testing.assert_close(
            actual.last_hidden_state[valid], expected.last_hidden_state[valid], atol=1e-5, rtol=0
        )
        clip = batch["input_values"][:1]
        torch.testing.assert_close(flex(clip).last_hidden_state, sdpa(clip).last_hidden_state, atol=1e-5, rtol=0)
        assert flex(clip, output_attentions=True).attentions[0].shape == (1, 2, 44, 44)


def test_flex_attention_falls_back_with_a_message(norm, caplog):
    _, flex = reference_and_ours(norm, "flex_attention")
    _, sdpa = reference_and_ours(norm, "sdpa")
    sdpa.load_state_dict(flex.state_dict())
    clip = torch.stack(clips_of(300))
    attention.logger.warning_once.cache_clear()
    with caplog.at_level(logging.WARNING), torch.no_grad():
        assert torch.equal(flex(clip).last_hidden_state, sdpa(clip).last_hidden_state)
    assert "`flex_attention` falls back to `sdpa`: it needs a CUDA device, but the model is on 'cpu'" in caplog.text


def test_flex_attention_needs_attention_dropout_off_in_training():
    obstacle = attention.flex_obstacle
    assert "`attention_dropout` is 0.1; set it to 0" in obstacle(tiny_config(attention_dropout=0.1), "cuda", True)
    assert obstacle(tiny_config(attention_dropout=0.1), "cuda", False) is None
    assert obstacle(tiny_config(), "cuda", True) is None


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_flex_attention_on_a_gpu():
    """Values and gradients, compiled once for all lengths."""
    fields = {"hidden_size": 32, "num_buckets": 320, "max_bucket_distance": 800}  # heads of 16, the least flex takes
    config = tiny_config(**fields)
    sdpa = randomize_(WavLMToxicityBackbone(config)).cuda()
    flex = WavLMToxicityBackbone._from_config(tiny_config(**fields), attn_implementation="flex_attention").cuda()
    flex.load_state_dict(sdpa.state_dict())
    for lengths in ((900, 411, 63), (5000, 4000)):
        batch = {name: tensor.cuda() for name, tensor in pad(clips_of(*lengths)).items()}
        outputs = []
        for model in (flex, sdpa):
            model.zero_grad()
            encoded = model(**batch)
            encoded.last_hidden_state[encoded.frame_mask].square().mean().backward()
            outputs.append((encoded, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
        (actual, gradients), (expected, expected_gradients) = outputs
        valid = expected.frame_mask
        torch.testing.assert_close(
            actual.last_hidden_state[valid], expected.last_hidden_state[valid], atol=1e-3, rtol=0
        )
        assert set(gradients) == set(expected_gradients)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-3, rtol=1e-2, msg=name)


# --- lengths


def test_length_mask():
    assert length_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]


def first_layer(**fields):
    return randomize_(ToxicityGroupNormConvLayer(tiny_config(**fields), layer_id=0))


def channels_of(layer, waveforms, lengths=None):
    """What the layer gives before its activation, `(B, T, C)`."""
    windows = waveforms.unfold(-1, layer.conv.kernel_size[0], layer.conv.stride[0])
    windows, weight, bias = layer.filters(windows, lengths)
    return windows @ weight + bias


def test_first_layer_by_hand():
    layer = first_layer(conv_dim=(1, 8, 8), conv_kernel=(1, 3, 2), conv_stride=(1, 2, 2))
    layer.layer_norm.eps = 0.0
    with torch.no_grad():
        layer.conv.weight.fill_(7.0)  # any scale is normalised away
        layer.layer_norm.weight.fill_(2.0)
        layer.layer_norm.bias.fill_(0.5)
    samples = torch.tensor([[1.0, 3.0, 100.0]])  # mean 2 and deviation 1 over the first two
    channels = channels_of(layer, samples, torch.tensor([2]))
    torch.testing.assert_close(channels[0, :2], torch.tensor([[-1.5], [2.5]]))


@pytest.mark.parametrize("conv_bias", [False, True])
def test_first_layer_is_convolution_and_group_norm(conv_bias):
    """Values and gradients, alone and beside longer clips."""
    layer = first_layer(conv_bias=conv_bias)
    clips = clips_of(200, 95, 17)  # 39, 18 and 2 frames
    batch = pad(clips, extra=9, value=50.0)
    ours = layer.finish(channels_of(layer, batch["input_values"], batch["attention_mask"].sum(-1)))
    assert ours.shape == (3, 40, 8)
    reference = [layer.activation(layer.layer_norm(layer.conv(clip[None, None])))[0].T for clip in clips]
    parameters = (layer.conv.weight, *layer.layer_norm.parameters())
    for row, expected in enumerate(reference):
        actual = ours[row, : len(expected)]
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=2e-5)
        alone = layer.finish(channels_of(layer, clips[row][None]))[0]
        torch.testing.assert_close(alone, expected, atol=2e-5, rtol=2e-5)
        gradients = torch.autograd.grad(actual.square().mean(), parameters, retain_graph=True)
        expected_gradients = torch.autograd.grad(expected.square().mean(), parameters, retain_graph=True)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-3)


def test_first_layer_on_a_slow_wave_with_an_offset():
    """The windows' covariance is nearly singular: float32 would lose the variance of a filter of fast waves."""
    layer = first_layer()
    with torch.no_grad():  # a third difference
        layer.conv.weight.copy_(torch.tensor([1.0, -3.0, 3.0, -1.0, 0, 0, 0, 0, 0, 0]).expand(8, 1, 10))
    layer.layer_norm.eps = 0.0
    wave = (0.5 + 0.4 * torch.sin(torch.arange(8000, dtype=torch.float64) / 40))[None]
    exact = nn.functional.conv1d(wave[None], layer.conv.weight.double(), stride=5)
    exact = (exact - exact.mean(-1, keepdim=True)) / exact.var(-1, correction=0, keepdim=True).sqrt()
    exact = exact * layer.layer_norm.weight.double()[:, None] + layer.layer_norm.bias.double()[:, None]
    # the samples themselves are rounded to float32, 3e-8 of a signal of which this filter leaves 1e-5
    torch.testing.assert_close(channels_of(layer, wave.float()).mT.double(), exact, atol=0.1, rtol=0)


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


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32, torch.bfloat16])
def test_attention_masks_of_any_kind(norm, dtype):
    _, model = reference_and_ours(norm)
    batch = pad(clips_of(900, 411))
    with torch.no_grad():
        expected = model(**batch)
        found = model(batch["input_values"], batch["attention_mask"].to(dtype))
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


def test_attention_masks_that_say_something_else(norm):
    _, model = reference_and_ours(norm)
    batch = pad(clips_of(900, 411))
    with pytest.raises(ValueError, match="pad on the right"):
        model(batch["input_values"], batch["attention_mask"].flip(1))
    with pytest.raises(ValueError, match=r"must be of shape \(2, 900\), as the waveforms, but is of \(2, 44\)"):
        model(batch["input_values"], batch["attention_mask"][:, :44])


# --- checkpoints


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
    torch.manual_seed(0)
    states = model(**batch, output_hidden_states=True).hidden_states
    assert len(states) == 5
    assert not torch.equal(states[0], states[1])  # the first block holds the position bias and always runs
    assert torch.equal(states[1], states[4])


def test_import_is_quiet(caplog):
    with caplog.at_level(logging.WARNING):
        WavLMToxicityBackbone(tiny_config())
    assert not caplog.text
