"""A WavLM that is made of a Whisper: its blocks and heads compute what Whisper's do, and its convolutions learn."""

import itertools

import numpy as np
import pytest
import torch
from tiny_models import inputs_of, tiny_model

from experiments.wavlm_from_whisper import POSITIONS, batches, copy_upper_parts, imitation_loss, student_config
from modeling_toxmtl import WavLMForToxicityMTL
from modeling_toxmtl.outputs import BackboneOutput


@pytest.fixture
def teacher():
    return tiny_model(family="whisper")


@pytest.fixture
def student(teacher):
    torch.manual_seed(0)
    student = WavLMForToxicityMTL(student_config(teacher.config)).eval()
    copy_upper_parts(teacher, student)
    return student


def test_blocks_and_heads_are_those_of_the_whisper(teacher, student, monkeypatch):
    batch = inputs_of(teacher, [torch.randn(400), torch.randn(700)])
    heard = teacher.model(**batch, output_hidden_states=True)
    monkeypatch.setattr(student.wavlm.encoder.pos_conv_embed, "forward", torch.zeros_like)
    encoded = student.wavlm.encoder(heard.hidden_states[0], heard.frame_mask)
    mask = heard.frame_mask
    torch.testing.assert_close(encoded.last_hidden_state[mask], heard.last_hidden_state[mask], atol=1e-5, rtol=1e-5)
    for name in ("projector", "classifier", "lm_head"):
        torch.testing.assert_close(getattr(student, name).weight, getattr(teacher, name).weight)
    assert student.config.id2label == teacher.config.id2label


def test_regression_brings_the_new_parts_nearer(teacher, student):
    waveforms = [torch.randn(16_000), torch.randn(12_000)]
    mel = {"input_features": torch.randn(2, 8, 100), "attention_mask": torch.ones(2, 100)}
    mel["attention_mask"][1, 75:] = 0
    mask = torch.ones(2, 16_000)
    mask[1, 12_000:] = 0
    waves = {"input_values": torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), "attention_mask": mask}
    teacher.model.encoder.layers = student.wavlm.encoder.layers = torch.nn.ModuleList()
    optimizer = torch.optim.Adam(student.wavlm.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        losses.append(imitation_loss(teacher.model, student.wavlm, mel, waves))
        losses[-1].backward(), optimizer.step(), optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    longer = {name: torch.nn.functional.pad(tensor, (0, 320)) for name, tensor in waves.items()}
    torch.testing.assert_close(
        imitation_loss(teacher.model, student.wavlm, mel, longer),
        imitation_loss(teacher.model, student.wavlm, mel, waves),
    )


def test_the_channels_means_have_an_error_of_one(teacher, student, monkeypatch):
    """What is imitated is the input of the first block with the mean position in place of each frame's own."""
    batch = {"input_features": torch.randn(1, 8, 60), "attention_mask": torch.ones(1, 60)}
    heard = teacher.model(**batch, output_hidden_states=True)
    positions = teacher.model.encoder.embed_positions.weight
    target = heard.hidden_states[0][0] - positions[:30] + positions[:POSITIONS].mean(0)
    teacher.model.encoder.layers = torch.nn.ModuleList()
    for said, loss in ((target, 0.0), (target.mean(0).expand_as(target), 1.0)):
        output = BackboneOutput(last_hidden_state=said[None], frame_mask=torch.ones(1, 30, dtype=torch.bool))
        monkeypatch.setattr(student.wavlm, "forward", lambda output=output, **waves: output)
        assert imitation_loss(teacher.model, student.wavlm, batch, {}).item() == pytest.approx(loss, abs=1e-5)


def test_what_cannot_be_copied_is_refused():
    with pytest.raises(ValueError, match="plain multi-task model"):
        student_config(tiny_model(family="whisper", use_info_sharing=True).config)


def test_a_pass_has_every_clip_once_and_neighbours_of_like_length():
    waveforms = [np.zeros(length) for length in np.random.default_rng(0).permutation(402)]
    stream = batches(waveforms, 4, seed=1)
    first = [[len(clip) for clip in next(stream)] for _ in range(101)]
    assert sorted(itertools.chain(*first)) == list(range(402))
    spreads = sorted(max(batch) - min(batch) for batch in first)
    assert spreads[-2] < 40  # of clips taken at random: about 240; the sampler puts the longest clip first of all
    assert first != [[len(clip) for clip in next(stream)] for _ in range(101)]
