"""Attention with a gated position bias; its equality with transformers' is tested on whole models."""

import pytest
import torch
from tiny_models import randomize_, tiny_config

from modeling_toxmtl.attention import GatedRelativeAttention
from modeling_toxmtl.outputs import length_mask


def attention(implementation: str = "sdpa") -> GatedRelativeAttention:
    module = GatedRelativeAttention(16, num_heads=2, num_buckets=16, max_distance=12)
    module.config = tiny_config(attn_implementation=implementation)
    return randomize_(module)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_formula(implementation):
    """One loop per clip, head and query."""
    module, hidden_states, lengths = attention(implementation), torch.randn(2, 5, 16), (5, 3)
    frame_mask = length_mask(torch.tensor(lengths), 5)
    with torch.no_grad():
        found, weights, bias = module(hidden_states, frame_mask, output_attentions=True)
        fast, _, _ = module(hidden_states, frame_mask)
        expected = torch.zeros(2, 5, 16)
        for clip, length in enumerate(lengths):
            for head, part in enumerate((slice(0, 8), slice(8, 16))):
                states = hidden_states[clip, :length]
                query, key, value = (p(states)[:, part] for p in (module.q_proj, module.k_proj, module.v_proj))
                for at in range(length):
                    sums = module.gru_rel_pos_linear(hidden_states[clip, at, part]).view(2, 4).sum(-1)
                    a, b = torch.sigmoid(sums)
                    gate = a * (b * module.gru_rel_pos_const[0, head, 0, 0] - 1) + 2
                    buckets = module._relative_positions_bucket(torch.arange(length) - at)
                    scores = query[at] @ key.T / 8**0.5 + gate * module.rel_attn_embed.weight[buckets, head]
                    expected[clip, at, part] = torch.softmax(scores, -1) @ value
        expected = module.out_proj(expected)
    assert weights.shape == (2, 2, 5, 5) and bias.shape == (2, 5, 5)
    torch.testing.assert_close(found[frame_mask], expected[frame_mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast[frame_mask], expected[frame_mask], atol=1e-5, rtol=1e-5)


def test_next_block_takes_the_bias():
    module, hidden_states = attention(), torch.randn(1, 5, 16)
    expected, _, bias = module(hidden_states)
    del module.rel_attn_embed  # of the first block alone
    found, _, same = module(hidden_states, position_bias=bias)
    assert torch.equal(found, expected) and same is bias
