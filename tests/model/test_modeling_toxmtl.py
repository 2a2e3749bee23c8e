import itertools
import math
import re

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import load_file, save_file
from tiny_models import ENCODERS, NORMS, clips_of, fresh_model, inputs_of, pad, randomize_, tiny_config, tiny_model
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export
from transformers import AutoModelForAudioClassification

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.heads import InformationSharing, classification_loss, keyword_loss, masked_mean
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL


LABELS = torch.tensor(
    [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0]], dtype=torch.float
)
# the blank alone (0): nothing is said in the third clip
KEYWORD_LABELS = torch.tensor([[3, 4, 5, 5], [6, -100, -100, -100], [0, -100, -100, -100], [7, 8, -100, -100]])


def training_batch(*lengths: int, model: nn.Module | None = None) -> dict[str, torch.Tensor]:
    rows, clips = len(lengths), clips_of(*lengths)
    return {
        **(pad(clips) if model is None else inputs_of(model, clips)),
        "labels": LABELS[:rows].clone(),
        "keyword_labels": KEYWORD_LABELS[:rows].clone(),
    }


def alone(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One clip of a batch, without its padding."""
    length = batch["attention_mask"][row].sum()
    (name,) = batch.keys() - {"attention_mask", "labels", "keyword_labels"}
    return {
        name: batch[name][row : row + 1, ..., :length],
        "labels": batch["labels"][row : row + 1],
        "keyword_labels": batch["keyword_labels"][row : row + 1],
    }


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def gradient_size(module: nn.Module) -> float:
    """Largest gradient of the module's parameters; no gradient counts as 0."""
    return max(0.0 if p.grad is None else p.grad.abs().max().item() for p in module.parameters())


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
    adapters = [adapter for places in model.wavlm.encoder.task_adapters.values() for adapter in places]
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
        for adapter in adapters:
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


def test_too_short_clip_is_named(system):
    model = tiny_model(**system)
    with pytest.raises(ValueError, match="clip 2 of the batch has 29 samples"):
        model(**pad(clips_of(100, 50, 29)))


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
    model = tiny_model(use_task_adapter=True, **encoder).train()
    batch = training_batch(300, 95, 31, model=model)
    expected = model(**batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.05, rtol=0.05)
    loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


# --- task adapters


def test_fresh_adapters_change_nothing(norm):
    plain = tiny_model(**norm)
    adapted = WavLMForToxicityMTL(tiny_config(use_task_adapter=True, **norm)).eval()
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert missing and all(".task_adapters." in name for name in missing)
    assert not unexpected
    batch = training_batch(300, 95)
    expected, output = plain(**batch), adapted(**batch)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.keyword_logits, expected.keyword_logits)

    adapted.train()
    adapted(**batch).loss.backward()
    torch.optim.SGD(adapted.wavlm.encoder.task_adapters.parameters(), lr=1.0).step()
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
        assert all(gradient_size(adapter) > 1e-6 for adapter in adapters[own])
        assert gradient_size(model.wavlm.encoder.layers[0]) > 1e-6


# --- information sharing


def test_heads_learn_from_their_own_task_without_sharing():
    model = tiny_model().train()
    model(**training_batch(300, 95)).keyword_loss.backward()
    assert gradient_size(model.projector) == gradient_size(model.classifier) == 0
    assert gradient_size(model.lm_head) > 1e-6
    model.zero_grad()
    model(**training_batch(300, 95)).classification_loss.backward()
    assert gradient_size(model.lm_head) == 0
    assert gradient_size(model.projector) > 1e-6 and gradient_size(model.classifier) > 1e-6


def test_projectors_learn_from_both_tasks_with_sharing():
    model = tiny_model(use_info_sharing=True).train()
    assert not any("projector" in name for name, _ in model.named_children())
    sharing = model.information_sharing
    for loss in ("classification_loss", "keyword_loss"):
        model.zero_grad()
        getattr(model(**training_batch(300, 95)), loss).backward()
        for task in ("classification", "keyword"):
            assert gradient_size(sharing.projectors[task]) > 1e-6
            assert gradient_size(sharing.layer_norms[task]) > 1e-6


# LayerNorm turns (1, 3) into (-1, 1) and (5, 1) into (1, -1); the second one's scale and shift make (3, 0) of it.
@pytest.mark.parametrize(
    ("combination", "activation", "expected"),
    [
        ("add", "gelu", [1.954500, 0.841345]),  # gelu(2), gelu(1)
        ("add", "geglu", [1.682689]),  # 2 * gelu(1)
        ("add", "swiglu", [1.462117]),  # 2 * 1 * sigmoid(1)
        ("concat", "gelu", [-0.158655, 0.841345, 2.995950, 0.0]),
        ("concat", "geglu", [-2.995950, 0.0]),  # -1 * gelu(3), 1 * gelu(0)
        ("concat", "swiglu", [-2.857722, 0.0]),  # -1 * 3 * sigmoid(3)
    ],
)
def test_information_sharing_by_hand(combination, activation, expected):
    config = tiny_config(
        hidden_size=2,
        num_attention_heads=1,
        use_info_sharing=True,
        info_sharing_size=2,
        info_sharing_combination=combination,
        info_sharing_activation=activation,
    )
    sharing = InformationSharing(config)
    with torch.no_grad():
        for projector in sharing.projectors.values():
            projector.weight.copy_(torch.eye(2))
            projector.bias.zero_()
        sharing.layer_norms["keyword"].weight.copy_(torch.tensor([2.0, 2.0]))
        sharing.layer_norms["keyword"].bias.copy_(torch.tensor([1.0, 2.0]))
        shared = sharing({"classification": torch.tensor([[[1.0, 3.0]]]), "keyword": torch.tensor([[[5.0, 1.0]]])})
    assert sharing.output_size == len(expected)
    torch.testing.assert_close(shared[0, 0], torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("combination", "activation"), list(itertools.product(("add", "concat"), ("gelu", "geglu", "swiglu")))
)
def test_every_kind_of_sharing_trains(combination, activation):
    model = tiny_model(
        use_info_sharing=True, info_sharing_combination=combination, info_sharing_activation=activation
    ).train()
    output = model(**training_batch(300, 95))
    assert output.logits.shape == (2, 6) and output.keyword_logits.shape == (2, 14, 10)
    output.loss.backward()
    assert all(gradient_size(module) > 1e-6 for module in (model.information_sharing, model.classifier, model.lm_head))


def test_sharing_with_adapters_trains():
    model = tiny_model(use_info_sharing=True, use_task_adapter=True).train()
    model(**training_batch(300, 95)).keyword_loss.backward()
    assert gradient_size(model.wavlm.encoder.task_adapters["classification"]) > 1e-6  # through the shared features


# --- losses


def test_classification_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), -math.log(3)]])  # probabilities 1/2, 1/2, 3/4, 1/4
    labels = torch.tensor([[1, 0], [1, 1]])
    expected = -(math.log(1 / 2) + math.log(1 / 2) + math.log(3 / 4) + math.log(1 / 4)) / 4
    assert classification_loss(logits, labels).item() == pytest.approx(expected)
    labels = torch.tensor([[-100, -100], [1, 1]])  # the first example is not labelled
    assert classification_loss(logits, labels).item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


FRAMES = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])  # posteriors of blank, a, b


@pytest.mark.parametrize(
    ("num_frames", "target", "probability"),
    [
        (1, [1], 0.3),  # a
        (2, [1], 0.3 * 0.6 + 0.3 * 0.1 + 0.5 * 0.6),  # aa, a_, _a
        (2, [1, 2], 0.3 * 0.3),  # ab
        (2, [2, 1], 0.2 * 0.6),  # ba
        (3, [1, 1], 0.3 * 0.1 * 0.2),  # a_a
        (3, [1, 2], 0.3 * 0.6 * 0.6 + 0.3 * 0.3 * 0.6 + 0.3 * 0.3 * 0.2 + 0.3 * 0.1 * 0.6 + 0.5 * 0.6 * 0.6),
        (2, [0], 0.5 * 0.1),  # __: nothing is said
        (2, [0, 1], 0.3 * 0.6 + 0.3 * 0.1 + 0.5 * 0.6),  # the blank is no character of the target
    ],
)
def test_keyword_loss_by_hand(num_frames, target, probability):
    """The sum over all alignments, divided by the number of characters."""
    logits = FRAMES.log()[None] + 5.0  # logits need not be normalised
    labels = torch.tensor([target + [-100] * (4 - len(target))])
    loss = keyword_loss(logits, torch.tensor([num_frames]), labels, blank=0)
    characters = [character for character in target if character != 0]
    assert loss.item() == pytest.approx(-math.log(probability) / max(len(characters), 1), rel=1e-5)


def test_keyword_loss_is_the_mean_over_clips():
    logits = FRAMES.log().expand(4, 3, 3)
    num_frames = torch.tensor([1, 2, 2, 3])
    labels = torch.tensor([[1, -100], [1, 2], [0, -100], [-100, -100]])  # the last one is not transcribed
    expected = -(math.log(0.3) + math.log(0.09) / 2 + math.log(0.05)) / 3
    assert keyword_loss(logits, num_frames, labels, blank=0).item() == pytest.approx(expected, rel=1e-5)


def test_keyword_loss_with_another_blank():
    logits = FRAMES[:, [1, 2, 0]].log()[None]  # a, b, blank
    loss = keyword_loss(logits, torch.tensor([2]), torch.tensor([[0, 1]]), blank=2)
    assert loss.item() == pytest.approx(-math.log(0.09) / 2, rel=1e-5)


def test_target_longer_than_its_clip():
    logits = FRAMES.log()[None].clone().requires_grad_()
    labels = torch.tensor([[1, 1]])  # two frames cannot hold "a", blank, "a"
    assert keyword_loss(logits, torch.tensor([2]), labels, blank=0, zero_infinity=False).item() == math.inf
    loss = keyword_loss(logits, torch.tensor([2]), labels, blank=0)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad.abs().max() == 0

    model = tiny_model().train()
    output = model(**pad(clips_of(31, 200)), keyword_labels=torch.tensor([[3, 3, 3], [4, -100, -100]]))
    assert 0 < output.loss.item() < math.inf
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
    strict = tiny_model(ctc_zero_infinity=False)
    assert strict(**pad(clips_of(31)), keyword_labels=torch.tensor([[3, 3, 3]])).loss.item() == math.inf


def test_nothing_said_in_the_whole_batch():
    """Every target is empty: the loss teaches blanks."""
    model = tiny_model().train()
    batch = pad(clips_of(200, 95))
    output = model(**batch, keyword_labels=torch.zeros(2, 1, dtype=torch.long))
    log_probs = output.keyword_logits.log_softmax(-1)[:, :, 0]
    expected = -(log_probs[0, :9].sum() + log_probs[1, :4].sum()) / 2
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert 0 < gradient_size(model.lm_head) < math.inf


@pytest.mark.parametrize("size", [0, 3])
def test_no_example_is_labelled(size):
    model = tiny_model().train()
    unknown = {"labels": torch.full((2, 6), -100.0), "keyword_labels": torch.full((2, size), -100)}
    output = model(**pad(clips_of(200, 95)), **unknown)
    assert output.loss.item() == output.classification_loss.item() == output.keyword_loss.item() == 0
    output.loss.backward()
    assert all((gradient == 0).all() for gradient in gradients(model).values())


def test_examples_without_labels_do_not_count():
    """An example may lack either kind of label; the mean is over those that have it."""
    model = tiny_model()
    batch = training_batch(420, 237, 31, 300)
    batch["labels"][1] = -100
    batch["keyword_labels"][3] = -100
    output = model(**batch)
    singles = [model(**alone(batch, row)) for row in range(4)]
    for name, rows in (("classification_loss", (0, 2, 3)), ("keyword_loss", (0, 1, 2))):
        expected = torch.stack([getattr(singles[row], name) for row in rows]).mean()
        torch.testing.assert_close(getattr(output, name), expected)


def test_padded_frames_have_no_part_in_the_keyword_loss():
    logits = torch.randn(2, 5, 4, requires_grad=True)
    keyword_loss(logits, torch.tensor([5, 3]), torch.tensor([[1, 2], [3, -100]]), blank=0).backward()
    assert (logits.grad[1, 3:] == 0).all()
    assert (logits.grad[1, :3] != 0).any()


@pytest.mark.parametrize("weight", [0, 0.25, 0.7, 1])
def test_loss_weight(weight):
    output = tiny_model(classification_loss_weight=weight)(**training_batch(300, 95))
    assert abs(output.classification_loss - output.keyword_loss) > 1e-2
    expected = weight * output.classification_loss + (1 - weight) * output.keyword_loss
    torch.testing.assert_close(output.loss, expected)


def test_loss_of_one_task():
    batch = training_batch(300, 95)
    model = tiny_model()
    both = model(**batch)
    for given, loss in (("labels", "classification_loss"), ("keyword_labels", "keyword_loss")):
        output = model(**pad(clips_of(300, 95)), **{given: batch[given]})
        assert torch.equal(output.loss, getattr(both, loss))  # unweighted
        assert torch.equal(output.loss, getattr(output, loss))
    for task in ("classification", "keyword"):
        output = tiny_model(tasks=[task])(**batch)  # the labels of the other task are ignored
        assert torch.equal(output.loss, getattr(output, f"{task}_loss"))


def test_losses_of_the_model_are_those_of_its_logits():
    model = tiny_model()
    batch = training_batch(300, 95, 31)
    output = model(**batch)
    assert torch.equal(output.classification_loss, classification_loss(output.logits, batch["labels"]))
    num_frames = model.config.num_frames(batch["attention_mask"].sum(-1))
    expected = keyword_loss(output.keyword_logits, num_frames, batch["keyword_labels"], blank=0)
    assert torch.equal(output.keyword_loss, expected)


@pytest.mark.parametrize("labels", [torch.zeros(2), torch.zeros(2, 5), torch.zeros(1, 6), torch.zeros(6)])
def test_labels_of_another_shape(labels):
    with pytest.raises(ValueError, match=r"`labels` must be .* \(2, 6\)"):
        tiny_model()(**pad(clips_of(100, 95)), labels=labels)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([[3, 10], [3, -100]], "holds id 10"),
        ([[3, -1], [3, -100]], "holds id -1"),
        ([3, 4], r"shape \(2, S\)"),
        ([[3, 4]], r"shape \(2, S\)"),
    ],
)
def test_wrong_keyword_labels(labels, match):
    with pytest.raises(ValueError, match=f"`keyword_labels`.*{match}"):
        tiny_model()(**pad(clips_of(100, 95)), keyword_labels=torch.tensor(labels))


def test_masked_mean():
    frames = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert masked_mean(frames, mask).tolist() == [[2.0], [7.0]]
    assert masked_mean(frames[1:], None).tolist() == [[7.0]]
    long = torch.full((1, 4000, 1), 30.0, dtype=torch.float16)  # their sum is beyond the range
    assert masked_mean(long, torch.ones(1, 4000, dtype=torch.bool)).tolist() == [[30.0]]


# --- training


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
    model.eval()
    expected = model(**training_batch(420, 237, 31)).loss
    assert torch.equal(model(**training_batch(420, 237, 31)).loss, expected)


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


def test_freeze_feature_encoder(system):
    model = tiny_model(**system).train()
    model.freeze_feature_encoder()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("wavlm.feature_extractor.")}
    model(**training_batch(300, 95)).loss.backward()
    assert gradient_size(model.wavlm.feature_extractor) == 0
    assert gradient_size(model.wavlm.feature_projection) > 0


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


# --- the compiler and export


EVERYTHING = {"use_task_adapter": True, "use_info_sharing": True}
BATCHES = ((400, 300), (500, 190), (633, 90, 400))
whole_graph = pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput")


def assert_same_outputs(ours, model, batch):
    expected = model(**batch)
    num_frames = model.base_model(**batch).frame_mask.sum(-1)
    torch.testing.assert_close(ours["logits"], expected.logits, atol=5e-5, rtol=1e-5)
    for row, frames in enumerate(num_frames):  # what is beyond a clip's end is nobody's
        wanted = expected.keyword_logits[row, :frames]
        torch.testing.assert_close(ours["keyword_logits"][row, :frames], wanted, atol=5e-5, rtol=1e-5)


@whole_graph
@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("fields", [{}, EVERYTHING], ids=["mtl", "everything"])
def test_compiles_once_without_graph_breaks(encoder, fields, train):
    """The compiler traces the whole model once, and the graph holds for other lengths and sizes of batch."""
    model = tiny_model(**encoder, **fields).train(train)
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    for lengths in BATCHES:
        batch = inputs_of(model, clips_of(*lengths))
        with torch.set_grad_enabled(train):
            ours = compiled(**batch)
            assert_same_outputs(ours, model, batch)
    assert counter.frame_count == 1
    if train:
        ours.logits.square().sum().backward()
        ours_gradients = gradients(model)
        model.zero_grad()
        model(**batch).logits.square().sum().backward()
        for name, gradient in gradients(model).items():
            atol = 1e-4 + 1e-5 * gradient.abs().max().item()  # of sums up to some hundreds
            torch.testing.assert_close(ours_gradients[name], gradient, atol=atol, rtol=1e-4, msg=name)


@whole_graph
@pytest.mark.slow
@pytest.mark.parametrize("is_bounded", [False, True])
def test_export(encoder, is_bounded):
    """Of any length, or of a bounded one: from two frames on."""
    model = tiny_model(**encoder, **EVERYTHING)
    batch = inputs_of(model, clips_of(*BATCHES[0]))
    size, length = Dim.DYNAMIC, Dim.DYNAMIC
    if is_bounded:
        shortest, longest = (4, 200) if model.main_input_name == "input_features" else (50, 16_000)
        size, length = Dim("batch", max=8), Dim("length", min=shortest, max=longest)
    sizes = {name: {0: size, tensor.ndim - 1: length} for name, tensor in batch.items()}
    with torch.no_grad():
        exported = export(model, (), dict(batch), dynamic_shapes=sizes).module()
        for lengths in BATCHES:
            batch = inputs_of(model, clips_of(*lengths))
            assert_same_outputs(exported(**batch), model, batch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # that it may not hold for other lengths, and that TorchScript is old
def test_trace(encoder):
    model = tiny_model(**encoder, **EVERYTHING)
    with torch.no_grad():
        traced = torch.jit.trace(
            model, example_kwarg_inputs=inputs_of(model, clips_of(*BATCHES[0])), strict=False, check_trace=False
        )
        for lengths in BATCHES:
            batch = inputs_of(model, clips_of(*lengths))
            assert_same_outputs(traced(**batch), model, batch)


# --- initialisation and saving


@pytest.fixture
def poisoned_memory():
    """PyTorch fills memory that nobody initialised with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_every_parameter_is_initialized(system, encoder, poisoned_memory):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(fresh_model(**system, **encoder).state_dict())
    first, same, other = states
    for name, value in first.items():
        assert value.isfinite().all(), name
        assert torch.equal(value, same[name]), name
        constant = value.numel() == 1 or value.std() == 0
        fixed = constant or "embed_positions" in name
        assert fixed or not torch.equal(value, other[name]), name


def test_parameters_that_a_checkpoint_lacks_are_initialized(tmp_path, poisoned_memory):
    plain = tiny_model(tasks=["keyword"])
    plain.save_pretrained(tmp_path)
    config = tiny_config(use_task_adapter=True)
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert info["missing_keys"] and not info["unexpected_keys"]
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
    batch = pad(clips_of(300, 95))
    assert torch.equal(model(**batch).keyword_logits, plain(**batch).keyword_logits)  # adapters start as the identity


def test_save_and_load(system, encoder, tmp_path):
    model = tiny_model(**system, **encoder)
    model.save_pretrained(tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not loaded.training
    assert loaded.config.tasks == model.config.tasks
    batch = training_batch(300, 95, model=model)
    output, expected = loaded(**batch), model(**batch)
    for name in expected:
        assert torch.equal(output[name], expected[name]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_save_and_load_half_precision(system, encoder, dtype, tmp_path):
    model = tiny_model(**system, **encoder).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype="auto")
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert torch.equal(loaded.state_dict()[name], value), name
    full = type(model).from_pretrained(tmp_path, dtype=torch.float32)
    assert {parameter.dtype for parameter in full.parameters()} == {torch.float32}


def test_save_and_load_in_shards(tmp_path):
    model = tiny_model(use_task_adapter=True)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = WavLMForToxicityMTL.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_device_map(system, tmp_path):
    pytest.importorskip("accelerate")
    model = tiny_model(**system)
    model.save_pretrained(tmp_path)
    batch = pad(clips_of(300, 95))
    for device_map in ("cpu", {"": "cpu"}, {name: "cpu" for name, _ in model.named_children()}):
        loaded = WavLMForToxicityMTL.from_pretrained(tmp_path, device_map=device_map)
        for name, expected in model(**batch).items():
            torch.testing.assert_close(loaded(**batch)[name], expected)


def test_new_number_of_labels(tmp_path):
    """The heads' sizes follow the configuration; only the resized head starts anew."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    loaded, info = WavLMForToxicityMTL.from_pretrained(
        tmp_path, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key[0] for key in info["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    output = loaded(**pad(clips_of(300, 95)))
    assert output.logits.shape == (2, 3)
    assert torch.equal(output.keyword_logits, model(**pad(clips_of(300, 95))).keyword_logits)


@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
def test_two_unnamed_labels(loader, tmp_path):
    """transformers leaves them out of config.json, for they are its own default."""
    model = tiny_model(num_labels=2)
    model.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    ("fields", "thresholds"),
    [
        ({"num_labels": 2, "id2label": {0: "Spam", 1: "Racist"}, "label2id": {"Spam": 0, "Racist": 1}}, [0.5, 0.3]),
        ({"id2label": {0: "Spam", 1: "Racist"}}, [0.5, 0.3]),
        ({"label2id": {"Racist": 0, "Spam": 1}}, [0.3, 0.5]),
        ({"num_labels": 3}, [0.5] * 3),
        ({"num_labels": 6}, [0.2, 0.5, 0.3, 0.5, 0.5, 0.5]),  # as many as there are
        ({"id2label": {0: "Spam", 1: "Racist"}, "label_thresholds": {"Spam": 0.1}}, [0.1, 0.5]),
    ],
)
@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
def test_recipe_for_new_labels(loader, fields, thresholds, tmp_path):
    evidence = {"Profanity": 2.0, "Racist": 3.0}
    tiny_model(label_thresholds={"Profanity": 0.2, "Racist": 0.3}, keyword_evidence=evidence).save_pretrained(tmp_path)
    model = loader.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **fields)
    assert list(model.config.thresholds.values()) == thresholds
    kept = {name: value for name, value in evidence.items() if name in model.config.label2id}
    assert model.config.keyword_evidence == (kept or None)
    assert len(model.classifier.weight) == model.config.num_labels == len(thresholds)
    assert model.config.label2id == {name: index for index, name in model.config.id2label.items()}
    with pytest.raises(StrictDataclassClassValidationError, match="`label_thresholds` names 'Advert'"):
        loader.from_pretrained(tmp_path, id2label={0: "Spam"}, label_thresholds={"Advert": 0.1})


@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
@pytest.mark.parametrize(
    ("saved", "fields"),
    [
        ({}, {"use_info_sharing": True}),
        ({"hidden_size": 6}, {"use_info_sharing": True}),  # as wide as what is shared: no size is another
        ({}, {"use_task_adapter": True}),
        ({"tasks": ["keyword"]}, {"tasks": ["classification", "keyword"]}),
        ({"use_info_sharing": True}, {"use_info_sharing": False}),
    ],
)
def test_parts_that_a_model_was_not_trained_with(loader, saved, fields, tmp_path):
    """The message says how to add them, and what it says does."""
    saved = tiny_model(**saved)
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path.name} was not trained with {next(iter(fields))}=") as error:
        loader.from_pretrained(tmp_path, **fields)
    config = eval(re.search("`config=(.*?)` and `ignore_mismatched_sizes=True`", str(error.value))[1])
    model = loader.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert all(getattr(model.config, name) == value for name, value in fields.items())
    assert torch.equal(model.wavlm.encoder.layer_norm.weight, saved.wavlm.encoder.layer_norm.weight)


def test_a_head_less(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    loaded = WavLMForToxicityMTL.from_pretrained(tmp_path, tasks=["keyword"])
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight) and not hasattr(loaded, "classifier")


def test_what_does_not_apply():
    """Of transformers' common tests: a waveform has no token embeddings to resize or to tie, and WavLM never had head
    masks or a key-value cache."""
    model = tiny_model()
    with pytest.raises(NotImplementedError):
        model.get_input_embeddings()
    assert model.get_output_embeddings() is None
    storages = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)  # nothing is tied
    with pytest.raises(TypeError):
        model(**pad(clips_of(100)), head_mask=torch.ones(2, 2))
    assert not model.can_generate()


# --- damaged folders


def damage(content: bytes, how: str) -> bytes:
    return {"cut": content[:-100], "header": b"\xff" * 8 + content[8:], "empty": b""}[how]


@pytest.mark.parametrize("how", ["cut", "header", "empty"])
@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
def test_damaged_weights(loader, how, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(file.read_bytes(), how))
    with pytest.raises(ValueError, match=f"{tmp_path.name} are damaged .*copy or download them again"):
        loader.from_pretrained(tmp_path)


def test_weights_that_lack_one(tmp_path):
    """transformers would fill it in with noise, and log a table."""
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    bias = weights.pop("classifier.bias")
    save_file(weights, file, metadata={"format": "pt"})
    for loader in (WavLMForToxicityMTL, AutoModelForAudioClassification):
        with pytest.raises(ValueError, match="lack 1 of the model's, such as 'classifier.bias'"):
            loader.from_pretrained(tmp_path)
    save_file({**weights, "classifier.bias": bias[:-1].clone()}, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        WavLMForToxicityMTL.from_pretrained(tmp_path)


def test_loading_info_on_request(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, WavLMForToxicityMTL) and not info["missing_keys"]
