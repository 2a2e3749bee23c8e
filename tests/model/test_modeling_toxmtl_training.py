import pytest
import torch
from tiny_models import ENCODERS, NORMS, fresh_model, gradient_size, gradients, tiny_model, training_batch


def test_every_parameter_trains(system, encoder):
    """A fresh adapter passes no gradient to the one below, so each step reaches one place further down. The optimiser
    is Adam with next to no epsilon: the gradients down there are tiny."""
    model = fresh_model(**system, **encoder).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-20)
    for _ in range(model.config.num_hidden_layers + 2 if model.config.use_task_adapter else 2):
        optimizer.zero_grad()
        model(**training_batch(420, 237, 31, 300, model=model)).loss.backward()
        optimizer.step()
    unchanged = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    # the keys' bias adds the same to all of a query's scores, which softmax does not see
    unchanged = {name for name in unchanged if not name.endswith("k_proj.bias")}
    assert unchanged == {
        "model.encoder.embed_positions.weight" if encoder.get("family") == "whisper" else "wavlm.masked_spec_embed"
    }  # sinusoids; SpecAugment is off


def test_mask_embedding_trains_with_spec_augment():
    model = tiny_model(apply_spec_augment=True, mask_time_prob=0.5, mask_time_length=2).train()
    model(**training_batch(420, 237, 31)).loss.backward()
    assert model.wavlm.masked_spec_embed.grad.abs().max() > 0


def test_training_lowers_the_loss(system, encoder):
    model = fresh_model(**system, **encoder).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = model(**training_batch(300, 237, model=model)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_freeze_feature_encoder(encoder):
    model = tiny_model(**encoder).train()
    model.freeze_feature_encoder()
    convolutions = "wavlm.feature_extractor.", "model.encoder.conv", "model.encoder.embed_positions"  # or sinusoids
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(convolutions)}
    model(**training_batch(300, 95, model=model)).loss.backward()
    assert gradient_size(model.base_model.encoder.layers[0]) > 0
    assert not frozen & set(gradients(model))


def test_freeze_base_model(system, encoder):
    model = tiny_model(**system, **encoder).train()
    model.freeze_base_model()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {
        name for name, _ in model.named_parameters() if not name.startswith(("wavlm.", "model.")) or "adapters" in name
    }
    assert trainable == expected
    assert any("task_adapters" in name for name in trainable) == model.config.use_task_adapter
    model(**training_batch(300, 95, model=model)).loss.backward()
    assert set(gradients(model)) == trainable


@pytest.mark.parametrize("count", [0, 1, 2])
def test_freeze_layers(encoder, count):
    """A step changes the blocks from `count` on and what reads them, and nothing below."""
    model = tiny_model(**encoder, use_task_adapter=True).train()
    model.freeze_layers(count)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model(**training_batch(300, 95, model=model)).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    above = ["task_adapters", *(f"encoder.layers.{layer}." for layer in range(count, 2))]
    if encoder != NORMS["group"] and encoder != ENCODERS["plain"]:  # those have the norm before the blocks
        above.append("encoder.layer_norm.")
    is_backbone = model.base_model_prefix + "."
    expected = {name for name in before if not name.startswith(is_backbone) or any(part in name for part in above)}
    # an attention bias to all keys alike changes nothing
    assert changed | {name for name in expected if name.endswith("k_proj.bias")} == expected
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == expected


@pytest.mark.parametrize("count", [-1, 3])
def test_freeze_more_layers_than_there_are(encoder, count):
    with pytest.raises(ValueError, match=f"{count} blocks are to be kept as they are, but the encoder has 2"):
        tiny_model(**encoder).freeze_layers(count)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(encoder, reentrant):
    model = tiny_model(use_task_adapter=True, **encoder).train()
    batch = training_batch(300, 95, model=model)
    expected = model(**batch).loss
    expected.backward()
    expected_gradients = gradients(model)

    calls = []
    for layer in model.base_model.encoder.layers:
        queries = getattr(layer, "attention", None) or layer.self_attn
        queries.q_proj.register_forward_hook(lambda *call: calls.append(1))
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    loss = model(**batch).loss
    loss.backward()
    assert len(calls) == 4  # each of the two blocks runs again in the backward pass
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected_gradients.pop(name), atol=1e-5, rtol=1e-4, msg=name)
    assert not expected_gradients


def test_layer_drop_trains(encoder):
    model = tiny_model(
        **{"encoder_layerdrop" if "family" in encoder else "layerdrop": 1.0 - 1e-6}, use_task_adapter=True, **encoder
    ).train()
    output = model(**training_batch(300, 95, model=model), output_hidden_states=True)
    assert len(output.hidden_states) == 3
    output.loss.backward()
    assert gradient_size(model.base_model.encoder.layers[0]) > 0
    assert gradient_size(model.base_model.encoder.layers[1]) == 0
