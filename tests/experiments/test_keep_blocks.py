import pytest
import torch
from helpers import tiny_processor, tiny_speech_model
from transformers import AutoModelForAudioClassification

from experiments.keep_blocks import KeepArguments, main


def save(folder, family, **fields):
    model = tiny_speech_model(family=family, **fields)
    model.save_pretrained(folder), tiny_processor(family=family).save_pretrained(folder)
    return model


def test_blocks_are_the_models_own(family, tmp_path):
    count = "encoder_layers" if family == "whisper" else "num_hidden_layers"
    whole = save(tmp_path / "whole", family, **{count: 3})
    main(KeepArguments(str(tmp_path / "whole"), [0, 2], str(tmp_path / "part")))
    part = AutoModelForAudioClassification.from_pretrained(tmp_path / "part")
    assert part.config.num_hidden_layers == len(part.base_model.encoder.layers) == 2
    for kept, number in zip(part.base_model.encoder.layers, (0, 2), strict=True):
        expected = whole.base_model.encoder.layers[number].state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in kept.state_dict().items())
    assert torch.equal(part.classifier.weight, whole.classifier.weight)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [([0, 2], "name some of 0 to 1"), ([1, 0], "in order, each once"), ([1], "keep block 0"), ([], "keep block 0")],
)
def test_other_blocks_are_refused(blocks, message, tmp_path):
    save(tmp_path / "whole", "wavlm")
    with pytest.raises(ValueError, match=message):
        main(KeepArguments(str(tmp_path / "whole"), blocks, str(tmp_path / "part")))


def test_a_model_with_parts_between_its_blocks_is_refused(tmp_path):
    save(tmp_path / "whole", "wavlm", use_task_adapter=True)
    with pytest.raises(ValueError, match="has task adapters"):
        main(KeepArguments(str(tmp_path / "whole"), [0], str(tmp_path / "part")))
