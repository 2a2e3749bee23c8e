import re

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import load_file, save_file
from tiny_models import clips_of, fresh_model, inputs_of, pad, tiny_config, tiny_model, training_batch
from transformers import AutoModelForAudioClassification

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig  # noqa: F401 (a message names it)
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL


# --- initialisation and saving


@pytest.fixture
def poisoned_memory():
    """PyTorch fills memory that nobody initialised with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_every_parameter_is_initialized(system, encoder, poisoned_memory):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(fresh_model(**system, **encoder).state_dict())
    first, same, other = states
    for name, value in first.items():
        assert value.isfinite().all(), name
        assert torch.equal(value, same[name]), name
        constant = value.numel() == 1 or value.std() == 0
        fixed = constant or "embed_positions" in name
        assert fixed or not torch.equal(value, other[name]), name


def test_parameters_that_a_checkpoint_lacks_are_initialized(encoder, tmp_path, poisoned_memory):
    plain = tiny_model(**encoder, tasks=["keyword"])
    plain.save_pretrained(tmp_path)
    config = tiny_config(use_task_adapter=True, **encoder)
    model, info = type(plain).from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert info["missing_keys"] and not info["unexpected_keys"]
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
    batch = inputs_of(plain, clips_of(300, 95))
    assert torch.equal(model(**batch).keyword_logits, plain(**batch).keyword_logits)  # adapters start as the identity


def test_save_and_load(system, encoder, tmp_path):
    model = tiny_model(**system, **encoder)
    model.save_pretrained(tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not loaded.training
    assert loaded.config.tasks == model.config.tasks
    batch = training_batch(300, 95, model=model)
    output, expected = loaded(**batch), model(**batch)
    for name in expected:
        assert torch.equal(output[name], expected[name]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_save_and_load_half_precision(encoder, dtype, tmp_path):
    model = tiny_model(use_task_adapter=True, use_info_sharing=True, **encoder).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype="auto")
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert torch.equal(loaded.state_dict()[name], value), name
    full = type(model).from_pretrained(tmp_path, dtype=torch.float32)
    assert {parameter.dtype for parameter in full.parameters()} == {torch.float32}


def test_save_and_load_in_shards(tmp_path):
    model = tiny_model(use_task_adapter=True)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = WavLMForToxicityMTL.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_device_map(system, tmp_path):
    pytest.importorskip("accelerate")
    model = tiny_model(**system)
    model.save_pretrained(tmp_path)
    batch = pad(clips_of(300, 95))
    for device_map in ("cpu", {"": "cpu"}, {name: "cpu" for name, _ in model.named_children()}):
        loaded = WavLMForToxicityMTL.from_pretrained(tmp_path, device_map=device_map)
        for name, expected in model(**batch).items():
            torch.testing.assert_close(loaded(**batch)[name], expected)


def test_new_number_of_labels(tmp_path):
    """The heads' sizes follow the configuration; only the resized head starts anew."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    loaded, info = WavLMForToxicityMTL.from_pretrained(
        tmp_path, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key[0] for key in info["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    output = loaded(**pad(clips_of(300, 95)))
    assert output.logits.shape == (2, 3)
    assert torch.equal(output.keyword_logits, model(**pad(clips_of(300, 95))).keyword_logits)


@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
def test_two_unnamed_labels(loader, tmp_path):
    """transformers leaves them out of config.json, for they are its own default."""
    model = tiny_model(num_labels=2)
    model.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    ("fields", "thresholds"),
    [
        ({"num_labels": 2, "id2label": {0: "Spam", 1: "Racist"}, "label2id": {"Spam": 0, "Racist": 1}}, [0.5, 0.3]),
        ({"id2label": {0: "Spam", 1: "Racist"}}, [0.5, 0.3]),
        ({"label2id": {"Racist": 0, "Spam": 1}}, [0.3, 0.5]),
        ({"num_labels": 3}, [0.5] * 3),
        ({"num_labels": 6}, [0.2, 0.5, 0.3, 0.5, 0.5, 0.5]),  # as many as there are
        ({"id2label": {0: "Spam", 1: "Racist"}, "label_thresholds": {"Spam": 0.1}}, [0.1, 0.5]),
    ],
)
@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
def test_recipe_for_new_labels(loader, fields, thresholds, tmp_path):
    evidence = {"Profanity": 2.0, "Racist": 3.0}
    tiny_model(label_thresholds={"Profanity": 0.2, "Racist": 0.3}, keyword_evidence=evidence).save_pretrained(tmp_path)
    model = loader.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **fields)
    assert list(model.config.thresholds.values()) == thresholds
    kept = {name: value for name, value in evidence.items() if name in model.config.label2id}
    assert model.config.keyword_evidence == (kept or None)
    assert len(model.classifier.weight) == model.config.num_labels == len(thresholds)
    assert model.config.label2id == {name: index for index, name in model.config.id2label.items()}
    with pytest.raises(StrictDataclassClassValidationError, match="`label_thresholds` names 'Advert'"):
        loader.from_pretrained(tmp_path, id2label={0: "Spam"}, label_thresholds={"Advert": 0.1})


@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
@pytest.mark.parametrize(
    ("saved", "fields"),
    [
        ({}, {"use_info_sharing": True}),
        ({"hidden_size": 6}, {"use_info_sharing": True}),  # as wide as what is shared: no size is another
        ({}, {"use_task_adapter": True}),
        ({"tasks": ["keyword"]}, {"tasks": ["classification", "keyword"]}),
        ({"use_info_sharing": True}, {"use_info_sharing": False}),
    ],
)
def test_parts_that_a_model_was_not_trained_with(loader, saved, fields, tmp_path):
    """The message says how to add them, and what it says does."""
    saved = tiny_model(**saved)
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path.name} was not trained with {next(iter(fields))}=") as error:
        loader.from_pretrained(tmp_path, **fields)
    config = eval(re.search("`config=(.*?)` and `ignore_mismatched_sizes=True`", str(error.value))[1])
    model = loader.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert all(getattr(model.config, name) == value for name, value in fields.items())
    assert torch.equal(model.wavlm.encoder.layer_norm.weight, saved.wavlm.encoder.layer_norm.weight)


def test_a_head_less(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    loaded = WavLMForToxicityMTL.from_pretrained(tmp_path, tasks=["keyword"])
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight) and not hasattr(loaded, "classifier")


def test_what_does_not_apply():
    """Of transformers' common tests: a waveform has no token embeddings to resize or to tie, and WavLM never had head
    masks or a key-value cache."""
    model = tiny_model()
    with pytest.raises(NotImplementedError):
        model.get_input_embeddings()
    assert model.get_output_embeddings() is None
    storages = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)  # nothing is tied
    with pytest.raises(TypeError):
        model(**pad(clips_of(100)), head_mask=torch.ones(2, 2))
    assert not model.can_generate()


# --- damaged folders


def damage(content: bytes, how: str) -> bytes:
    return {"cut": content[:-100], "header": b"\xff" * 8 + content[8:], "empty": b""}[how]


@pytest.mark.parametrize("how", ["cut", "header", "empty"])
@pytest.mark.parametrize("loader", [WavLMForToxicityMTL, AutoModelForAudioClassification])
def test_damaged_weights(loader, how, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(file.read_bytes(), how))
    with pytest.raises(ValueError, match=f"{tmp_path.name} are damaged .*copy or download them again"):
        loader.from_pretrained(tmp_path)


def test_weights_that_lack_one(tmp_path):
    """transformers would fill it in with noise, and log a table."""
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    bias = weights.pop("classifier.bias")
    save_file(weights, file, metadata={"format": "pt"})
    for loader in (WavLMForToxicityMTL, AutoModelForAudioClassification):
        with pytest.raises(ValueError, match="lack 1 of the model's, such as 'classifier.bias'"):
            loader.from_pretrained(tmp_path)
    save_file({**weights, "classifier.bias": bias[:-1].clone()}, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        WavLMForToxicityMTL.from_pretrained(tmp_path)


def test_loading_info_on_request(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model, info = WavLMForToxicityMTL.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, WavLMForToxicityMTL) and not info["missing_keys"]
