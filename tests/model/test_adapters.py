"""Soft masks of the tasks on shared features."""

import pytest
import torch
from tiny_models import clips_of, pad, randomize_, tiny_config
from torch import nn

from modeling_toxmtl.adapters import TaskAdapter, TaskAdapters
from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig
from modeling_toxmtl.outputs import length_mask
from modeling_toxmtl.wavlm import WavLMBackbone


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
    backbone = WavLMBackbone(tiny_config(use_task_adapter=True))
    assert {task: len(adapters) for task, adapters in backbone.encoder.task_adapters.items()} == {
        "classification": 3,
        "keyword": 3,
    }
    only = WavLMBackbone(tiny_config(use_task_adapter=True, tasks=["keyword"]))
    assert list(only.encoder.task_adapters) == ["keyword"]
    assert len(WavLMBackbone(tiny_config()).encoder.task_adapters) == 0
    assert not any("task_adapters" in name for name in WavLMBackbone(tiny_config()).state_dict())


def test_adapters_of_another_size_at_some_places():
    config = WhisperToxicityMTLConfig(  # of Whisper tiny.en
        d_model=384, encoder_layers=4, encoder_attention_heads=6, vocab_size=32, pad_token_id=0
    )
    whole = TaskAdapter(config)
    config.task_adapter_size, config.task_adapter_bottleneck_size = 66, 40
    small = randomize_(TaskAdapter(config))
    sizes = [sum(parameter.numel() for parameter in adapter.parameters()) for adapter in (whole, small)]
    assert sizes[1] / sizes[0] == pytest.approx(0.1, abs=0.001)
    shared = torch.randn(1, 9, 384)
    assert not torch.equal(small(shared), shared)
    small.start_as_identity()
    assert torch.equal(small(shared), shared)

    for stride, places in ((1, "01234"), (2, "024"), (3, "14"), (9, "4")):
        adapters = TaskAdapters(tiny_config(use_task_adapter=True, num_hidden_layers=4, task_adapter_stride=stride))
        assert all(list(by_place) == list(places) for by_place in adapters.values())
        features, expected = {}, dict.fromkeys(adapters)
        for place in range(5):
            shared = torch.randn(1, 9, 16)
            features = adapters(place, shared, features)
            if str(place) in places:
                expected = {task: adapters[task][str(place)](shared, expected[task]) for task in adapters}
            assert all(torch.equal(features[task], expected[task]) for task in features)
        assert set(features) == {"classification", "keyword"}


def test_task_features_are_the_last_adapters_output(norm):
    """Recomputed from the hidden states: `adapted_j = adapter_j(shared_j, adapted_{j-1})`."""
    backbone = randomize_(WavLMBackbone(tiny_config(use_task_adapter=True, **norm))).eval()
    encoded = backbone(**pad(clips_of(200, 90)), output_hidden_states=True)
    for task, adapters in backbone.encoder.task_adapters.items():
        adapted = None
        for adapter, shared in zip(adapters.values(), encoded.hidden_states, strict=True):
            adapted = adapter(shared, adapted, encoded.frame_mask)
        torch.testing.assert_close(encoded.task_features[task], adapted)
    plain = randomize_(WavLMBackbone(tiny_config(**norm))).eval()(**pad(clips_of(200, 90)))
    assert all(torch.equal(features, plain.last_hidden_state) for features in plain.task_features.values())
