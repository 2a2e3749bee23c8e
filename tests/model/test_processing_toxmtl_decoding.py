import numpy as np
import pytest
import torch
from helpers import SECONDS_PER_FRAME, UPPER_CASE, keyword_list, logits_of, tiny_processor
from tiny_models import tiny_config

from modeling_toxmtl.alphabet import CHARACTERS, character_tokenizer
from modeling_toxmtl.decoding import DECODERS, DecodingSettings
from modeling_toxmtl.processing_toxmtl import ToxicityMTLProcessor, speech_feature_extractor
from modeling_toxmtl.pyctcdecode_decoder import BeamSearchDecoderCTC


INSTALLED = [name for name in DECODERS if name != "pyctcdecode" or BeamSearchDecoderCTC is not None]


@pytest.fixture
def processor() -> ToxicityMTLProcessor:
    return tiny_processor()


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
    + [("common_word_penalty", -0.1), ("alpha", "0.5"), ("beta", float("nan")), ("beam_width", 2.5)],
)
def test_settings_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"`{field}` is"):
        DecodingSettings(**{field: value})


# --- the alphabet


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
