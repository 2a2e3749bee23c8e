"""transformers' own tests of a model, run on ours.

Its wheel lacks them, and its source distribution has them:

    pip download --no-binary transformers --no-deps transformers==VERSION && tar xzf transformers-*.tar.gz
    TRANSFORMERS_SOURCE=transformers-VERSION pytest tests/test_peer_suite.py

They need `parameterized` too. What our models refuse by design is named below, test by test.
"""

import importlib
import importlib.machinery
import os
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

import pytest
import torch
import transformers
from tiny_models import SYSTEMS, clips_of, fresh_model, inputs_of, tiny_config
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL, WhisperForToxicityMTL
from modeling_toxmtl.wavlm import WavLMBackbone
from modeling_toxmtl.whisper import WhisperBackbone


SOURCE = os.environ.get("TRANSFORMERS_SOURCE")
if not SOURCE:
    pytest.skip("TRANSFORMERS_SOURCE names no source distribution of transformers", allow_module_level=True)
pytest.importorskip("parameterized")
pytestmark = pytest.mark.slow

NAME = "tests_of_transformers"
# What their tests import that no distribution has, and that our models do not use: generation and exporters
ABSENT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils.test_configuration_utils": {"config_common_kwargs": {}},
}
LEFT = "clips are padded on the right alone, and another mask is an error"
RECORDED = "blocks are not recorded one by one, and attention weights need eager attention by name"
# By the name of their test, and why our models cannot pass it
REFUSED = {
    "test_model_get_set_embeddings": "the input is sound: there are no token embeddings",
    "test_model_weights_reload_no_missing_tied_weights": "a model's own checkpoint that lacks weights is an error",
    "test_can_capture_specific_layers_hidden_states": RECORDED,
    "test_capture_outputs_decorator": RECORDED,
    "test_eager_matches_sdpa_inference_00_fp16_pad_left_sdpa_kernels": LEFT,
    "test_eager_matches_sdpa_inference_01_fp16_pad_left": LEFT,
    "test_eager_matches_sdpa_inference_08_fp32_pad_left_sdpa_kernels": LEFT,
    "test_eager_matches_sdpa_inference_09_fp32_pad_left": LEFT,
    "test_eager_matches_sdpa_inference_16_bf16_pad_left_sdpa_kernels": LEFT,
    "test_eager_matches_sdpa_inference_17_bf16_pad_left": LEFT,
    "test_eager_matches_sdpa_inference_24_fp32_pad_left_output_attentions": LEFT,
}
# Without it, the parameter that stands for what SpecAugment masks would have no gradient
AUGMENTED = {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2, "mask_time_min_masks": 2}
CLASSES = {
    "wavlm": (WavLMBackbone, WavLMForToxicityMTL),
    "whisper": (WhisperBackbone, WhisperForToxicityMTL),
}


def theirs(module: str) -> types.ModuleType:
    """A module of their tests' folder."""
    if NAME not in sys.modules:
        assert Path(SOURCE).name.endswith(transformers.__version__), f"{SOURCE} is not of {transformers.__version__}"
        package = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(NAME, None, is_package=True))
        package.__path__ = [str(Path(SOURCE, "tests"))]
        sys.modules[NAME] = package
        for name, content in ABSENT.items():
            for part in (name.partition(".")[0], name):
                sys.modules.setdefault(f"{NAME}.{part}", types.ModuleType(f"{NAME}.{part}"))
            vars(sys.modules[f"{NAME}.{name}"]).update(content)
    # it would look for a checkout of transformers around the tests
    with mock.patch("transformers.utils.direct_transformers_import", return_value=transformers):
        return importlib.import_module(f"{NAME}.{module}")


class ModelTester:
    """Makes the inputs, and says what their tests ask of it."""

    batch_size = 3
    hidden_size = 16
    num_hidden_layers = 2
    num_attention_heads = 2
    is_training = True

    def __init__(self, family: str, fields: dict):
        self.family, self.fields = family, fields
        model = fresh_model(family=family, **fields)
        self.inputs = inputs_of(model, clips_of(*[640] * self.batch_size))
        with torch.no_grad():
            self.seq_length = self.encoder_seq_length = model.base_model(**self.inputs).frame_mask.shape[1]

    def get_config(self):
        return tiny_config(self.family, **self.fields, **(AUGMENTED if self.family == "wavlm" else {}))

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), dict(self.inputs)


class Common:
    """What their test classes are given."""

    test_resize_embeddings = False  # there are none

    def setUp(self):
        self.model_tester = ModelTester(self.family, self.fields)
        model_type = self.model_tester.get_config().model_type
        names = {model_type: self.all_model_classes[0].__name__}  # a class without heads has no loss to train with
        patch = mock.patch.dict(MODEL_MAPPING_NAMES, names)
        patch.start()
        self.addCleanup(patch.stop)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and "Backbone" not in model_class.__name__:
            inputs["labels"] = torch.zeros(self.model_tester.batch_size, self.model_tester.get_config().num_labels)
            inputs["keyword_labels"] = torch.ones(self.model_tester.batch_size, 2, dtype=torch.long)
        return inputs

    def test_model_outputs_equivalence(self):
        self.all_model_classes = self.all_model_classes[1:]  # the test subtracts the backbone's mask of truth values
        # it asks for attention weights, which Whisper refuses to compute in another way
        self.model_tester.fields = {**self.fields, "attn_implementation": "eager"}
        super().test_model_outputs_equivalence()

    def test_config(self):
        config_class = type(self.model_tester.get_config())
        theirs("test_configuration_common").ConfigTester(
            self, config_class=config_class, has_text_modality=True, **self.fields
        ).run_common_tests()


def refusal(reason: str):
    def test(self):
        self.skipTest(f"refused by design: {reason}")

    return test


def suite_of(family: str, system: str) -> type:
    """Their tests, for one of the systems on one of the encoders."""
    mixin = theirs("test_modeling_common").ModelTesterMixin
    unknown = [name for name in REFUSED if not hasattr(mixin, name)]
    assert not unknown, f"{unknown} are no tests of transformers {transformers.__version__}"
    attributes = {
        "family": family,
        "fields": SYSTEMS[system],
        "all_model_classes": CLASSES[family],
        "__module__": __name__,
        **{name: refusal(reason) for name, reason in REFUSED.items()},
    }
    return type(f"Test_{family}_{system}", (Common, mixin, unittest.TestCase), attributes)


for _family in CLASSES:
    for _system in SYSTEMS:
        globals()[f"Test_{_family}_{_system}"] = suite_of(_family, _system)
