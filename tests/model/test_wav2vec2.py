"""Checkpoints of wav2vec 2.0 and HuBERT, which are WavLMs without position bias."""

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TINY_WAVLM, clips_of, pad, randomize_
from transformers import HubertConfig, HubertForCTC, HubertModel, Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL
from modeling_toxmtl.wavlm import WavLMBackbone


RELATIVES = {  # class, configuration, and the name of its encoder in a checkpoint with heads
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2ForCTC, Wav2Vec2Config, "wav2vec2"),
    "hubert": (HubertModel, HubertForCTC, HubertConfig, "hubert"),
}


@pytest.fixture(params=RELATIVES)
def relative(request, norm):
    """Bare model, model with a head, prefix, and a tiny configuration of a relative of WavLM."""
    bare, with_head, config, prefix = RELATIVES[request.param]
    fields = {name: value for name, value in TINY_WAVLM.items() if hasattr(config, name)}
    return bare, with_head, prefix, config(**{**fields, **norm, "pad_token_id": 0})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loads_wav2vec2_and_hubert(relative, attention, tmp_path):
    """By name, bare or with the head of a recogniser, and gives transformers' features."""
    bare, with_head, prefix, config = relative
    for kind, missing in ((bare, {"projector", "classifier", "lm_head"}), (with_head, {"projector", "classifier"})):
        source = randomize_(kind(config)).eval()
        source.save_pretrained(tmp_path / kind.__name__)
        model, info = WavLMForToxicityMTL.from_pretrained(
            tmp_path / kind.__name__, attn_implementation=attention, output_loading_info=True
        )
        assert not info["unexpected_keys"] and not info["mismatched_keys"]
        assert {name.split(".")[0] for name in info["missing_keys"]} == missing
        assert not model.config.use_position_bias and model.config.ctc_zero_infinity
        clips = torch.stack(clips_of(900, 900))
        with torch.no_grad():
            expected = getattr(source, prefix, source)(clips).last_hidden_state
            found = model.eval().wavlm(clips, output_attentions=True)
            torch.testing.assert_close(found.last_hidden_state, expected, atol=2e-5, rtol=0)
            assert [weights.shape for weights in found.attentions] == [(2, 2, 44, 44)] * 2
            torch.testing.assert_close(model.wavlm(clips).last_hidden_state, expected, atol=2e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(clips).keyword_logits, source(clips).logits, atol=5e-5, rtol=0)


def test_wav2vec2_and_hubert_train_as_transformers(relative, tmp_path):
    bare, _, _, config = relative
    source = randomize_(bare(config)).train()
    source.save_pretrained(tmp_path)
    model = WavLMBackbone.from_pretrained(tmp_path).train()
    clips = torch.stack(clips_of(700, 700))
    for each in (source, model):
        each(clips).last_hidden_state.square().mean().backward()
    expected = {name: parameter.grad for name, parameter in source.named_parameters() if parameter.grad is not None}
    for name, parameter in model.named_parameters():
        if name != "masked_spec_embed":
            torch.testing.assert_close(parameter.grad, expected.pop(name), atol=1e-5, rtol=1e-3, msg=name)
    assert not expected


def test_wav2vec2_and_hubert_are_length_exact(relative, tmp_path):
    _, with_head, _, config = relative
    randomize_(with_head(config)).save_pretrained(tmp_path)
    model = WavLMForToxicityMTL.from_pretrained(tmp_path, use_task_adapter=True).eval()
    clips = clips_of(600, 237, 31, 410)
    with torch.no_grad():
        together = model(**pad(clips, extra=57))
        for row, clip in enumerate(clips):
            single = model(clip[None])
            frames = single.keyword_logits.shape[1]
            torch.testing.assert_close(together.logits[row], single.logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(
                together.keyword_logits[row, :frames], single.keyword_logits[0], atol=1e-5, rtol=1e-5
            )


def test_saved_under_the_models_own_names(relative, tmp_path):
    """Not those of the checkpoint that training started from."""
    _, with_head, _, config = relative
    randomize_(with_head(config)).save_pretrained(tmp_path / "source")
    model = WavLMForToxicityMTL.from_pretrained(tmp_path / "source")
    model.save_pretrained(tmp_path / "ours")
    saved = load_file(tmp_path / "ours" / "model.safetensors")
    assert saved.keys() == model.state_dict().keys()
    again = WavLMForToxicityMTL.from_pretrained(tmp_path / "ours")
    assert not again.config.use_position_bias
    assert all(torch.equal(value, saved[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (Wav2Vec2Config(adapter_attn_dim=16), "adapter_attn_dim"),
        (HubertConfig(conv_pos_batch_norm=True), "conv_pos_batch_norm"),
        (HubertConfig(feat_proj_layer_norm=False), "feat_proj_layer_norm"),
    ],
)
def test_other_variants_are_refused(config, field, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"`{field}`.* supported"):
        WavLMToxicityMTLConfig.from_pretrained(tmp_path)
