import json

import numpy as np
import pytest
from helpers import SECONDS_PER_FRAME, keyword_list, logits_of
from tiny_models import tiny_config

from modeling_toxmtl.alphabet import CHARACTERS, WORD_DELIMITER, character_tokenizer
from modeling_toxmtl.decoding import DecodingSettings
from modeling_toxmtl.processing_toxmtl import ToxicityMTLProcessor, speech_feature_extractor


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
