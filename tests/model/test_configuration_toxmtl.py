import json
import logging

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from tiny_models import tiny_config, tiny_wavlm_config
from transformers import Data2VecAudioConfig, WavLMConfig, WavLMModel

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig
from modeling_toxmtl.labels import LABELS


def test_defaults_are_plain_mtl_on_wavlm_base_plus():
    config = WavLMToxicityMTLConfig()
    assert config.tasks == ["classification", "keyword"]
    assert not config.use_task_adapter and not config.use_info_sharing
    assert config.classification_loss_weight == 0.7
    assert config.ctc_zero_infinity
    assert config.problem_type == "multi_label_classification"
    assert [config.id2label[i] for i in range(config.num_labels)] == list(LABELS)
    assert config.label2id == {label: i for i, label in enumerate(LABELS)}
    for field in ("hidden_size", "num_hidden_layers", "conv_kernel", "conv_stride", "vocab_size"):
        assert getattr(config, field) == getattr(WavLMConfig(), field)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("tasks", {"tasks": []}),
        ("tasks", {"tasks": ["classification", "classification"]}),
        ("tasks", {"tasks": ["keywords"]}),
        ("info_sharing_combination", {"info_sharing_combination": "multiply"}),
        ("info_sharing_activation", {"info_sharing_activation": "relu"}),
        ("info_sharing_size", {"info_sharing_size": 511}),
        ("info_sharing_size", {"info_sharing_size": 0}),
        ("use_info_sharing", {"use_info_sharing": True, "tasks": ["keyword"]}),
        ("task_adapter_kernel_size", {"task_adapter_kernel_size": 4}),
        ("task_adapter_kernel_size", {"task_adapter_kernel_size": -1}),
        ("task_adapter_bottleneck_size", {"task_adapter_bottleneck_size": 0}),
        ("task_adapter_stride", {"task_adapter_stride": 0}),
        ("task_adapter_size", {"task_adapter_size": 100}),  # of 12 attention heads
        ("classifier_pooling", {"classifier_pooling": "max"}),
        ("classifier_layer", {"classifier_layer": 0}),
        ("classifier_layer", {"classifier_layer": 13}),
        ("classifier_layer", {"classifier_layer": 6, "use_task_adapter": True}),
        ("classification_loss_weight", {"classification_loss_weight": 1.01}),
        ("classification_loss_weight", {"classification_loss_weight": -0.01}),
        ("id2label", {"id2label": {0: "Profanity", 1: "Profanity"}}),
        ("id2label", {"id2label": {0: "Profanity", 2: "Racist"}}),
        ("label_thresholds", {"label_thresholds": {"Rudeness": 0.5}}),
        ("label_thresholds", {"label_thresholds": {"Profanity": 30}}),
        ("keyword_evidence", {"keyword_evidence": {"Rudeness": 2.0}}),
        ("keyword_evidence", {"keyword_evidence": {"Profanity": 2.0}, "tasks": ["classification"]}),
        ("problem_type", {"problem_type": "single_label_classification"}),
        ("feat_extract_norm", {"feat_extract_norm": "batch"}),
        ("mask_feature_prob", {"mask_feature_prob": 0.1}),
        ("use_weighted_layer_sum", {"use_weighted_layer_sum": True}),
        ("add_adapter", {"add_adapter": True}),
    ],
)
def test_invalid_fields_are_named(field, fields):
    with pytest.raises(StrictDataclassClassValidationError, match=f"ValueError: `{field}[`[]"):
        WavLMToxicityMTLConfig(**fields)


def test_tasks_must_be_a_list():
    with pytest.raises(StrictDataclassFieldValidationError, match="'tasks'"):
        WavLMToxicityMTLConfig(tasks="keyword")


@pytest.mark.parametrize(
    "fields",
    [
        {"tasks": ["keyword", "classification"]},
        {"tasks": ("classification",)},
        {"classification_loss_weight": 0},
        {"classification_loss_weight": 1},
        {"info_sharing_size": 2},
        {"task_adapter_kernel_size": 1, "task_adapter_bottleneck_size": 1, "task_adapter_size": 12},
        {"classifier_layer": 1},
        {"classifier_layer": 12, "task_adapter_stride": 100},
    ],
)
def test_limits_are_valid(fields):
    config = WavLMToxicityMTLConfig(**fields)
    for name, value in fields.items():
        assert getattr(config, name) == (list(value) if name == "tasks" else value)


def test_labels_are_in_the_order_of_the_outputs():
    names = {str(index): f"label {index}" for index in (10, 2, 0, 1, *range(3, 10))}
    assert list(WavLMToxicityMTLConfig(id2label=names).label2id) == [f"label {index}" for index in range(11)]


def test_thresholds():
    config = WavLMToxicityMTLConfig(label_thresholds={"Profanity": 0.3, "NoViolation": 0.1})
    assert config.thresholds["Profanity"] == 0.3 and config.thresholds["Bullying"] == 0.5
    assert list(config.thresholds) == list(config.label2id)
    scores = {"Profanity": 0.3, "Bullying": 0.49, "Other": 0.5, "NoViolation": 1.0}
    assert config.violations(scores) == ["Profanity", "Other"]


def test_threshold_of_an_unknown_label_set_afterwards():
    config = WavLMToxicityMTLConfig()
    config.label_thresholds = {"bullying": 0.3}
    with pytest.raises(ValueError, match="names 'bullying'"):
        config.violations({"Bullying": 0.4})


def test_thresholds_go_with_the_labels():
    fitted = {"label_thresholds": {"Profanity": 0.3, "Other": 0.2}, "keyword_evidence": {"Profanity": 2.0}}
    old = WavLMToxicityMTLConfig(**fitted)
    assert WavLMToxicityMTLConfig.from_encoder(old).label_thresholds == old.label_thresholds
    same = WavLMToxicityMTLConfig.from_encoder(old, id2label=dict(old.id2label))
    assert same.label_thresholds == old.label_thresholds and same.keyword_evidence == old.keyword_evidence
    new = WavLMToxicityMTLConfig.from_encoder(old, id2label={0: "Profanity", 1: "Spam"})
    assert new.label_thresholds is new.keyword_evidence is None and new.label2id == {"Profanity": 0, "Spam": 1}


@pytest.mark.parametrize("task", ["classification", "keyword"])
def test_keyword_evidence_needs_both_tasks(tmp_path, task):
    """And stays behind where a model that has it starts one with a single task."""
    old = tiny_config(keyword_evidence={"Profanity": 2.0})
    assert WavLMToxicityMTLConfig.from_encoder(old, tasks=[task]).keyword_evidence is None
    both = WavLMToxicityMTLConfig.from_encoder(old, tasks=["keyword", "classification"])
    assert both.keyword_evidence == old.keyword_evidence
    old.save_pretrained(tmp_path)
    WavLMToxicityMTLConfig.from_pretrained(tmp_path, tasks=[task]).save_pretrained(tmp_path / task)
    loaded = WavLMToxicityMTLConfig.from_pretrained(tmp_path / task)
    assert loaded.tasks == [task] and loaded.keyword_evidence is None
    with pytest.raises(StrictDataclassClassValidationError, match="`keyword_evidence` needs both heads"):
        WavLMToxicityMTLConfig.from_encoder(old, tasks=[task], keyword_evidence={"Profanity": 1.0})


def test_unknown_field():
    with pytest.raises(ValueError, match="Unknown configuration field 'use_info_sharng'.*mean 'use_info_sharing'"):
        WavLMToxicityMTLConfig(use_info_sharng=True)


def test_field_of_a_later_transformers_is_ignored(caplog):
    transformers.utils.logging.enable_propagation()
    config = WavLMToxicityMTLConfig(novelty=True, transformers_version="99.0.0")
    transformers.utils.logging.disable_propagation()
    assert config.hidden_size == 768 and "'novelty'" in caplog.text and "99.0.0" in caplog.text
    with pytest.raises(ValueError, match="'novelty'"):
        WavLMToxicityMTLConfig(novelty=True, transformers_version=transformers.__version__)


def test_notes_of_other_libraries_are_not_saved(tmp_path):
    config = WavLMToxicityMTLConfig()
    config.use_cache, config.noted = False, "by a trainer"
    config.save_pretrained(tmp_path)
    assert config.noted == "by a trainer"
    loaded = WavLMToxicityMTLConfig.from_pretrained(tmp_path)
    assert not hasattr(loaded, "noted")


def test_config_file_names_the_code_beside_it(tmp_path):
    config = WavLMToxicityMTLConfig()
    before = config.to_dict()
    config.save_pretrained(tmp_path)
    assert config.to_dict() == before
    written = json.loads((tmp_path / "config.json").read_text())
    targets = [*written["auto_map"].values(), written["custom_pipelines"]["audio-classification"]["impl"]]
    for target in targets:
        module, name = target.split(".")
        assert f"class {name}(" in (tmp_path / f"{module}.py").read_text()


def test_save_and_load(tmp_path):
    config = tiny_config(
        tasks=["keyword", "classification"],
        use_info_sharing=True,
        info_sharing_combination="concat",
        info_sharing_activation="swiglu",
        classification_loss_weight=0.25,
        ctc_zero_infinity=False,
        id2label={0: "Loud", 1: "Rude"},
        conv_stride=(5, 2, 1),
    )
    config.save_pretrained(tmp_path)
    loaded = WavLMToxicityMTLConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.id2label == {0: "Loud", 1: "Rude"}
    assert loaded.label2id == {"Loud": 0, "Rude": 1}
    assert loaded.num_labels == 2
    assert loaded.tasks == ["keyword", "classification"]
    assert loaded.info_sharing_activation == "swiglu"
    assert loaded.classification_loss_weight == 0.25
    assert loaded.ctc_zero_infinity is False


def test_number_of_labels_alone():
    config = WavLMToxicityMTLConfig(num_labels=3)
    assert config.num_labels == 3
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_from_wavlm_takes_over_the_backbone():
    source = tiny_wavlm_config(hidden_size=24, num_buckets=20, feat_extract_norm="layer", pad_token_id=7)
    config = WavLMToxicityMTLConfig.from_encoder(source, use_task_adapter=True)
    assert config.model_type == "wavlm_toxmtl"
    assert (config.hidden_size, config.num_buckets, config.feat_extract_norm) == (24, 20, "layer")
    assert config.pad_token_id == 7
    assert config.use_task_adapter


def test_configuration_of_an_encoders_checkpoint(tmp_path, caplog):
    """With fields that transformers no longer has, as the published ones; and without a warning about its type."""
    saved = WavLMConfig(hidden_size=96, ctc_zero_infinity=False).to_dict() | {"freeze_feat_extract_train": True}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    transformers.utils.logging.enable_propagation()
    config = WavLMToxicityMTLConfig.from_pretrained(tmp_path, use_info_sharing=True)
    transformers.utils.logging.disable_propagation()
    assert config.hidden_size == 96 and config.ctc_zero_infinity and config.use_info_sharing
    assert list(config.label2id) == list(LABELS)
    assert not caplog.text


def test_other_architectures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="architecture 'data2vec-audio'.* only those of wavlm"):
        WavLMToxicityMTLConfig.from_encoder(Data2VecAudioConfig())
    Data2VecAudioConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="architecture 'data2vec-audio'.* only those of whisper"):
        WhisperToxicityMTLConfig.from_pretrained(tmp_path)


def test_from_wavlm_label_names():
    placeholder = WavLMToxicityMTLConfig.from_encoder(WavLMConfig())
    assert list(placeholder.id2label.values()) == list(LABELS)
    named = WavLMToxicityMTLConfig.from_encoder(WavLMConfig(id2label={0: "calm", 1: "angry", 2: "sad"}))
    assert named.id2label == {0: "calm", 1: "angry", 2: "sad"}
    assert named.label2id == {"calm": 0, "angry": 1, "sad": 2}
    given = WavLMToxicityMTLConfig.from_encoder(WavLMConfig(id2label={0: "calm", 1: "angry"}), id2label={0: "rude"})
    assert given.id2label == {0: "rude"}
    assert given.label2id == {"rude": 0}


def test_from_wavlm_ctc_default():
    assert WavLMToxicityMTLConfig.from_encoder(WavLMConfig(ctc_zero_infinity=False)).ctc_zero_infinity
    own = tiny_config(ctc_zero_infinity=False, classification_loss_weight=0.1, num_labels=2)
    copy = WavLMToxicityMTLConfig.from_encoder(own)
    assert not copy.ctc_zero_infinity  # chosen by the user, not transformers' default
    assert copy.classification_loss_weight == 0.1
    assert copy.num_labels == 2


def test_from_wavlm_resets_feature_masking(caplog):
    with caplog.at_level(logging.WARNING):
        config = WavLMToxicityMTLConfig.from_encoder(WavLMConfig(mask_feature_prob=0.1))
    assert config.mask_feature_prob == 0
    assert "mask_feature_prob" in caplog.text
    caplog.clear()
    WavLMToxicityMTLConfig.from_encoder(WavLMConfig())
    assert not caplog.text


def test_warns_of_adapters_with_sharing(caplog):
    with caplog.at_level(logging.WARNING):
        WavLMToxicityMTLConfig(use_info_sharing=True)
        WavLMToxicityMTLConfig(use_task_adapter=True)
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        config = WavLMToxicityMTLConfig(use_info_sharing=True, use_task_adapter=True)
    assert config.use_info_sharing and config.use_task_adapter
    assert "use_info_sharing" in caplog.text and "use_task_adapter" in caplog.text


def test_receptive_field_by_hand():
    assert WavLMToxicityMTLConfig().receptive_field == 400
    # last convolution: 2 of its inputs; the middle one: (2 - 1) * 2 + 3 = 5; the first: (5 - 1) * 5 + 10 = 30
    assert tiny_config().receptive_field == 30


@pytest.mark.parametrize(
    ("kernel", "stride"), [((10, 3, 2), (5, 2, 2)), ((7, 4, 1), (3, 3, 2)), ((3, 3, 3), (1, 1, 1))]
)
def test_receptive_field_is_the_shortest_clip_with_a_frame(kernel, stride):
    config = tiny_config(conv_kernel=kernel, conv_stride=stride)
    assert config.num_frames(config.receptive_field) == 1
    assert config.num_frames(config.receptive_field - 1) < 1


@pytest.mark.parametrize("config", [WavLMConfig(), tiny_wavlm_config(conv_kernel=(7, 4, 1), conv_stride=(3, 3, 2))])
def test_num_frames_is_transformers_formula(config):
    ours = WavLMToxicityMTLConfig.from_encoder(config)
    with torch.device("meta"):
        theirs = WavLMModel(config)
    lengths = torch.arange(ours.receptive_field, ours.receptive_field + 1000)
    expected = theirs._get_feat_extract_output_lengths(lengths)
    assert torch.equal(ours.num_frames(lengths), expected)
    assert np.array_equal(ours.num_frames(lengths.numpy()), expected.numpy())
    assert [ours.num_frames(int(length)) for length in lengths] == expected.tolist()


def test_num_frames_is_the_convolutions_output():
    config = tiny_wavlm_config()
    encoder = WavLMModel(config).feature_extractor
    for length in (30, 31, 49, 50, 51, 69, 70, 123):
        assert encoder(torch.zeros(1, length)).shape[-1] == tiny_config().num_frames(length)
