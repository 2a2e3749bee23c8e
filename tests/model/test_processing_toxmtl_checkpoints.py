import json
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    UPPER_CASE,
    keyword_list,
    logits_of,
    needs_kenlm,
    tiny_checkpoint,
    tiny_processor,
    tiny_whisper_checkpoint,
    write_arpa,
)
from tiny_models import tiny_config, tiny_wavlm_config
from transformers import WavLMModel

from modeling_toxmtl.alphabet import character_tokenizer
from modeling_toxmtl.decoding import DecodingSettings
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.processing_toxmtl import ToxicityMTLProcessor, speech_feature_extractor


@pytest.fixture
def processor() -> ToxicityMTLProcessor:
    return tiny_processor()


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


@pytest.mark.parametrize(
    "lost, message",
    [
        (["vocab.json"], "has no vocab.json: restore"),
        (["vocab.json", "tokenizer_config.json"], "has no vocab.json: restore"),
        (["processor_config.json"], "has no processor_config.json: restore"),
        (["processor_config.json", "vocab.json"], "has no processor_config.json and no vocab.json: .*from_checkpoint"),
    ],
)
def test_an_incomplete_folder_says_what_it_lacks(processor, tmp_path, lost, message):
    processor.save_pretrained(tmp_path)
    for name in lost:
        (tmp_path / name).unlink()
    with pytest.raises(OSError, match=message):
        ToxicityMTLProcessor.from_pretrained(tmp_path)


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


# --- damaged folders


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
