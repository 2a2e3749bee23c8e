import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    needs_kenlm,
    tiny_checkpoint,
    tiny_processor,
    tiny_speech_model,
    tiny_whisper_checkpoint,
    tone,
    write_arpa,
)
from tiny_models import tiny_config, tiny_wavlm_config
from transformers import WavLMModel

from modeling_toxmtl.alphabet import (
    CHARACTERS,
    SPECIAL_TOKENS,
    WORD_DELIMITER,
    alphabet_tokenizer,
    character_tokenizer,
)
from modeling_toxmtl.decoding import DECODERS, DecodingSettings
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.processing_toxmtl import ToxicityMTLProcessor, mel_feature_extractor, speech_feature_extractor
from modeling_toxmtl.pyctcdecode_decoder import BeamSearchDecoderCTC


UPPER_CASE = (*SPECIAL_TOKENS, WORD_DELIMITER, *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
SECONDS_PER_FRAME = 20 / 16_000  # of `tiny_config`


def keyword_list() -> KeywordList:
    return KeywordList(
        [
            KeywordEntry("damn", ("Profanity",), ("dammit",)),
            KeywordEntry("shut up", ("Bullying", "Other")),
            KeywordEntry("crap", ("Profanity",)),
        ]
    )


@pytest.fixture
def processor() -> ToxicityMTLProcessor:
    return ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(), keyword_list())


def logits_of(*texts: str, characters: tuple[str, ...] = CHARACTERS, confidence: float = 0.9) -> np.ndarray:
    """Keyword logits that spell each text, one frame per character: `_` is the blank, a space the delimiter."""
    frames = max(map(len, texts))
    logits = np.full((len(texts), frames, len(characters)), math.log((1 - confidence) / (len(characters) - 1)))
    for row, text in enumerate(texts):
        for frame, character in enumerate(text.ljust(frames, "_")):
            token = {"_": "<pad>", " ": WORD_DELIMITER}.get(character, character)
            logits[row, frame, characters.index(token)] = math.log(confidence)
    return logits


# --- inputs and targets


def test_vocabulary_is_that_of_english_checkpoints():
    vocabulary = character_tokenizer().get_vocab()
    assert len(vocabulary) == 32
    assert [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])] == list(CHARACTERS)
    assert character_tokenizer().pad_token_id == 0
    assert character_tokenizer().word_delimiter_token_id == 4


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


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"model_type": "wavlm", "hid'),
        ("config.json", '{"hidden_size": 16}'),
        ("config.json", '{"model_type": "wavlm", "hidden_size": "wide"}'),
        ("preprocessor_config.json", '{"sampling_rate": 16'),
        ("vocab.json", '{"<pad>": 0, "a'),
        ("vocab.json", "[]"),
    ],
)
def test_an_unreadable_file_is_not_taken_for_a_missing_one(file, content, tmp_path):
    """A default in its place would be another model's features, or other letters."""
    tiny_checkpoint(tmp_path)
    assert (tmp_path / file).exists()
    (tmp_path / file).write_text(content)
    with pytest.raises((OSError, ValueError), match=file):
        ToxicityMTLProcessor.from_checkpoint(str(tmp_path))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"config.json of {tmp_path} cannot be read"):
        ToxicityMTLProcessor.from_checkpoint(str(tmp_path))


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


INSTALLED = [name for name in DECODERS if name != "pyctcdecode" or BeamSearchDecoderCTC is not None]


@pytest.mark.parametrize("decoder", INSTALLED)
def test_edits_outside_the_alphabet(decoder):
    """A keyword that cannot be written is refused; a variant counts in transcripts alone."""
    processor = ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(), keyword_list())
    processor.keywords.alias("damn", "dämn")
    (clip,) = processor.decode_keywords(logits_of("damn"), tiny_config(), decoder=decoder)
    assert clip.words == ["damn"]
    assert processor.encode_keywords("dämn") == processor.encode_keywords("damn")
    processor.keywords.add("été", ("Other",))
    with pytest.raises(ValueError, match=r"'été'.*'é'"):
        processor.decode_keywords(logits_of("damn"), tiny_config(), decoder=decoder)
    with pytest.raises(ValueError, match=r"'été'.*'é'"):
        processor.encode_keywords("un été")


def test_upper_case_checkpoint():
    processor = ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(UPPER_CASE), keyword_list())
    ids = processor.encode_keywords("damn fool")
    assert "".join(UPPER_CASE[i] for i in ids) == "DAMN|GOOD"
    (clip,) = processor.decode_keywords(logits_of("DAMN GO_OD", characters=UPPER_CASE), tiny_config())
    assert clip.words == ["damn", "good"]
    assert [keyword.keyword for keyword in clip.keywords] == ["damn"]


# --- decoding


def test_decode_keywords_by_hand(processor):
    (clip,) = processor.decode_keywords(logits_of("go_od damn "), tiny_config(), decoder="greedy")
    assert clip.words == ["good", "damn"]
    (keyword,) = clip.keywords
    assert (keyword.keyword, keyword.labels) == ("damn", ("Profanity",))
    assert keyword.start == pytest.approx(6 * SECONDS_PER_FRAME)
    assert keyword.end == pytest.approx(10 * SECONDS_PER_FRAME)
    assert keyword.score == pytest.approx(0.9, abs=1e-6)


def test_logits_need_not_be_normalized(processor):
    logits = logits_of("damn")
    (plain,), (shifted,) = (
        processor.decode_keywords(values, tiny_config()) for values in (logits, logits + np.arange(4)[:, None] * 100)
    )
    assert shifted.keywords[0].score == pytest.approx(plain.keywords[0].score, abs=1e-4)


def test_tensors_are_decoded_like_arrays(processor):
    logits = logits_of("damn it", "cra__p ")
    assert processor.decode_keywords(torch.tensor(logits), tiny_config()) == processor.decode_keywords(
        logits, tiny_config()
    )


def test_phrases(processor):
    logits = logits_of("nice shut up up shut")
    logits[0, 10, :] = np.log(0.4 / 31)  # an unsure "u" in "up"
    logits[0, 10, CHARACTERS.index("u")] = np.log(0.6)
    for decoder, first in (("greedy", "nice"), ("lexicon", "good")):
        (clip,) = processor.decode_keywords(logits, tiny_config(), decoder=decoder)
        (keyword,) = clip.keywords
        assert (keyword.keyword, keyword.labels) == ("shut up", ("Bullying", "Other"))
        assert keyword.start == pytest.approx(5 * SECONDS_PER_FRAME)
        assert keyword.end == pytest.approx(12 * SECONDS_PER_FRAME)
        assert clip.words == [first, "shut up", "up", "shut"]
        if decoder == "greedy":
            assert keyword.score == pytest.approx((0.6 * 0.9) ** 0.5, abs=1e-6)  # the less sure of its two words


def test_times_are_in_order_and_inside_the_clip(processor):
    config = tiny_config()
    text = "damn crap  shut up damn_ damn"
    num_samples = [config.receptive_field + 20 * (len(text) - 1), 400, 31]
    clips = processor.decode_keywords(logits_of(text, text, text), config, num_samples)
    assert [keyword.keyword for keyword in clips[0].keywords] == ["damn", "crap", "shut up", "damn", "damn"]
    for clip, samples in zip(clips, num_samples, strict=True):
        previous = 0.0
        for keyword in clip.keywords:
            assert previous <= keyword.start < keyword.end <= samples / 16_000
            assert 0 < keyword.score <= 1
            previous = keyword.end


def test_padding_frames_are_not_read(processor):
    config = tiny_config()
    logits = logits_of("damn crap", "damn crap", "damn crap")
    # as many samples as give 9, 5 and 0 frames
    whole, cut, empty = processor.decode_keywords(logits, config, [190, 129, 12])
    assert whole.words == ["damn", "crap"]
    assert [keyword.keyword for keyword in whole.keywords] == ["damn", "crap"]
    assert cut.words == ["damn"]
    assert [keyword.keyword for keyword in cut.keywords] == ["damn"]
    assert empty == ([], [])
    assert processor.decode_keywords(logits, config)[1].words == ["damn", "crap"]  # without lengths every frame counts


def test_number_of_lengths_must_fit(processor):
    with pytest.raises(ValueError):
        processor.decode_keywords(logits_of("damn", "damn"), tiny_config(), [110])
    with pytest.raises(ValueError, match=r"must be \(clips, frames, characters\), but is of shape \(\d+, \d+\)"):
        processor.decode_keywords(logits_of("damn")[0], tiny_config())


def test_edits_act_at_once(processor):
    (before,) = processor.decode_keywords(logits_of("damn"), tiny_config())
    assert before.keywords
    processor.keywords.remove("damn")
    (after,) = processor.decode_keywords(logits_of("damn"), tiny_config())
    assert after == ([], ["good"])
    assert processor.encode_keywords("damn") == processor.encode_keywords("anything")
    processor.keywords.add("fool", ["Bullying"])
    (added,) = processor.decode_keywords(logits_of("fo_ol"), tiny_config())
    assert added.keywords[0].labels == ("Bullying",)
    (plain,) = processor.decode_keywords(logits_of("plonk"), tiny_config())
    processor.keywords.alias("fool", "plonk")
    (aliased,) = processor.decode_keywords(logits_of("plonk"), tiny_config())
    assert not plain.keywords
    assert [keyword.keyword for keyword in aliased.keywords] == ["fool"]


def test_threshold_per_keyword(processor):
    logits = logits_of("damn shut up", confidence=0.6)
    processor.decoding = DecodingSettings(other_word_penalty=2.0)  # so that another word is worth a thought
    (before,) = processor.decode_keywords(logits, tiny_config())
    damn, shut_up = before.keywords
    assert 0 < damn.score < 1 and 0 < shut_up.score < 1
    processor.keywords.set_threshold("damn", min(damn.score + 1e-6, 1.0))
    processor.keywords.set_threshold("shut up", shut_up.score - 1e-6)
    (after,) = processor.decode_keywords(logits, tiny_config())
    assert after == ([shut_up], ["good", "shut up"])


def test_repeated_and_missing_delimiters(processor):
    texts = ("damn crap", " damn crap ", "damn  _ crap", "_ _damn_ _ crap_")
    clips = processor.decode_keywords(logits_of(*texts), tiny_config())
    assert [clip.words for clip in clips] == [["damn", "crap"]] * 4


def test_a_misspelt_keyword_is_still_found(processor):
    logits = logits_of("go_od damn")
    logits[0, 7] = np.log(0.6 / 30)
    logits[0, 7, [CHARACTERS.index("a"), CHARACTERS.index("e")]] = np.log([0.19, 0.21])  # greedy reads "demn"
    greedy, lexicon = (processor.decode_keywords(logits, tiny_config(), decoder=d)[0] for d in ("greedy", "lexicon"))
    assert (greedy.keywords, lexicon.words) == ([], ["good", "damn"])
    assert 0.5 < lexicon.keywords[0].score < 1


def test_decoding_errors(processor, tmp_path, monkeypatch):
    logits, config = logits_of("damn"), tiny_config()
    for decoder in INSTALLED:
        with pytest.raises(ValueError, match="31 characters.*tokenizer has 32"):
            processor.decode_keywords(logits[..., :31], config, decoder=decoder)
    with pytest.raises(ValueError, match="'viterbi'.*lexicon, pyctcdecode, greedy"):
        processor.decode_keywords(logits, config, decoder="viterbi")
    monkeypatch.setattr("modeling_toxmtl.pyctcdecode_decoder.BeamSearchDecoderCTC", None)
    processor.decoding = DecodingSettings(decoder="pyctcdecode", beam_width=7)  # not cached
    with pytest.raises(ImportError, match="pip install"):
        processor.decode_keywords(logits, config)
    processor.decoding = DecodingSettings()
    processor.language_model = str(tmp_path / "gone.arpa")
    with pytest.raises(FileNotFoundError, match="gone.arpa.*language_model = None"):
        processor.decode_keywords(logits, config)
    assert processor.decode_keywords(logits, config, decoder="greedy")[0].words == ["damn"]  # needs none
    (tmp_path / "gone.arpa").write_text("no model")
    with pytest.raises(ValueError, match="gone.arpa.*ARPA"):
        processor.decode_keywords(logits, config)
    processor.language_model = None
    processor.keywords.add("année", ["Other"])
    with pytest.raises(ValueError, match="'année'.*'é'"):
        processor.decode_keywords(logits, config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("decoder", "beam"), ("alpha", -1), ("beam_width", 0), ("blank_threshold", 0.0), ("other_word_penalty", -0.1)]
    + [("common_word_penalty", -0.1)],
)
def test_settings_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"`{field}` is"):
        DecodingSettings(**{field: value})


# --- a head that writes all words


@pytest.fixture
def transcript_processor(tmp_path) -> ToxicityMTLProcessor:
    (tmp_path / "words.txt").write_text("the\nyou\nup\ndame\nduck\n")
    return ToxicityMTLProcessor(
        speech_feature_extractor(),
        character_tokenizer(),
        keyword_list(),
        keyword_target="transcript",
        common_words=tmp_path / "words.txt",
    )


def text_of(processor, ids: list[int]) -> str:
    return "".join(processor.tokenizer.convert_ids_to_tokens(ids)).replace(WORD_DELIMITER, " ")


def test_transcripts_are_written_as_they_are_said(transcript_processor):
    for transcript, target in {
        "Oh, DAMMIT!": "oh dammit",  # a variant stays what it is
        "42 ducks, d4mn": "forty two ducks damn",
        "shut up": "shut up",
    }.items():
        assert text_of(transcript_processor, transcript_processor.encode_keywords(transcript)) == target
    assert transcript_processor.encode_keywords("...") == [0]
    with pytest.raises(ValueError, match="the transcript holds é, which the tokenizer's vocabulary lacks"):
        transcript_processor.encode_keywords("a café")


def test_keywords_of_a_transcript(transcript_processor):
    logits = logits_of("you are the dam_mit duck shut up now")
    (clip,) = transcript_processor.decode_keywords(logits, tiny_config())
    assert clip.words == ["good"] * 3 + ["damn", "good", "shut up", "good"]
    damn, shut_up = clip.keywords
    assert (damn.start, damn.end) == pytest.approx((12 * SECONDS_PER_FRAME, 19 * SECONDS_PER_FRAME))
    assert (shut_up.start, shut_up.end) == pytest.approx((25 * SECONDS_PER_FRAME, 32 * SECONDS_PER_FRAME))
    assert damn.score > 0.99 and shut_up.score > 0.99
    (greedy,) = transcript_processor.decode_keywords(logits, tiny_config(), decoder="greedy")
    assert [keyword.keyword for keyword in greedy.keywords] == ["damn", "shut up"]


def test_words_act_at_once(transcript_processor):
    logits = logits_of("that slang word hits the pits mate")
    assert transcript_processor.decode_keywords(logits, tiny_config())[0].keywords == []
    transcript_processor.keywords.add("slang", ["Other"])
    transcript_processor.keywords.add("the pits", ["Other"])
    (clip,) = transcript_processor.decode_keywords(logits, tiny_config())
    assert clip.words == ["good", "slang", "good", "good", "the pits", "good"]
    transcript_processor.keywords.remove("slang")
    (clip,) = transcript_processor.decode_keywords(logits, tiny_config())
    assert [keyword.keyword for keyword in clip.keywords] == ["the pits"]
    transcript_processor.keywords.add("duck", ["Other"])  # was a common word
    (clip,) = transcript_processor.decode_keywords(logits_of("the duck"), tiny_config())
    assert clip.words == ["good", "duck"]


def test_words_that_sound_alike_are_told_apart(transcript_processor):
    """Between a keyword and a common word, the letters decide; what no word fits is another word, or misspelled."""
    transcript_processor.keywords.add("fuck", ["Profanity"])

    def heard(f: float, text: str = "_uck") -> list[str]:
        logits = logits_of(text)
        logits[0, 0, :] = np.log(0.1 / 30)
        logits[0, 0, [CHARACTERS.index("f"), CHARACTERS.index("d")]] = np.log([f, 0.9 - f])
        (clip,) = transcript_processor.decode_keywords(logits, tiny_config())
        return clip.words

    assert heard(0.6) == ["fuck"] and heard(0.1) == ["good"]
    transcript_processor.common_words = None
    assert heard(0.1) == ["fuck"]  # nothing else is spelled so
    transcript_processor.decoding = DecodingSettings(other_word_penalty=1.0)
    assert heard(0.1) == ["good"] and heard(0.6) == ["fuck"]


def test_target_and_common_words_travel_with_the_processor(transcript_processor, tmp_path):
    transcript_processor.save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "processor_config.json").read_text())
    assert (saved["keyword_target"], saved["common_words"]) == ("transcript", "language_model/words.txt")
    (tmp_path / "words.txt").unlink()
    loaded = ToxicityMTLProcessor.from_pretrained(tmp_path / "model")
    logits = logits_of("you are the dam_mit duck")
    assert loaded.decode_keywords(logits, tiny_config())[0].words == ["good", "good", "good", "damn", "good"]
    assert loaded.encode_keywords("oh damn") == transcript_processor.encode_keywords("oh damn")
    again = ToxicityMTLProcessor.from_checkpoint(str(tmp_path / "model"))
    assert (again.keyword_target, again.common_words) == ("transcript", loaded.common_words)
    other = ToxicityMTLProcessor.from_checkpoint(str(tmp_path / "model"), keyword_target="keywords")
    assert text_of(other, other.encode_keywords("oh damn")) == "good damn"
    (tmp_path / "model" / "language_model" / "words.txt").unlink()
    with pytest.raises(OSError, match="lacks the common words.*language_model/words.txt.*common_words=None"):
        ToxicityMTLProcessor.from_pretrained(tmp_path / "model")


def test_target_that_is_none():
    with pytest.raises(ValueError, match="`keyword_target` is 'text': choose one of keywords, transcript"):
        ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(), keyword_target="text")


# --- checkpoints


def test_save_and_load(processor, tmp_path):
    processor.keywords.remove("crap")
    processor.keywords.add("dang it", ["Other"], ["dangit"])
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["keywords"] == processor.keywords.to_dict()

    loaded = ToxicityMTLProcessor.from_pretrained(tmp_path)
    assert loaded.keywords.to_dict() == processor.keywords.to_dict()
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert loaded.feature_extractor.do_normalize and loaded.feature_extractor.return_attention_mask
    transcript = "Dangit, that's crap. Damn!"
    assert loaded.encode_keywords(transcript) == processor.encode_keywords(transcript)
    assert loaded.encode_keywords(transcript) == loaded.encode_keywords("dang it x x damn")
    assert loaded.decode_keywords(logits_of("damn"), tiny_config()) == processor.decode_keywords(
        logits_of("damn"), tiny_config()
    )
    clip = np.sin(np.arange(100, dtype=np.float32))
    assert np.array_equal(loaded(clip)["input_values"], processor(clip)["input_values"])


@needs_kenlm
def test_language_model_and_settings_travel_with_the_processor(processor, tmp_path):
    source = write_arpa(tmp_path / "source.arpa", {"good": -0.2, "damn": -3.0, "crap": -0.5, "shut": -2.0, "up": -2.0})
    processor.language_model = str(source)
    processor.decoding = DecodingSettings(alpha=2.0, beta=0.5, beam_width=9)
    logits = logits_of("cramp", confidence=0.5)
    expected = processor.decode_keywords(logits, tiny_config())
    processor.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "processor_config.json").read_text())["language_model"] == (
        "language_model/source.arpa"
    )
    source.unlink()  # the folder has its own copy
    loaded = ToxicityMTLProcessor.from_pretrained(tmp_path / "model")
    assert loaded.decoding == processor.decoding
    assert loaded.decode_keywords(logits, tiny_config()) == expected
    loaded.save_pretrained(tmp_path / "model")  # onto itself
    loaded.save_pretrained(tmp_path / "again")
    for folder in ("model", "again"):
        again = ToxicityMTLProcessor.from_checkpoint(str(tmp_path / folder), keyword_list())
        assert again.decode_keywords(logits, tiny_config()) == expected
    loaded.language_model = None
    assert loaded.decode_keywords(logits, tiny_config()) != expected  # it did count


def test_language_model_of_a_hub_repository(processor, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--org--name" / "snapshots" / ("0" * 40)
    processor.language_model = str(write_arpa(tmp_path / "keywords.arpa", {"good": -0.2}))
    processor.save_pretrained(snapshot)
    tiny_config().save_pretrained(snapshot)  # transformers asks it for the kind of tokenizer
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text("0" * 40)
    loaded = ToxicityMTLProcessor.from_pretrained("org/name", cache_dir=tmp_path, local_files_only=True)
    assert Path(loaded.language_model).read_text() == (tmp_path / "keywords.arpa").read_text()


def test_missing_language_model_of_a_folder(processor, tmp_path):
    processor.language_model = str(write_arpa(tmp_path / "keywords.arpa", {"good": -0.2}))
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "language_model" / "keywords.arpa").unlink()
    with pytest.raises(OSError, match="lacks the language model.*language_model/keywords.arpa.*language_model=None"):
        ToxicityMTLProcessor.from_pretrained(tmp_path / "model")
    assert ToxicityMTLProcessor.from_pretrained(tmp_path / "model", language_model=None).language_model is None


def test_saving_does_not_change_the_processor(processor, tmp_path):
    before = processor.keywords.to_dict()
    processor.save_pretrained(tmp_path)
    assert isinstance(processor.keywords, KeywordList)
    assert processor.keywords.to_dict() == before


def test_upper_case_survives_saving(tmp_path):
    processor = ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(UPPER_CASE), keyword_list())
    processor.save_pretrained(tmp_path)
    loaded = ToxicityMTLProcessor.from_pretrained(tmp_path)
    assert loaded.encode_keywords("damn") == processor.encode_keywords("damn")
    (clip,) = loaded.decode_keywords(logits_of("DAMN", characters=UPPER_CASE), tiny_config())
    assert clip.words == ["damn"]


def test_keywords_as_a_dictionary():
    processor = ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer(), keyword_list().to_dict())
    assert processor.keywords.keywords == ["damn", "shut up", "crap"]


def test_from_checkpoint_keeps_its_own_tokenizer(tmp_path):
    tiny_wavlm_config().save_pretrained(tmp_path)
    character_tokenizer(UPPER_CASE).save_pretrained(tmp_path)
    speech_feature_extractor().save_pretrained(tmp_path)
    processor = ToxicityMTLProcessor.from_checkpoint(str(tmp_path), keyword_list())
    assert processor.tokenizer.get_vocab() == character_tokenizer(UPPER_CASE).get_vocab()
    assert processor.keywords.keywords == ["damn", "shut up", "crap"]


def test_from_checkpoint_of_a_bare_encoder(tmp_path):
    WavLMModel(tiny_wavlm_config()).save_pretrained(tmp_path)
    processor = ToxicityMTLProcessor.from_checkpoint(str(tmp_path))
    assert processor.tokenizer.get_vocab() == character_tokenizer().get_vocab()
    assert processor.keywords.to_dict() == KeywordList.default().to_dict()


@pytest.mark.parametrize("has_features", [True, False])
def test_from_checkpoint_of_whisper(has_features, tmp_path):
    """Its features, or those that its configuration names, and characters in place of its tokens."""
    folder = tiny_whisper_checkpoint(tmp_path)
    if not has_features:
        (folder / "preprocessor_config.json").unlink()
    processor = ToxicityMTLProcessor.from_checkpoint(str(folder), keyword_list())
    assert processor.feature_extractor.feature_size == 80
    assert processor.tokenizer.get_vocab() == character_tokenizer().get_vocab()
    processor.save_pretrained(tmp_path / "saved")
    for loaded in (
        ToxicityMTLProcessor.from_pretrained(tmp_path / "saved"),
        ToxicityMTLProcessor.from_checkpoint(str(tmp_path / "saved")),
    ):
        assert type(loaded.feature_extractor) is type(processor.feature_extractor)
        assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        assert loaded.keywords.to_dict() == processor.keywords.to_dict()
        clip = np.linspace(-1, 1, 3200, dtype=np.float32)
        found, expected = loaded(clip, sampling_rate=16_000), processor(clip, sampling_rate=16_000)
        np.testing.assert_array_equal(found["input_features"][0], expected["input_features"][0])


def test_from_checkpoint_of_this_package_keeps_its_list(processor, tmp_path):
    processor.keywords.remove("crap")
    processor.save_pretrained(tmp_path)
    again = ToxicityMTLProcessor.from_checkpoint(str(tmp_path))
    assert again.keywords.to_dict() == processor.keywords.to_dict()
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    given = ToxicityMTLProcessor.from_checkpoint(str(tmp_path), KeywordList.default())
    assert given.keywords.to_dict() == KeywordList.default().to_dict()


def test_alphabet():
    tokenizer = alphabet_tokenizer("aábñ")
    assert tokenizer.convert_ids_to_tokens(range(9)) == ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "á", "b", "ñ"]
    assert tokenizer("bañá").input_ids == [7, 5, 8, 6]


@pytest.mark.parametrize(
    ("letters", "message"), [("abca", "'a' more than once"), ("aB", "lower case"), ("a b", "spaces")]
)
def test_alphabet_that_is_none(letters, message):
    with pytest.raises(ValueError, match=message):
        alphabet_tokenizer(letters)
