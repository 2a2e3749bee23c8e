"""The two heads, information sharing and the losses, over an encoder of any family (paper, section 3.3).

Design choices:
- Heads return logits. Sigmoid, thresholds and keyword decoding live in the processor and the pipeline.
- Parameter names follow transformers: `projector` and `classifier` as in `WavLMForSequenceClassification`, `lm_head`
  as in `WavLMForCTC`, so heads of such checkpoints load by name too.
- Both losses are means over examples of a per-example loss, so a batch of 8 equals 8 batches of 1 (if all are labelled
  and transcribed), and λ means the same at any clip length.
"""

from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .hub import HUB_OPTIONS
from .multitask_config import GATED_ACTIVATIONS, SYSTEM_FIELDS, ToxicityMTLFields


IGNORE_INDEX = -100


@dataclass
class ToxicityMTLOutput(ModelOutput):
    """Output of the models; B clips, L labels, T frames, V characters, H heads, D hidden size.

    Args:
        loss: scalar, `λ * classification_loss + (1 - λ) * keyword_loss`, or the one loss of a single-task model.
        classification_loss: scalar, see [`classification_loss`].
        keyword_loss: scalar, see [`keyword_loss`].
        logits: `(B, L)`, one logit per label; `sigmoid` gives the score.
        keyword_logits: `(B, T, V)`, frame-wise character logits; frames after a clip's end are meaningless.
        hidden_states: tuple of `(B, T, D)`, the shared features after the positional embedding and after each block.
        attentions: tuple of `(B, H, T, T)`, attention weights of each block.
    """

    loss: torch.FloatTensor | None = None
    classification_loss: torch.FloatTensor | None = None
    keyword_loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    keyword_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def classification_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, mean over the labels of each example and over the labelled examples.

    Args:
        logits: `(B, L)`.
        labels: `(B, L)`, 0 or 1; a row of -100 is an example without labels and does not count.
    """
    known = (labels >= 0).all(-1)  # (B,)
    targets = labels.clamp(min=0).float()
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(-1)  # (B,)
    return (losses * known).sum() / known.sum().clamp(min=1)


def keyword_loss(
    logits: torch.Tensor, num_frames: torch.Tensor, labels: torch.Tensor, blank: int, zero_infinity: bool = True
) -> torch.Tensor:
    """CTC loss of each example divided by its number of characters, mean over the transcribed examples.

    Args:
        logits: `(B, T, V)`.
        num_frames: `(B,)` valid frames.
        labels: `(B, S)` character ids, padded with -100. A row of -100 is an example without transcript and does not
            count; a row that holds the blank alone is a clip in which nothing is said.
        blank: id of the CTC blank.
        zero_infinity: count a clip that is too short for its target as 0 instead of infinity.
    """
    known = (labels != IGNORE_INDEX).any(-1)  # (B,)
    is_character = (labels != IGNORE_INDEX) & (labels != blank)
    target_lengths = is_character.sum(-1)
    log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (T, B, V); PyTorch's CTC is in float32 only
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's CTC is not deterministic
        losses = F.ctc_loss(
            log_probs,
            labels[is_character],
            num_frames,
            target_lengths,
            blank,
            reduction="none",
            zero_infinity=zero_infinity,
        )
    return (losses / target_lengths.clamp(min=1) * known).sum() / known.sum().clamp(min=1)


def masked_mean(frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean of `(B, T, D)` frames over the valid ones of the `(B, T)` mask, `(B, D)`."""
    if mask is None:
        return frames.mean(1)
    wide = torch.promote_types(frames.dtype, torch.float32)  # long sums leave the range of float16
    total = (frames * mask[:, :, None].to(frames.dtype)).sum(1, dtype=wide)
    return (total / mask.sum(1, keepdim=True)).to(frames.dtype)


def attentive_mean(frames: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean of `(B, T, D)` frames, weighted by the softmax of their `(B, T, 1)` scores over the valid ones of the
    `(B, T)` mask: `(B, D)`."""
    scores = scores.float()
    if mask is not None:
        scores = scores.masked_fill(~mask[:, :, None], -torch.inf)
    return (frames * scores.softmax(1).to(frames.dtype)).sum(1)


class InformationSharing(nn.Module):
    """Projects each task's features, normalises and combines them, and activates: what both final layers read (paper,
    section 3.3.3)."""

    def __init__(self, config: ToxicityMTLFields):
        super().__init__()
        size = config.info_sharing_size
        self.combination = config.info_sharing_combination
        self.activation = config.info_sharing_activation
        self.projectors = nn.ModuleDict({task: nn.Linear(config.hidden_size, size) for task in config.tasks})
        self.layer_norms = nn.ModuleDict(
            {task: nn.LayerNorm(size, eps=config.layer_norm_eps) for task in config.tasks}
        )
        combined_size = size if self.combination == "add" else size * len(config.tasks)
        self.output_size = combined_size // 2 if self.activation in GATED_ACTIVATIONS else combined_size

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features of both tasks, `(B, T, D)` each, to `(B, T, output_size)`."""
        projected = [self.layer_norms[task](projector(features[task])) for task, projector in self.projectors.items()]
        combined = sum(projected) if self.combination == "add" else torch.cat(projected, dim=-1)
        if self.activation == "gelu":
            return F.gelu(combined)
        value, gate = combined.chunk(2, dim=-1)
        return value * (F.gelu(gate) if self.activation == "geglu" else F.silu(gate))


class ToxicityHeads:
    """The heads of a `PreTrainedModel` whose backbone is called `base_model_prefix`: a multi-label toxicity classifier
    and a keyword transcriber, either or both."""

    def _add_heads(self, config: ToxicityMTLFields) -> None:
        self.information_sharing = InformationSharing(config) if config.use_info_sharing else None
        shared_size = self.information_sharing.output_size if self.information_sharing else None
        if "classification" in config.tasks:
            if self.information_sharing is None:
                self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
            size = shared_size or config.classifier_proj_size
            self.pooling = nn.Linear(size, 1) if config.classifier_pooling == "attention" else None
            self.classifier = nn.Linear(size, config.num_labels)
        if "keyword" in config.tasks:
            self.dropout = nn.Dropout(config.final_dropout)
            self.lm_head = nn.Linear(shared_size or config.hidden_size, config.vocab_size)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> PreTrainedModel | tuple[PreTrainedModel, dict]:
        """Loads an encoder's checkpoint, whose missing heads start anew, or a model of this class, which must be
        whole.

        Raises:
            ValueError: if the weight file is damaged, the model's own checkpoint lacks a weight (transformers would
                fill in noise), or the arguments ask for parts that it has not; the message says how to add them.
        """
        cls._refuse_untrained_parts(pretrained_model_name_or_path, **kwargs)
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except SafetensorError as error:
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} are damaged ({error}): copy or download them again."
            ) from error
        # the configuration of an encoder's checkpoint names another class, and `from_encoder` names none
        if cls.__name__ in (model.config.architectures or ()) and info["missing_keys"]:
            missing = sorted(info["missing_keys"])
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} lack {len(missing)} of the model's, such as "
                f"{missing[0]!r}: they do not belong to its config.json."
            )
        return (model, info) if output_loading_info else model

    @classmethod
    def _refuse_untrained_parts(cls, name_or_path, config=None, **kwargs):
        asked = {name: kwargs[name] for name in SYSTEM_FIELDS if name in kwargs}
        if cls.__name__ in (getattr(config, "architectures", None) or ()):  # `from_encoder` names none
            asked = {name: getattr(config, name) for name in SYSTEM_FIELDS}
        if not asked:
            return
        options = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        saved = cls.config_class.from_pretrained(name_or_path, **options)
        if cls.__name__ not in (saved.architectures or ()):  # an encoder, whose heads start anew
            return
        if set(asked.get("tasks", ())) <= set(saved.tasks):  # a head less
            asked.pop("tasks", None)
        if changes := ", ".join(f"{name}={value!r}" for name, value in asked.items() if value != getattr(saved, name)):
            family = cls.config_class.__name__
            raise ValueError(
                f"{name_or_path} was not trained with {changes}. To start the parts that this changes anew, pass "
                f"`config={family}.from_encoder({family}.from_pretrained({str(name_or_path)!r}), {changes})` and "
                "`ignore_mismatched_sizes=True`."
            )

    def freeze_feature_encoder(self) -> None:
        """Keeps the convolutions as they are during training."""
        self.base_model.freeze_feature_encoder()

    def freeze_layers(self, count: int) -> None:
        """Keeps the lowest blocks, and what is below them, as they are during training.

        Raises:
            ValueError: if there are fewer.
        """
        encoder = self.base_model.encoder
        if not 0 <= count <= len(encoder.layers):
            raise ValueError(f"{count} blocks are to be kept as they are, but the encoder has {len(encoder.layers)}.")
        trained = [*encoder.layers[count:], encoder.task_adapters]
        if getattr(self.config, "do_stable_layer_norm", True):  # else the norm comes before the blocks
            trained.append(encoder.layer_norm)
        above = {id(parameter) for module in trained for parameter in module.parameters()}
        for parameter in self.base_model.parameters():
            if id(parameter) not in above:
                parameter.requires_grad = False

    def freeze_base_model(self) -> None:
        """Trains the heads and the task adapters only."""
        for name, parameter in self.base_model.named_parameters():
            if "task_adapters" not in name:
                parameter.requires_grad = False

    def _judge(
        self,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | None,
        labels: torch.Tensor | None,
        keyword_labels: torch.Tensor | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        return_dict: bool | None,
    ) -> ToxicityMTLOutput | tuple:
        """Encodes, classifies and transcribes; arguments and errors are those of a model's `forward`, in its order."""
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        encoded = self.base_model(
            inputs,
            attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states or self.config.classifier_layer is not None,
            return_dict=True,
        )
        features, frame_mask = dict(encoded.task_features), encoded.frame_mask
        if self.config.classifier_layer is not None and "classification" in features:
            frames = encoded.hidden_states[self.config.classifier_layer]  # where Whisper has no norm
            features["classification"] = F.layer_norm(frames, frames.shape[-1:])
        if self.information_sharing is not None:
            features = dict.fromkeys(self.config.tasks, self.information_sharing(features))

        logits = keyword_logits = label_loss = character_loss = None
        if "classification" in self.config.tasks:
            logits = self._classify(features["classification"], frame_mask)
            if labels is not None:
                label_loss = self._classification_loss(logits, labels)
        if "keyword" in self.config.tasks:
            keyword_logits = self.lm_head(self.dropout(features["keyword"]))  # (B, T, V)
            if keyword_labels is not None:
                character_loss = self._keyword_loss(keyword_logits, frame_mask, keyword_labels)

        output = ToxicityMTLOutput(
            loss=self._combine(label_loss, character_loss),
            classification_loss=label_loss,
            keyword_loss=character_loss,
            logits=logits,
            keyword_logits=keyword_logits,
            hidden_states=encoded.hidden_states if output_hidden_states else None,
            attentions=encoded.attentions,
        )
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _classify(self, frames, frame_mask):
        if self.information_sharing is None:
            frames = self.projector(frames)  # (B, T, D)
        if self.pooling is None:
            return self.classifier(masked_mean(frames, frame_mask))  # (B, L)
        return self.classifier(attentive_mean(frames, self.pooling(frames), frame_mask))

    def _classification_loss(self, logits, labels):
        if labels.shape != logits.shape:
            raise ValueError(
                f"`labels` must be multi-hot of shape {tuple(logits.shape)}, but has shape {tuple(labels.shape)}."
            )
        return classification_loss(logits, labels)

    def _keyword_loss(self, logits, frame_mask, labels):
        batch, length, vocabulary = logits.shape
        if labels.ndim != 2 or len(labels) != batch:
            raise ValueError(f"`keyword_labels` must be of shape ({batch}, S), but has shape {tuple(labels.shape)}.")
        unknown = labels[((labels < 0) | (labels >= vocabulary)) & (labels != IGNORE_INDEX)]
        if unknown.numel():
            raise ValueError(
                f"`keyword_labels` holds id {int(unknown[0])}, but the keyword head has {vocabulary} characters and "
                f"padding is {IGNORE_INDEX}."
            )
        num_frames = torch.full((batch,), length, device=logits.device) if frame_mask is None else frame_mask.sum(-1)
        return keyword_loss(logits, num_frames, labels, self.config.pad_token_id, self.config.ctc_zero_infinity)

    def _combine(self, label_loss, character_loss):
        if label_loss is None or character_loss is None:
            return character_loss if label_loss is None else label_loss
        weight = self.config.classification_loss_weight
        return weight * label_loss + (1 - weight) * character_loss
