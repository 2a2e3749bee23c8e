import logging

import pytest
import transformers
from helpers import (
    RATE,
    SPEECH_FRAMES,
    assert_same,
    save_tiny_model,
    speech_feature_extractor,
    tiny_speech_model,
    tone,
)
from tiny_models import tiny_wavlm_config
from transformers import AudioClassificationPipeline, WavLMForSequenceClassification, pipeline

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline


@pytest.fixture
def transformers_log(caplog):
    """What transformers logs; it does not pass on its records otherwise."""
    transformers.utils.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        yield caplog
    transformers.utils.logging.disable_propagation()


def test_processor_is_needed(model):
    with pytest.raises(ValueError, match="needs the model's processor"):
        ToxicityDetectionPipeline(model=model, processor=None)


def test_construction_and_use_are_silent(model, processor, transformers_log, recwarn):
    pipe = ToxicityDetectionPipeline(model=model, processor=processor)
    pipe([tone(RATE), tone(RATE // 2)], batch_size=2)
    assert [record.getMessage() for record in transformers_log.records] == []
    assert [str(warning.message) for warning in recwarn] == []


# --- transformers' pipeline()


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), family=family)


def test_pipeline_of_a_folder(folder, family, processor, transformers_log, recwarn):
    pipe = pipeline("audio-classification", model=str(folder))
    assert type(pipe) is ToxicityDetectionPipeline
    expected = ToxicityDetectionPipeline(tiny_speech_model(family=family), processor)
    assert_same(pipe(tone(RATE)), expected(tone(RATE)))
    assert_same(pipeline("audio-classification", model=str(folder), top_k=2)(tone(RATE)), expected(tone(RATE))[:2])
    assert [record.getMessage() for record in transformers_log.records] == []
    assert [str(warning.message) for warning in recwarn] == []


def test_pipeline_of_a_model(pipe, model, processor, tmp_path, transformers_log, monkeypatch):
    """With its processor, or its feature extractor, which knows no keywords."""
    expected, extractor = pipe(tone(RATE), return_keywords=True), processor.feature_extractor
    for parts in ({"processor": processor}, {"processor": processor, "feature_extractor": extractor}):
        made = pipeline("audio-classification", model=model, **parts)
        assert type(made) is ToxicityDetectionPipeline
        assert made(tone(RATE), return_keywords=True) == expected
    made = pipeline("audio-classification", model=model, feature_extractor=extractor)
    assert type(made) is ToxicityDetectionPipeline
    assert made(tone(RATE)) == expected["labels"]
    assert [len(verdict) for verdict in made([tone(RATE), tone(RATE // 2)], batch_size=2)] == [6, 6]
    with pytest.raises(ValueError, match="Keywords need the model's processor, .* pass `processor=`"):
        made(tone(RATE), return_keywords=True)
    with pytest.raises(ValueError, match="needs the model's processor, but has none: pass `processor=`"):
        pipeline("audio-classification", model=model)
    assert not transformers_log.records
    monkeypatch.setattr(model.config, "keyword_evidence", {"Profanity": 2.0})
    pipeline("audio-classification", model=model, feature_extractor=extractor)
    assert "The scores lack the keywords that this model's scores count: pass `processor=`" in transformers_log.text
    made.save_pretrained(tmp_path)
    assert not (tmp_path / "processor_config.json").exists()  # it has none


def test_pipeline_of_a_folder_without_processor(tmp_path):
    tiny_speech_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs the model's processor"):
        pipeline("audio-classification", model=str(tmp_path))
    speech_feature_extractor().save_pretrained(tmp_path)
    made = pipeline("audio-classification", model=str(tmp_path))
    assert len(made(tone(RATE))) == len(LABELS)
    with pytest.raises(ValueError, match="Keywords need the model's processor"):
        made(tone(RATE), return_keywords=True)


def test_pipelines_of_other_models_stay_theirs(tmp_path):
    config = tiny_wavlm_config(**SPEECH_FRAMES, num_labels=3)
    WavLMForSequenceClassification(config).save_pretrained(tmp_path)
    speech_feature_extractor().save_pretrained(tmp_path)
    pipe = pipeline("audio-classification", model=str(tmp_path))
    assert type(pipe) is AudioClassificationPipeline
    assert sum(item["score"] for item in pipe(tone(RATE))) == pytest.approx(1)
    with pytest.raises(ValueError, match="the model's feature extractor, but has none: pass `feature_extractor=`"):
        pipeline("audio-classification", model=pipe.model)


def test_saved_pipeline_is_complete(pipe, family, processor, tmp_path):
    saved = ToxicityDetectionPipeline(tiny_speech_model(family=family), processor)
    saved.save_pretrained(tmp_path)
    loaded = pipeline("audio-classification", model=str(tmp_path))
    assert_same(loaded(tone(RATE)), saved(tone(RATE)))
    assert loaded.processor.keywords.to_dict() == processor.keywords.to_dict()
