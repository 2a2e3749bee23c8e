"""What the configurations of all encoder families share: the flags that choose one of the paper's five systems.

| system (paper, Table 2) | flags |
|---|---|
| Toxicity Classifier | `tasks=["classification"]` |
| Audio to Keyword | `tasks=["keyword"]` |
| MTL | the defaults |
| MTL + Info. Sharing | `use_info_sharing=True` |
| MTL + Task Adapter | `use_task_adapter=True` |
"""

import copy
import difflib
import re
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any, ClassVar

import transformers
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging

from .hub import write_code
from .labels import LABELS, Thresholds


logger = logging.get_logger(__name__)

TASKS = ("classification", "keyword")
SYSTEM_FIELDS = ("tasks", "use_info_sharing", "use_task_adapter")  # which choose the parts that a model has
POOLINGS = ("mean", "attention")
COMBINATIONS = ("add", "concat")
GATED_ACTIVATIONS = ("geglu", "swiglu")
ACTIVATIONS = ("gelu", *GATED_ACTIVATIONS)
# What transformers keeps in config.json besides the fields, or passes on to the base class
EXTRA_FIELDS = {
    "auto_map",
    "custom_pipelines",
    "torch_dtype",
    "attn_implementation",
    "experts_implementation",
    "output_attentions",
    "per_layer_config",
    "quantization_config",
    "use_cache",  # of `Trainer`
    "num_feat_extract_layers",  # derived, but written
}


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _is_single(tasks):
    """Whether an argument asks for one task alone."""
    return tasks is not None and set(tasks) != set(TASKS)


def _given_labels(saved, id2label=None, label2id=None, num_labels=None):
    """The names that arguments of `from_pretrained` give to the labels; as many as are saved keep their names."""
    if id2label is None and label2id is not None:
        return {index: label for label, index in label2id.items()}
    if id2label is None and num_labels != len(saved):
        return {index: f"LABEL_{index}" for index in range(num_labels)}
    return saved if id2label is None else id2label


@dataclass(kw_only=True, repr=False)
class ToxicityMTLFields(Thresholds):
    """What the configurations of all encoder families share.

    Args:
        tasks (`list[str]`, defaults to `["classification", "keyword"]`):
            Heads of the model: `"classification"` (which kinds of toxicity, multi-label) and `"keyword"` (CTC over the
            keyword transcript).
        use_task_adapter (`bool`, defaults to `False`):
            One soft-attention mask per task after the positional embedding and after every encoder block (paper,
            section 3.3.2).
        task_adapter_kernel_size (`int`, defaults to 3):
            Frames that the adapter's convolution sees; odd.
        task_adapter_bottleneck_size (`int`, defaults to 128):
            Width of the adapter's bottleneck.
        task_adapter_size (`int`, *optional*):
            Width of the adapter's convolution and attention; by default that of the encoder.
        task_adapter_stride (`int`, defaults to 1):
            Blocks from one adapter to the next, counted downwards from the last block; the paper has one after each.
        use_info_sharing (`bool`, defaults to `False`):
            Both heads read the normalised and combined outputs of both tasks' projectors (paper, section 3.3.3). Needs
            both tasks.
        info_sharing_size (`int`, defaults to 512):
            Width of each task's projector when information is shared; even.
        info_sharing_combination (`str`, defaults to `"add"`):
            `"add"` or `"concat"` of the two projections.
        info_sharing_activation (`str`, defaults to `"geglu"`):
            `"gelu"`, `"geglu"` or `"swiglu"`; the gated ones halve the width.
        classifier_pooling (`str`, defaults to `"mean"`):
            `"mean"` of the frames (paper), or `"attention"`: a mean that is weighted by a learnt score of each frame.
        classifier_layer (`int`, *optional*):
            Number of the block whose output the classifier reads, from 1 on, so that its loss does not reach the
            blocks above; by default the last one, as in the paper.
        classification_loss_weight (`float`, defaults to 0.7):
            λ in `loss = λ * classification_loss + (1 - λ) * keyword_loss` (paper, equation 1), between 0 and 1.
        label_thresholds (`dict[str, float]`, *optional*):
            Score in [0, 1] from which on a label counts, 0.5 for labels that it does not name.
        keyword_evidence (`dict[str, float]`, *optional*):
            Logit that a keyword adds to each of its labels where it is heard with a score of 1, and, below 0, to
            `NoViolation`; see [`add_evidence`]. None leaves the scores to the classifier alone, as in the paper.
        id2label (`dict[int, str]`, defaults to the six labels of the paper):
            Names of the classifier's outputs.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "classification_loss",
        "keyword_loss",
        "hidden_states",
        "attentions",
    ]
    # of checkpoints whose encoder the family takes over, by their `model_type`
    checkpoint_types: ClassVar[tuple[str, ...]] = ()

    tasks: list[str] | tuple[str, ...] = TASKS
    use_task_adapter: bool = False
    task_adapter_kernel_size: int = 3
    task_adapter_bottleneck_size: int = 128
    task_adapter_size: int | None = None
    task_adapter_stride: int = 1
    use_info_sharing: bool = False
    info_sharing_size: int = 512
    info_sharing_combination: str = "add"
    info_sharing_activation: str = "geglu"
    classifier_pooling: str = "mean"
    classifier_layer: int | None = None
    classification_loss_weight: float | int = 0.7
    ctc_zero_infinity: bool = True
    label_thresholds: dict[str, float | int] | None = None
    keyword_evidence: dict[str, float | int] | None = None

    def __post_init__(self, **kwargs):
        self.tasks = list(self.tasks)
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(LABELS))
        if self.id2label is not None:
            self.id2label = {int(index): self.id2label[index] for index in sorted(self.id2label, key=int)}
            self.label2id = {label: index for index, label in self.id2label.items()}
        self.problem_type = self.problem_type or "multi_label_classification"
        if not __name__.startswith("transformers_modules."):  # the installed package registers its classes itself
            for name in (
                "auto_map",
                "custom_pipelines",
            ):
                kwargs.pop(name, None)
        self._refuse_unknown(kwargs)
        super().__post_init__(**kwargs)

    @classmethod
    def _is_known(cls, name: str) -> bool:
        return name.startswith("_") or hasattr(cls, name) or name in cls.attribute_map or name in EXTRA_FIELDS

    def _refuse_unknown(self, given):
        unknown = sorted(name for name in given if not self._is_known(name))
        if not unknown:
            return
        message = f"Unknown configuration field {', '.join(map(repr, unknown))}"
        if close := difflib.get_close_matches(unknown[0], [field.name for field in fields(self)], n=1):
            message += f" (did you mean {close[0]!r}?)"
        written_by, installed = self.transformers_version, transformers.__version__
        if written_by is not None and _release(written_by) > _release(installed):
            logger.warning(f"{message}: written by transformers {written_by}, and ignored by {installed}.")
        else:
            raise ValueError(f"{message}: correct config.json, or the argument.")

    def save_pretrained(self, save_directory: str | PathLike, **kwargs: Any) -> None:
        """Writes `config.json` and, beside it, the code that loads the model where this package is not installed."""
        described = copy.copy(self)
        for name in [name for name in vars(described) if not self._is_known(name)]:
            delattr(described, name)  # what other libraries noted on the instance would be refused on loading
        vars(described).update(write_code(save_directory, self.model_type))
        super(ToxicityMTLFields, described).save_pretrained(save_directory, **kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As [`PreTrainedConfig.get_config_dict`]; the configuration of another checkpoint goes through
        `from_encoder`."""
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            cls._refuse_architecture(model_type)
            config_dict = cls.from_encoder(AutoConfig.for_model(**config_dict)).to_dict()
        return config_dict, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "ToxicityMTLFields":
        """As [`PreTrainedConfig.from_dict`]; with other labels, what is said of those that are gone goes too, and with
        one task, keyword evidence."""
        given = {name: kwargs.pop(name) for name in ("id2label", "label2id", "num_labels") if name in kwargs}
        if given:
            saved = config_dict.get("id2label") or dict(enumerate(LABELS))
            config_dict = {name: value for name, value in config_dict.items() if name != "label2id"} | given
            config_dict["id2label"] = labels = _given_labels(saved, **given)
            for field in ("label_thresholds", "keyword_evidence"):
                values = (config_dict.get(field) or {}).items()
                kept = {name: value for name, value in values if name in labels.values()}
                config_dict[field] = kwargs.pop(field, kept or None)
        if _is_single(kwargs.get("tasks")):
            config_dict = config_dict | {"keyword_evidence": None}
        return super().from_dict(config_dict, **kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """As [`PreTrainedConfig.to_diff_dict`], which leaves two unnamed labels out, its own default."""
        return super().to_diff_dict() | {"id2label": self.id2label, "label2id": self.label2id}

    @classmethod
    def _refuse_architecture(cls, model_type):
        if model_type not in (cls.model_type, *cls.checkpoint_types):
            raise ValueError(
                f"The checkpoint is of the architecture {model_type!r}, whose weights do not fit {cls.__name__}: only "
                f"those of {', '.join(cls.checkpoint_types)} do."
            )

    @classmethod
    def from_encoder(cls, config: PreTrainedConfig, **overrides: Any) -> "ToxicityMTLFields":
        """Takes over the fields of a checkpoint's configuration; label names too, if the checkpoint is a classifier
        that names them.

        Args:
            config: of a checkpoint of the family, with or without heads, or of a model of this package.
            overrides: fields to set, such as `use_info_sharing=True`. With other labels, thresholds go: they were
                chosen for the scores of the old ones. With one task, keyword evidence goes, for it needs both.

        Raises:
            ValueError: if the checkpoint is of another architecture.
        """
        cls._refuse_architecture(config.model_type)
        taken = config.to_dict() if config.model_type == cls.model_type else cls._encoder_fields(config)
        for name in ("model_type", "architectures", "transformers_version", "auto_map", "custom_pipelines"):
            taken.pop(name, None)
        taken = {name: value for name, value in taken.items() if cls._is_known(name)}
        labels = overrides.get("id2label")
        if labels is not None and list(labels.values()) != list(config.id2label.values()):
            taken.pop("label_thresholds", None)
            taken.pop("keyword_evidence", None)
            taken.pop("label2id", None)
        if _is_single(overrides.get("tasks")):
            taken.pop("keyword_evidence", None)
        return cls(**taken | overrides)

    @classmethod
    def _encoder_fields(cls, config):
        """Fields of a checkpoint that was not made by this package."""
        taken = config.to_dict()
        taken.pop("ctc_zero_infinity", None)  # transformers' default lets one short clip turn the loss into infinity
        taken.pop("problem_type", None)
        if set((taken.get("id2label") or {}).values()) == {"LABEL_0", "LABEL_1"}:  # transformers' placeholder
            taken.pop("id2label")
            taken.pop("label2id", None)
        return taken

    def validate_labels(self) -> None:
        """Raises ValueError if the labels are not numbered from 0 on, or one is named twice."""
        if sorted(self.id2label) != list(range(len(self.id2label))):
            raise ValueError(f"`id2label` must number the labels from 0 on, but its keys are {list(self.id2label)}.")
        if len(set(self.id2label.values())) != len(self.id2label):
            raise ValueError(f"`id2label` names a label twice: {list(self.id2label.values())}.")

    def validate_evidence(self) -> None:
        """Raises ValueError for evidence that nothing hears, or for unknown labels."""
        if self.keyword_evidence and set(self.tasks) != set(TASKS):
            raise ValueError(f"`keyword_evidence` needs both heads, but `tasks` is {self.tasks}.")
        if unknown := sorted((self.keyword_evidence or {}).keys() - self.label2id.keys()):
            raise ValueError(f"`keyword_evidence` names {unknown[0]!r}, but the labels are {list(self.label2id)}.")

    def validate_tasks(self) -> None:
        """Raises ValueError for tasks that there are not, or none."""
        if not self.tasks or len(set(self.tasks)) != len(self.tasks) or not set(self.tasks) <= set(TASKS):
            raise ValueError(f"`tasks` must be one or both of {TASKS}, each once, but is {self.tasks}.")

    def validate_info_sharing(self) -> None:
        """Raises ValueError for settings of information sharing that do not fit each other."""
        if self.info_sharing_combination not in COMBINATIONS:
            raise ValueError(
                f"`info_sharing_combination` must be one of {COMBINATIONS}, but is {self.info_sharing_combination!r}."
            )
        if self.info_sharing_activation not in ACTIVATIONS:
            raise ValueError(
                f"`info_sharing_activation` must be one of {ACTIVATIONS}, but is {self.info_sharing_activation!r}."
            )
        if self.info_sharing_size < 2 or self.info_sharing_size % 2:
            raise ValueError(f"`info_sharing_size` must be even and positive, but is {self.info_sharing_size}.")
        if self.use_info_sharing and set(self.tasks) != set(TASKS):
            raise ValueError(
                f"`use_info_sharing` shares between two tasks, but `tasks` is {self.tasks}: set both or drop the flag."
            )
        if self.use_info_sharing and self.use_task_adapter:
            logger.warning(
                "`use_info_sharing` and `use_task_adapter` together made quality collapse in the paper (section 4.1): "
                "compare with each alone."
            )

    def validate_task_adapter(self) -> None:
        """Raises ValueError for sizes that an adapter cannot have."""
        if self.task_adapter_kernel_size < 1 or self.task_adapter_kernel_size % 2 == 0:
            raise ValueError(
                f"`task_adapter_kernel_size` must be odd and positive, but is {self.task_adapter_kernel_size}."
            )
        if self.task_adapter_bottleneck_size < 1:
            raise ValueError(
                f"`task_adapter_bottleneck_size` must be positive, but is {self.task_adapter_bottleneck_size}."
            )
        if self.task_adapter_stride < 1:
            raise ValueError(f"`task_adapter_stride` must be positive, but is {self.task_adapter_stride}.")
        size = self.task_adapter_size
        if size is not None and (size < 1 or size % self.num_attention_heads):
            raise ValueError(
                f"`task_adapter_size` must be a multiple of `num_attention_heads`, {self.num_attention_heads}, but is "
                f"{size}."
            )

    def validate_classifier(self) -> None:
        """Raises ValueError for a pooling that there is not, or a layer that the classifier cannot read."""
        if self.classifier_pooling not in POOLINGS:
            raise ValueError(f"`classifier_pooling` must be one of {POOLINGS}, but is {self.classifier_pooling!r}.")
        layer = self.classifier_layer
        if layer is None:
            return
        if not 1 <= layer <= self.num_hidden_layers:
            raise ValueError(f"`classifier_layer` must lie between 1 and {self.num_hidden_layers}, but is {layer}.")
        if self.use_info_sharing or self.use_task_adapter:
            raise ValueError(
                "`classifier_layer` leaves out what `use_info_sharing` and `use_task_adapter` add to the last block: "
                "drop it or them."
            )

    def validate_loss(self) -> None:
        """Raises ValueError for a weight outside [0, 1], a blank outside the vocabulary, or another problem type."""
        if not 0 <= self.classification_loss_weight <= 1:
            raise ValueError(
                f"`classification_loss_weight` must lie between 0 and 1, but is {self.classification_loss_weight}."
            )
        if self.pad_token_id is None or not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"`pad_token_id` is the CTC blank, one of {self.vocab_size} characters, but is {self.pad_token_id}."
            )
        if self.problem_type != "multi_label_classification":
            raise ValueError(
                f"`problem_type` must be 'multi_label_classification', but is {self.problem_type!r}: a clip can hold "
                "several kinds of toxicity."
            )

    def validate_layer_sum(self) -> None:
        """Raises ValueError for a field of transformers' classifiers that has no meaning here."""
        if self.use_weighted_layer_sum:
            raise ValueError(
                "`use_weighted_layer_sum` is not supported: the heads read the last layer, as in the paper."
            )
