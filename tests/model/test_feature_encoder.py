"""Convolutions whose group norm does not see padding."""

import pytest
import torch
from tiny_models import clips_of, pad, randomize_, tiny_config
from torch import nn
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder

from modeling_toxmtl.feature_encoder import FeatureEncoder, masked_group_norm
from modeling_toxmtl.outputs import length_mask


def test_length_mask():
    assert length_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]


def test_masked_group_norm_by_hand():
    norm = nn.GroupNorm(1, 1, eps=0.0)
    nn.init.constant_(norm.weight, 2.0)
    nn.init.constant_(norm.bias, 0.5)
    channels = torch.tensor([[[1.0, 3.0, 100.0]]])  # mean 2 and deviation 1 over the first two
    mask = torch.tensor([[True, True, False]])
    assert masked_group_norm(channels, norm, mask)[0, 0, :2].tolist() == [-1.5, 2.5]


def test_masked_group_norm_in_half_precision():
    """Sums over a long clip leave the range of float16."""
    norm = nn.GroupNorm(2, 2)
    channels = 30 * torch.randn(1, 2, 48_000)
    mask = torch.ones(1, 48_000, dtype=torch.bool)
    found = masked_group_norm(channels.half(), norm.half(), mask)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), norm.float()(channels), atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("conv_bias", [False, True])
def test_clips_beside_longer_ones_are_those_of_transformers(norm, conv_bias):
    """Values and gradients of each clip are what transformers' encoder gives the clip alone."""
    config = tiny_config(**norm | {"conv_bias": conv_bias})
    reference, ours = randomize_(WavLMFeatureEncoder(config)), FeatureEncoder(config)
    ours.load_state_dict(reference.state_dict())
    clips = clips_of(600, 237, 31)
    batch = pad(clips, extra=40, value=50.0)
    frames = ours(batch["input_values"], batch["attention_mask"].sum(-1))
    assert frames.shape == (3, 31, 8)
    for row, clip in enumerate(clips):
        expected = reference(clip[None])[0].T
        found = frames[row, : len(expected)]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(clip[None])[0], expected, atol=1e-6, rtol=1e-6)
        pairs = zip(
            torch.autograd.grad(found.square().mean(), ours.parameters(), retain_graph=True),
            torch.autograd.grad(expected.square().mean(), reference.parameters()),
            strict=True,
        )
        for gradient, expected_gradient in pairs:
            torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-3)
