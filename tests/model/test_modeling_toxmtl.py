import pytest
import torch
from tiny_models import (
    alone,
    clips_of,
    fresh_model,
    gradient_size,
    gradients,
    inputs_of,
    pad,
    randomize_,
    tiny_config,
    tiny_model,
    training_batch,
)
from torch import nn

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL


# --- the paper's sizes


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"tasks": ["classification"]}, 94_580_342),
        ({"tasks": ["keyword"]}, 94_406_544),
        ({}, 94_604_950),
        ({"use_info_sharing": True}, 95_181_206),
        ({"use_task_adapter": True}, 207_227_798),
    ],
)
def test_parameter_counts(fields, count):
    with torch.device("meta"):
        model = WavLMForToxicityMTL(WavLMToxicityMTLConfig(**fields))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    adapters = [adapter for places in model.wavlm.encoder.task_adapters.values() for adapter in places.values()]
    assert len(adapters) == (26 if "use_task_adapter" in fields else 0)
    assert all(sum(p.numel() for p in adapter.parameters()) == 4_331_648 for adapter in adapters)


# --- outputs


def test_outputs(system, encoder):
    model = tiny_model(**system, **encoder)
    batch = training_batch(200, 95, model=model)
    output = model(**batch, output_hidden_states=True)
    tasks = model.config.tasks
    assert (output.logits is not None) == (output.classification_loss is not None) == ("classification" in tasks)
    assert (output.keyword_logits is not None) == (output.keyword_loss is not None) == ("keyword" in tasks)
    if "classification" in tasks:
        assert output.logits.shape == (2, 6)
    if "keyword" in tasks:
        num_frames = 10 if encoder.get("family") == "whisper" else 9
        assert output.keyword_logits.shape == (2, num_frames, 10)
    assert len(output.hidden_states) == 3
    del batch["labels"], batch["keyword_labels"]
    unlabelled = model(**batch)
    assert unlabelled.loss is unlabelled.classification_loss is unlabelled.keyword_loss is None


def test_return_dict(system):
    model = tiny_model(**system)
    batch = training_batch(200, 95)
    output, values = model(**batch), model(**batch, return_dict=False)
    assert type(values) is tuple
    assert len(values) == len(output.to_tuple())
    assert all(torch.equal(value, expected) for value, expected in zip(values, output.to_tuple(), strict=True))
    assert torch.equal(values[0], output.loss)
    model.config.return_dict = False
    assert type(model(**batch)) is tuple
    assert type(model(**batch, return_dict=True)) is not tuple


def test_order_of_tasks_does_not_matter():
    first = tiny_model(use_info_sharing=True)
    second = tiny_model(use_info_sharing=True, tasks=["keyword", "classification"])
    second.load_state_dict(first.state_dict())
    batch = training_batch(200, 95)
    torch.testing.assert_close(second(**batch).loss, first(**batch).loss)


# --- a clip is the same alone and in any batch


@pytest.mark.parametrize(("order", "extra"), [((0, 1, 2, 3), 0), ((3, 1, 0, 2), 0), ((2, 0, 1, 3), 57)])
def test_length_exact(system, encoder, order, extra):
    model = tiny_model(**system, **encoder)
    clips = clips_of(600, 237, 31, 410)  # one is a sample longer than WavLM's receptive field: a single frame
    with torch.no_grad():
        together = model(**inputs_of(model, [clips[i] for i in order], extra))
        for row, i in enumerate(order):
            single = model(inputs_of(model, clips[i : i + 1])[model.main_input_name])
            if together.logits is not None:
                torch.testing.assert_close(together.logits[row], single.logits[0], atol=1e-5, rtol=1e-5)
            if together.keyword_logits is not None:
                frames = single.keyword_logits.shape[1]
                assert frames == (len(clips[i]) // 10 + 1) // 2 or frames == model.config.num_frames(len(clips[i]))
                torch.testing.assert_close(
                    together.keyword_logits[row, :frames], single.keyword_logits[0], atol=1e-5, rtol=1e-5
                )


@pytest.mark.slow
def test_length_exact_at_full_width(system):
    """WavLM Base+ width, three blocks, clips of 15, 6.3, 2.1 and 0.5 s."""
    model = WavLMForToxicityMTL(WavLMToxicityMTLConfig(num_hidden_layers=3, **system)).eval()
    nn.init.normal_(model.wavlm.encoder.layers[0].attention.rel_attn_embed.weight)
    for adapters in model.wavlm.encoder.task_adapters.values():
        for adapter in adapters.values():
            nn.init.normal_(adapter.up_proj.weight, std=0.05)
    clips = clips_of(*(int(seconds * 16_000) for seconds in (6.3, 0.5, 15, 2.1)))
    with torch.no_grad():
        together = model(**pad(clips))
        for row, clip in enumerate(clips):
            single = model(clip[None])
            if together.logits is not None:
                torch.testing.assert_close(together.logits[row], single.logits[0], atol=1e-4, rtol=0)
            if together.keyword_logits is not None:
                frames = model.config.num_frames(len(clip))
                torch.testing.assert_close(
                    together.keyword_logits[row, :frames], single.keyword_logits[0], atol=1e-4, rtol=0
                )


def test_length_exact_eager():
    model = WavLMForToxicityMTL._from_config(tiny_config(use_task_adapter=True), attn_implementation="eager")
    randomize_(model).eval()
    clips = clips_of(600, 31)
    with torch.no_grad():
        logits = model(**pad(clips)).logits
        for row, clip in enumerate(clips):
            torch.testing.assert_close(logits[row], model(clip[None]).logits[0], atol=1e-5, rtol=0)


def test_batch_is_the_mean_of_its_clips(system, encoder):
    """Losses and gradients of a batch of 4 are the means of those of 4 batches of 1."""
    model = tiny_model(**system, **encoder).train()
    batch = training_batch(420, 237, 31, 300, model=model)
    together = model(**batch)
    together.loss.backward()
    expected = gradients(model)
    assert expected

    model.zero_grad()
    singles = [model(**alone(batch, row)) for row in range(4)]
    (sum(single.loss for single in singles) / 4).backward()
    for name in ("loss", "classification_loss", "keyword_loss"):
        if getattr(together, name) is not None:
            mean = torch.stack([getattr(single, name) for single in singles]).mean()
            torch.testing.assert_close(getattr(together, name), mean, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected.pop(name), atol=1e-5, rtol=1e-4, msg=name)
    assert not expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite(system, encoder, dtype):
    """Also on frames of padding, and where a whole tail of the batch is padding."""
    model = tiny_model(**system, **encoder).to(dtype)
    model.set_attn_implementation("eager")  # Whisper's weights need it
    batch = inputs_of(model, clips_of(400, 95, 31), extra=400)
    batch[model.main_input_name] = batch[model.main_input_name].to(dtype)
    with torch.no_grad():
        output = model(**batch, output_attentions=True, output_hidden_states=True)
        model.set_attn_implementation("sdpa")
        fast = model(**batch)
    tensors = [output.logits, output.keyword_logits, fast.logits, fast.keyword_logits]
    tensors = [tensor for tensor in tensors if tensor is not None] + [*output.hidden_states, *output.attentions]
    for tensor in tensors:
        assert tensor.dtype == dtype
        assert tensor.isfinite().all()


def test_mixed_precision_training(encoder):
    """As it begins: weights that are noise multiply the rounding of bfloat16, by processor."""
    model = fresh_model(use_task_adapter=True, **encoder).train()
    batch = training_batch(300, 95, 31, model=model)
    expected = model(**batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.02, rtol=0)
    loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


# --- task adapters


def test_fresh_adapters_change_nothing(encoder):
    plain = tiny_model(**encoder)
    adapted = fresh_model(use_task_adapter=True, **encoder).eval()
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert missing and all(".task_adapters." in name for name in missing)
    assert not unexpected
    batch = training_batch(300, 95, model=plain)
    expected, output = plain(**batch), adapted(**batch)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.keyword_logits, expected.keyword_logits)

    adapted.train()
    adapted(**batch).loss.backward()
    torch.optim.SGD(adapted.base_model.encoder.task_adapters.parameters(), lr=1.0).step()
    adapted.eval()
    trained = adapted(**batch)
    assert not torch.allclose(trained.logits, expected.logits, atol=1e-4)
    assert not torch.allclose(trained.keyword_logits, expected.keyword_logits, atol=1e-4)


def test_adapters_learn_from_their_own_task_alone():
    model = tiny_model(use_task_adapter=True).train()
    adapters = model.wavlm.encoder.task_adapters
    for loss, own, other in (
        ("classification_loss", "classification", "keyword"),
        ("keyword_loss", "keyword", "classification"),
    ):
        model.zero_grad()
        getattr(model(**training_batch(300, 95)), loss).backward()
        assert gradient_size(adapters[other]) == 0
        assert all(gradient_size(adapter) > 1e-6 for adapter in adapters[own].values())
        assert gradient_size(model.wavlm.encoder.layers[0]) > 1e-6
