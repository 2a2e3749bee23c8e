import math

import numpy as np
import pytest
import torch
from helpers import keyword_list, tiny_processor, tiny_speech_model, tone

from modeling_toxmtl.alphabet import SPECIAL_TOKENS, character_tokenizer
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.processing_toxmtl import ToxicityMTLProcessor, mel_feature_extractor, speech_feature_extractor


@pytest.fixture
def processor() -> ToxicityMTLProcessor:
    return tiny_processor()


def test_encode_keywords_by_hand(processor):
    good, damn = [21, 8, 8, 14], [14, 7, 17, 9]
    assert processor.encode_keywords("Oh, DAMN!") == [*good, 4, *damn]
    assert processor.encode_keywords("dammit") == damn
    assert processor.encode_keywords("shut up") == [12, 11, 16, 6, 4, 16, 23]
    assert processor.encode_keywords("") == [0]  # the blank alone: nothing is said


def test_prepares_a_batch(processor):
    clips = [np.linspace(-1, 3, 90, dtype=np.float32), np.ones(50, dtype=np.float32) + np.eye(50)[0]]
    batch = processor(clips, sampling_rate=16_000, text=["damn it", ""], padding=True, return_tensors="pt")
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 90)
    assert batch["attention_mask"].sum(-1).tolist() == [90, 50]
    for row, length in enumerate((90, 50)):  # normalised over its own length
        clip = batch["input_values"][row, :length]
        assert clip.mean().item() == pytest.approx(0, abs=1e-5)
        assert clip.var(correction=0).item() == pytest.approx(1, abs=1e-3)
    target = processor.encode_keywords("damn it")
    assert batch["keyword_labels"].tolist() == [target, [0] + [-100] * (len(target) - 1)]
    assert "keyword_labels" not in processor(clips[0], sampling_rate=16_000)


def test_prepares_a_batch_for_whisper():
    """The features of each clip by itself, whatever stands beside it, and never padded to 30 s."""
    processor = ToxicityMTLProcessor(mel_feature_extractor(), character_tokenizer(), keyword_list())
    assert processor.input_name == "input_features"
    assert processor.model_input_names == ["input_features", "attention_mask"]
    generator = np.random.default_rng(0)
    clips = [(scale * generator.normal(size=size)).astype(np.float32) for scale, size in ((0.1, 1600), (1e-4, 4000))]
    batch = processor(clips, sampling_rate=16_000, text=["damn", ""], padding=True, return_tensors="pt")
    assert batch["input_features"].shape == (2, 80, 25) and batch["attention_mask"].sum(-1).tolist() == [10, 25]
    assert batch["keyword_labels"].tolist() == [processor.encode_keywords("damn"), [0, -100, -100, -100]]
    for row, clip in enumerate(clips):
        expected = processor.feature_extractor._np_extract_fbank_features(clip[None], "cpu")[0]  # without PyTorch
        frames = len(clip) // 160
        found = batch["input_features"][row]
        np.testing.assert_allclose(found[:, :frames], expected, atol=1e-4)
        assert (found[:, frames:] == 0).all()
        for one in (clip, torch.tensor(clip), clip.tolist(), clip[None]):
            (alone,) = processor(one, sampling_rate=16_000)["input_features"]
            np.testing.assert_array_equal(alone, found[:, :frames])
    arrays = processor(clips, sampling_rate=16_000, padding=True)
    np.testing.assert_array_equal(arrays["input_features"], batch["input_features"])
    again = processor.pad({"input_features": processor(clips, sampling_rate=16_000)["input_features"]})
    assert all(torch.equal(again[name], batch[name]) for name in again)


def test_long_clips_are_not_cut_for_whisper():
    """The model refuses them by name; transformers' features would end at 30 s without a word."""
    processor = ToxicityMTLProcessor(mel_feature_extractor(), character_tokenizer(), keyword_list())
    (features,) = processor(np.ones(31 * 16_000, dtype=np.float32), sampling_rate=16_000)["input_features"]
    assert features.shape == (80, 3100)


def test_as_many_texts_as_clips(processor):
    clips = [np.ones(50, dtype=np.float32)] * 2
    one = processor(clips[0], sampling_rate=16_000, text="shut up")
    assert one["keyword_labels"] == [processor.encode_keywords("shut up")]
    with pytest.raises(ValueError, match="There are 2 clips, but 1 texts"):
        processor(clips, sampling_rate=16_000, text="shut up")


@pytest.mark.parametrize("wrong", ["txt", "transcripts", "truncation", "audio_kwargs"])
def test_an_unknown_argument_is_refused_by_name(family, wrong):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{wrong}'"):
        tiny_processor(family=family)(np.ones(800), sampling_rate=16_000, **{wrong: "damn"})
    with pytest.raises(ValueError, match="give `audio`, `text`, or both"):
        tiny_processor(family=family)()


def test_a_batch_with_text_trains_both_ways(family):
    """At once, and clip by clip with `pad`, as collators do it."""
    processor, model = tiny_processor(family=family), tiny_speech_model(family=family)
    clips, texts = [tone(8_000), tone(6_000)], ["damn it, shut up", "damn"]
    batch = processor(clips, text=texts, sampling_rate=16_000, return_tensors="pt")
    assert set(batch) == {*processor.model_input_names, "keyword_labels"}
    assert math.isfinite(model(**batch).keyword_loss.item())
    items = [
        {name: values[0] for name, values in processor(clip, text, sampling_rate=16_000).items()}
        for clip, text in zip(clips, texts, strict=True)
    ]
    again = processor.pad(items)
    assert set(again) == set(batch) and all(torch.equal(again[name], batch[name]) for name in batch)
    assert processor(text=texts)["keyword_labels"] == [item["keyword_labels"] for item in items]
    with pytest.raises(ValueError, match="There is id to pad, but only .*labels can be"):
        processor.pad([item | {"id": 1} for item in items])


def test_lengths_to_pad_to(family):
    processor = tiny_processor(family=family)
    size = 100 if family == "whisper" else 16_000
    clips = [tone(8_000), tone(6_000)]
    for options in ({"padding": "max_length", "max_length": size}, {"pad_to_multiple_of": size}):
        batch = processor(clips, sampling_rate=16_000, return_tensors="np", **options)
        assert batch[processor.input_name].shape[-1] == batch["attention_mask"].shape[-1] == size
        assert batch["attention_mask"].sum(-1).tolist() == [size // 2, size * 3 // 8]
    bare = processor(clips, sampling_rate=16_000, return_tensors="np", return_attention_mask=False)
    assert list(bare) == [processor.input_name]


@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_waveforms_of_any_type_are_the_same_sound(family):
    """Log-mel features of samples from -32768 to 32767 would be those of another sound."""
    processor = tiny_processor(family=family)
    samples = (tone(8_000) * 32767).astype(np.int16)
    expected = processor(samples / np.float32(32768), sampling_rate=16_000)[processor.input_name][0]
    waveform = torch.tensor(samples / 32768, requires_grad=True)
    for same in (samples, samples.astype(np.int32) * 65536, waveform):
        np.testing.assert_allclose(processor(same, sampling_rate=16_000)[processor.input_name][0], expected, atol=1e-5)
    processor(waveform.bfloat16(), sampling_rate=16_000)
    for bad, message in (
        (np.full(8_000, np.nan, dtype=np.float32), "NaN or infinite"),
        (samples.astype(np.float32), "divide samples of 16 bits by 32768"),
        (np.zeros(0, dtype=np.float32), "no clip, or an empty one"),
        ([], "no clip, or an empty one"),
        ([tone(8_000), tone(0)], "Clip 1 has 0 samples: the model needs"),
    ):
        with pytest.raises(ValueError, match=message):
            processor(bad, sampling_rate=16_000)


def test_wrong_sampling_rate(processor):
    with pytest.raises(ValueError, match="16000"):
        processor(np.zeros(800, dtype=np.float32), sampling_rate=8_000)


def test_default_list_fits_the_default_vocabulary():
    processor = ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer())
    assert processor.keywords.to_dict() == KeywordList.default().to_dict()
    unknown = processor.tokenizer.unk_token_id
    for keyword in processor.keywords.keywords:
        assert unknown not in processor.encode_keywords(keyword)


def test_list_outside_the_alphabet_is_refused():
    keywords = KeywordList([KeywordEntry("merde", ("Profanity",)), KeywordEntry("été", ("Other",))])
    with pytest.raises(ValueError, match=r"'été'.*'é'"):
        ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(), keywords)
    keywords = KeywordList([KeywordEntry("damn", ("Profanity",))])
    with pytest.raises(ValueError, match=r"'good'.*'g'"):  # the filler too must be spelled
        ToxicityMTLProcessor(
            speech_feature_extractor(), character_tokenizer((*SPECIAL_TOKENS, "|", *"damno")), keywords
        )
