import pytest
from helpers import character_tokenizer, tiny_checkpoint
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig

from modeling_toxmtl.data.models import find_recognizer
from modeling_toxmtl.data.transcribe import TranscribeStage


def test_a_ctc_model_that_hears_features_is_refused_before_the_first_stage(tmp_path):
    """Its frames are no function of the samples that it is given."""
    Wav2Vec2BertConfig(architectures=["Wav2Vec2BertForCTC"]).save_pretrained(tmp_path)
    SeamlessM4TFeatureExtractor().save_pretrained(tmp_path)
    character_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="is wav2vec2-bert, which hears features: give a Whisper model, or a CTC"):
        TranscribeStage(str(tmp_path)).check()


def test_a_ctc_model_that_hears_waveforms_is_a_recognizer(tmp_path):
    assert find_recognizer(str(tiny_checkpoint(tmp_path))).model_type == "wavlm"
