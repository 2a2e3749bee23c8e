import itertools
import math

import pytest
import torch
from tiny_models import (
    alone,
    clips_of,
    gradient_size,
    gradients,
    inputs_of,
    pad,
    tiny_config,
    tiny_model,
    training_batch,
)

from modeling_toxmtl.heads import InformationSharing, attentive_mean, classification_loss, keyword_loss, masked_mean


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


# --- what the classifier reads


def test_attentive_mean():
    frames = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [9.0]]])
    scores = torch.tensor([[[0.0], [3.0], [9.0]], [[1.0], [1.0], [1.0]]]).log()  # weights 0, 1 and 1/3 each
    mask = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(attentive_mean(frames, scores, mask), torch.tensor([[3.0], [7.0]]))
    torch.testing.assert_close(attentive_mean(frames[1:], scores[1:], None), torch.tensor([[7.0]]))


@pytest.mark.parametrize("fields", [{"classifier_pooling": "attention"}, {"classifier_layer": 1}])
@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_variants_of_the_classifier_hear_a_clip_alone_as_in_a_batch(family, fields):
    model, clips = tiny_model(family=family, **fields).eval(), clips_of(300, 90)
    together = model(**inputs_of(model, clips, extra=100))
    for clip, logits in zip(clips, together.logits, strict=True):
        torch.testing.assert_close(model(**inputs_of(model, [clip])).logits[0], logits, atol=1e-5, rtol=1e-5)
    assert together.hidden_states is None
    assert not torch.allclose(together.logits, tiny_model(family=family).eval()(**inputs_of(model, clips)).logits)


def test_attention_starts_near_the_mean_and_learns():
    model = tiny_model(classifier_pooling="attention").train()
    model(**training_batch(300, 95)).classification_loss.backward()
    assert gradient_size(model.pooling) > 1e-6
    torch.nn.init.zeros_(model.pooling.weight)
    plain = tiny_model().train()
    plain.load_state_dict(model.state_dict(), strict=False)
    batch = training_batch(300, 95)
    torch.testing.assert_close(model(**batch).logits, plain(**batch).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_loss_of_a_classifier_of_a_lower_block_does_not_reach_those_above(family):
    model = tiny_model(family=family, classifier_layer=1).train()
    lower, upper = model.base_model.encoder.layers
    model(**training_batch(300, 95, model=model)).classification_loss.backward()
    assert gradient_size(upper) == 0 and gradient_size(lower) > 1e-6
    model(**training_batch(300, 95, model=model)).keyword_loss.backward()
    assert gradient_size(upper) > 1e-6
