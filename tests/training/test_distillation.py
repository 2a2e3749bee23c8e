"""A student learns what its teacher says, and the teacher learns nothing."""

import json
import math

import pytest
import torch
from helpers import SPEECH_FRAMES, save_tiny_model, tiny_processor, tiny_speech_model
from run_mtl_helpers import run
from tiny_models import tiny_model
from transformers import AutoModelForAudioClassification

from experiments.keep_blocks import KeepArguments, main
from modeling_toxmtl.heads import ToxicityMTLOutput
from modeling_toxmtl.training.distillation import distillation_loss, load_teacher


FRAMES = torch.tensor([2, 1])


def output(logits, keyword_logits) -> ToxicityMTLOutput:
    return ToxicityMTLOutput(logits=logits, keyword_logits=keyword_logits)


def random_output(seed: int) -> ToxicityMTLOutput:
    generator = torch.Generator().manual_seed(seed)
    return output(torch.randn(2, 3, generator=generator), torch.randn(2, 2, 4, generator=generator))


def test_a_student_that_agrees_has_no_loss_and_another_has():
    teacher = random_output(0)
    assert distillation_loss(teacher, teacher, FRAMES, 0.7) == 0
    assert distillation_loss(random_output(1), teacher, FRAMES, 0.7) > 0


def test_the_loss_is_the_divergence_computed_by_hand():
    """A teacher of scores of 1/2 and characters 3/4 to 1/4; a student of 1/4, and of 1/2 to 1/2."""
    teacher = output(torch.tensor([[0.0]]), torch.tensor([[[math.log(3), 0.0]]]))
    student = output(torch.tensor([[-math.log(3)]]), torch.tensor([[[0.0, 0.0]]]))
    labels = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    characters = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    loss = distillation_loss(student, teacher, torch.tensor([1]), 0.7)
    assert loss.item() == pytest.approx(0.7 * labels + 0.3 * characters, rel=1e-6)
    for task, expected in (("logits", labels), ("keyword_logits", characters)):  # of a model of one task
        alone = (ToxicityMTLOutput(**{task: each[task]}) for each in (student, teacher))
        assert distillation_loss(*alone, torch.tensor([1]), 0.7).item() == pytest.approx(expected, rel=1e-6)


def test_frames_behind_a_clips_end_do_not_count():
    student, teacher = random_output(1), random_output(0)
    loss = distillation_loss(student, teacher, FRAMES, 0.7)
    student.keyword_logits[1, 1] += torch.tensor([9.0, 0.0, 0.0, 0.0])
    assert distillation_loss(student, teacher, FRAMES, 0.7) == loss
    student.keyword_logits[1, 0] += torch.tensor([9.0, 0.0, 0.0, 0.0])
    assert distillation_loss(student, teacher, FRAMES, 0.7) > loss


def test_a_teacher_is_in_evaluation_mode_and_needs_no_gradient(family, tmp_path):
    folder, student = save_tiny_model(tmp_path, family=family), tiny_speech_model(seed=1, family=family)
    teacher = load_teacher(str(folder), student, tiny_processor(family=family))
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("id2label", {"id2label": {0: "Profanity", 1: "Other"}}),
        ("tasks", {"tasks": ["keyword"]}),
        ("conv_kernel, conv_stride", {"conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "conv_dim": (8, 8, 8)}),
        ("model_type", {"family": "whisper"}),
    ],
)
def test_another_model_is_refused_by_what_differs(name, fields, tmp_path):
    folder = save_tiny_model(tmp_path)
    student = tiny_model(**({} if "family" in fields else SPEECH_FRAMES) | fields)
    with pytest.raises(ValueError, match=f"--teacher: .* differs from the student in .*{name}"):
        load_teacher(str(folder), student, tiny_processor())


def test_other_characters_are_refused(tmp_path):
    processor = tiny_processor()
    processor.tokenizer.add_tokens(["ü"])
    with pytest.raises(ValueError, match="differs from the student in characters"):
        load_teacher(str(save_tiny_model(tmp_path)), tiny_speech_model(), processor)


def test_a_run_with_a_teacher(workbench, trained, tmp_path):
    """From half of the teacher's blocks; the teacher stays as it is."""
    teacher, start, output_dir = str(trained[0]), tmp_path / "start", tmp_path / "student"
    before = AutoModelForAudioClassification.from_pretrained(teacher).state_dict()
    main(KeepArguments(teacher, [0], str(start)))
    options = {"model_name_or_path": start, "teacher": teacher, "logging_steps": 1, "num_train_epochs": 3}
    results = run(workbench, output_dir, "--do_train", **options)
    assert results["model"]["teacher"] == teacher
    assert results["parameters"] < trained[1]["parameters"]
    (state,) = (json.loads(path.read_text()) for path in output_dir.glob("checkpoint-6/trainer_state.json"))
    distances = [entry["distillation_loss"] for entry in state["log_history"] if "distillation_loss" in entry]
    assert len(distances) == 6 and sum(distances[3:]) < sum(distances[:3])
    after = AutoModelForAudioClassification.from_pretrained(teacher).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
