"""A student that learns what a teacher makes of each clip, beside its own targets: `run_mtl.py --teacher MODEL`.

    python -m experiments.keep_blocks --model runs/mine --blocks 0 2 --output_dir runs/student
    python run_mtl.py experiments/voices_mtl.json --model_name_or_path runs/student --teacher runs/mine

Design choices:
- What is learnt is the teacher's score of each label, and its distribution over the characters of each frame (Hinton
  et al., "Distilling the Knowledge in a Neural Network", 2015), as Kullback-Leibler divergences: a student that says
  what its teacher says has a loss of 0. λ weighs them as it weighs the tasks.
- Teacher and student hear the same features, and divide time into the same frames. So they are of one family, and
  differ in the number of blocks and in width alone.
"""

import json
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoModelForAudioClassification, PreTrainedModel

from ..frames import MEL_HOP
from ..heads import ToxicityMTLOutput
from ..outputs import length_mask
from ..processing_toxmtl import ToxicityMTLProcessor
from .trainer import ToxicityTrainer


# Fields of a configuration that say what is heard, in which frames, and what is asked
SHARED_FIELDS = ("model_type", "num_mel_bins", "conv_kernel", "conv_stride", "feat_extract_norm", "id2label", "tasks")


def load_teacher(name_or_path: str, student: PreTrainedModel, processor: ToxicityMTLProcessor) -> PreTrainedModel:
    """A teacher in evaluation mode, in float32, whose weights need no gradient.

    Args:
        name_or_path: folder or Hub id of a model of this package.
        student: that learns from it.
        processor: the student's.

    Raises:
        ValueError: if the student's features, frames, tasks, labels or characters are others; the message names them.
    """
    teacher = AutoModelForAudioClassification.from_pretrained(name_or_path, dtype=torch.float32)
    theirs, ours = (_shared_fields(model.config) for model in (teacher, student))
    fields = [name for name in SHARED_FIELDS if theirs[name] != ours[name]]
    if ToxicityMTLProcessor.from_pretrained(name_or_path).alphabet != processor.alphabet:
        fields.append("characters")
    if fields:
        raise ValueError(f"--teacher: {name_or_path} differs from the student in {', '.join(fields)}.")
    return teacher.eval().requires_grad_(False)


def _shared_fields(config):
    """By name; of a model that was not loaded, pairs are tuples where a file has lists."""
    return json.loads(json.dumps({name: getattr(config, name, None) for name in SHARED_FIELDS}))


def distillation_loss(
    student: ToxicityMTLOutput, teacher: ToxicityMTLOutput, num_frames: torch.Tensor, weight: float
) -> torch.Tensor:
    """How far a student is from its teacher, in nats: a scalar, 0 where they agree.

    Args:
        student, teacher: what they made of the same batch of B clips, with the same heads.
        num_frames: `(B,)` valid frames.
        weight: λ, of the labels' part; all of a model of one task is that task's.
    """
    parts = []
    if student.logits is not None:
        both = [
            torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)]) for logits in (student.logits, teacher.logits)
        ]
        parts.append((weight, _divergence(*both, axis=0).mean()))
    if student.keyword_logits is not None:
        both = [F.log_softmax(output.keyword_logits.float(), dim=-1) for output in (student, teacher)]
        mask = length_mask(num_frames, student.keyword_logits.shape[1])
        parts.append((1 - weight, _divergence(*both, axis=-1)[mask].mean()))
    return sum(share * part for share, part in parts) if len(parts) > 1 else parts[0][1]


def _divergence(student, teacher, axis):
    """Kullback-Leibler divergence of log probabilities along an axis."""
    return (teacher.exp() * (teacher - student)).sum(axis)


class DistillingTrainer(ToxicityTrainer):
    """A trainer whose training loss has the distance to a teacher added.

    Args:
        teacher: see [`load_teacher`]; the others are those of the base class.
    """

    def __init__(self, *args: Any, teacher: PreTrainedModel, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = teacher.to(self.args.device)

    def added_losses(self, inputs: dict[str, Any], outputs: ToxicityMTLOutput) -> dict[str, torch.Tensor]:
        """As of the base class: how far the student is from the teacher."""
        heard = {name: values for name, values in inputs.items() if not name.endswith("labels")}
        with torch.no_grad():
            expected = self.teacher(**heard)
        samples = inputs["attention_mask"].sum(-1) * (MEL_HOP if "input_features" in inputs else 1)
        num_frames = self.teacher.config.num_frames(samples)
        weight = self.model.config.classification_loss_weight
        return {"distillation_loss": distillation_loss(outputs, expected, num_frames, weight)}
