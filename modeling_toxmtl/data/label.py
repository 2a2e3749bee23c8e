"""Stage 3: the text filter, "an ensemble model ... comprising an extended DistilBERT model and regular expressions"
(paper, section 2): which kinds of toxicity a transcript contains, who says so, and how surely.

    toxmtl data label --rules rules.json --text-classifier my_filter --work-dir work

The members of the ensemble, each of which gives every label a score in [0, 1]:

- `keywords`: the keyword list; a keyword or phrase, disguised ones too (`sh1t`), gives its labels 1, if it is said in
  one phrase of the transcript ("let him off the hook. Up next" has no "hook up");
- `rules`: a JSON file of regular expressions by label, `{"Bullying": ["uninstall the game"]}`, matched against the
  normalised words (no capitals, punctuation or digits: "1v1" is said "one v one");
- `classifier`: a text classifier of transformers, heard phrase by phrase; a label gets the best phrase's score. A JSON
  file maps its labels to ours, `{"toxic": "Bullying", "neutral": null}`; without one they must be named alike.
  `toxmtl data train-text-filter` makes one.

Transcripts that say that a word is hidden (`****`, `[ __ ]`) go to the quarantine list: nobody knows its label.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
from datasets import Features, List, Value

from ..io.files import content_hash, read_json
from ..io.masks import find_mask
from ..io.tables import batched
from ..keywords import KeywordList
from ..labels import LABELS, NO_VIOLATION, VIOLATIONS
from .rules import RuleFilter
from .schema import TRACED_FEATURES
from .shards import ROWS_AT_ONCE, Rejected
from .stages import Manifest, WorkArguments, read_manifest, run_stage
from .transcribe import TranscribeStage
from .transcripts import phrase_ends


COMBINATIONS = ("any", "mean", "majority")


@dataclass
class KeywordArguments:
    """The keyword list of the text filter and of the annotation."""

    keywords: str | None = field(
        default=None, metadata={"help": "Keyword list, a JSON file; default: the packaged one."}
    )

    def load(self) -> KeywordList:
        """The list. Raises ValueError if a keyword has a label that the data set has not."""
        if not self.keywords:
            return KeywordList.default()
        keywords = KeywordList.from_file(self.keywords)
        for entry in keywords:
            if unknown := sorted(set(entry.labels) - set(LABELS)):
                raise ValueError(f"{self.keywords}: {entry.keyword!r} has the labels {unknown}: choose from {LABELS}.")
        return keywords


@dataclass
class LabelArguments:
    """The members of the text filter beside the keyword list, and how they decide."""

    rules: str | None = field(default=None, metadata={"help": "JSON file of regular expressions by label."})
    text_classifier: str | None = field(
        default=None, metadata={"help": "Text classifier of transformers, a Hub id or folder."}
    )
    text_classifier_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a Hub model."}
    )
    label_mapping: str | None = field(
        default=None, metadata={"help": "JSON file from the classifier's labels to ours (or null)."}
    )
    use_keywords: bool = field(default=True, metadata={"help": "Let the keyword list give its labels."})
    combine: str = field(
        default="any",
        metadata={
            "help": "A label's score is that of its surest member (any), the mean of the members that know the label "
            "(mean), or the share of these that are over the threshold (majority).",
            "choices": COMBINATIONS,
        },
    )
    threshold: float = field(default=0.5, metadata={"help": "Labels with at least this score are given."})

    def __post_init__(self):
        if not 0 < self.threshold <= 1:
            raise ValueError(f"--threshold is {self.threshold}: give a score above 0, and at most 1.")


class TextFilter(Protocol):
    """A member of the ensemble. `knows` are the labels that it can give."""

    name: str
    knows: tuple[str, ...]

    def score(self, rows: Sequence[dict]) -> np.ndarray:
        """`(rows, len(VIOLATIONS))` scores in [0, 1] for rows with `transcript` and `phrases`."""


class KeywordFilter:
    """Labels of the keywords that are said."""

    name = "keywords"

    def __init__(self, keywords: KeywordList) -> None:
        self.keywords = keywords
        self.knows = tuple(label for label in VIOLATIONS if any(label in entry.labels for entry in keywords))

    def score(self, rows: Sequence[dict]) -> np.ndarray:
        """As of [`TextFilter`]."""
        return np.stack([self._score(row["transcript"], row["phrases"]) for row in rows])

    def _score(self, transcript, phrases):
        bounds = [0, *phrase_ends(phrases)[:-1], None]
        texts = [transcript[start:end] for start, end in itertools.pairwise(bounds)]
        found = {match.keyword for text in texts for match in self.keywords.find(self.keywords.tokens(text))}
        labels = {label for keyword in found for label in self.keywords.labels_of(keyword)}
        return np.array([float(label in labels) for label in VIOLATIONS])


def combine_scores(
    scores: np.ndarray, knows: np.ndarray, combination: str, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ensemble's scores from those of its members.

    Args:
        scores: `(members, rows, labels)` in [0, 1].
        knows: `(members, labels)`, whether a member can give a label. What nobody can give has the score 0.
        combination: of `COMBINATIONS`.
        threshold: that a member's score must reach to be its vote.

    Returns:
        `(rows, labels)` scores, and whether they give the label: at least the threshold, or for "majority" more than
        half of the votes.
    """
    known = knows[:, None, :]
    experts = np.maximum(known.sum(0), 1)
    if combination == "any":
        combined = np.where(known, scores, 0.0).max(0)
    elif combination == "mean":
        combined = np.where(known, scores, 0.0).sum(0) / experts
    else:
        combined = (known & (scores >= threshold)).sum(0) / experts
        return combined, combined > 0.5
    return combined, (combined >= threshold) & known.any(0)


class LabelStage:
    """Labels transcripts. See the arguments' classes."""

    name = "label"
    features = Features(
        {
            **TranscribeStage.features,
            "labels": List(Value("string")),
            "label_scores": TRACED_FEATURES["label_scores"],
            "text_filter": Value("string"),
        }
    )

    def __init__(self, args: LabelArguments, keywords: KeywordArguments) -> None:
        self.uses_model = args.text_classifier is not None
        if not (args.use_keywords or args.rules or args.text_classifier):
            raise ValueError(
                "The text filter has no member: give --rules or --text_classifier, or leave --use_keywords."
            )
        self.args = args
        self.keywords = keywords.load()
        self.rules = read_json(args.rules) if args.rules else None
        self.rule_filter = RuleFilter(self.rules, self.keywords.language) if args.rules else None
        self.mapping = read_json(args.label_mapping) if args.label_mapping else None
        self.classifier, self.targets = None, []
        if args.text_classifier:
            from .models import find_text_classifier, model_version  # transformers, which workers do without

            model = args.text_classifier, args.text_classifier_revision
            self.targets = find_text_classifier(*model, self.mapping)
            self.classifier = model_version(*model)

    def settings(self) -> dict:
        """As of [`Stage`]."""
        paths = ("rules", "label_mapping", "text_classifier")  # their contents count
        arguments = {name: value for name, value in asdict(self.args).items() if name not in paths}
        contents = {"rules": self.rules, "label_mapping": self.mapping, "classifier": self.classifier}
        # without --use_keywords, too: the list says which words are hidden, and how rules read numbers
        return arguments | contents | {"keywords": self.keywords.to_dict()}

    @functools.cached_property
    def text_filter(self) -> str:
        """Which members, in which versions, by which rule."""
        versions = {"keywords": content_hash(self.keywords.to_dict())} if self.args.use_keywords else {}
        if self.rules is not None:
            versions["rules"] = content_hash(self.rules)
        if self.args.text_classifier:
            versions["classifier"] = self.classifier
        members = ", ".join(f"{name} {version}" for name, version in versions.items())
        return f"{self.args.combine} >= {self.args.threshold:g} of {members}"

    @functools.cached_property
    def _members(self) -> list[TextFilter]:
        members: list[TextFilter] = [KeywordFilter(self.keywords)] if self.args.use_keywords else []
        if self.rule_filter:
            members.append(self.rule_filter)
        if self.args.text_classifier:
            from .text_classifier import ClassifierFilter  # it needs PyTorch

            args = self.args
            members.append(ClassifierFilter(args.text_classifier, args.text_classifier_revision, self.targets))
        return members

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        """Rows with their labels, of transcribed chunks."""
        for group in batched(rows, ROWS_AT_ONCE):
            masks = [find_mask(row["transcript"], self.keywords) for row in group]
            for row, mask in zip(group, masks, strict=True):
                if mask:
                    yield Rejected(row["id"], f"the transcript hides a word: {mask!r}")
            if not all(masks):
                yield from self.label([row for row, mask in zip(group, masks, strict=True) if not mask])

    def label(self, rows: Sequence[dict]) -> Iterator[dict]:
        """Rows with `transcript` and `phrases`, whatever they hide, and what the text filter says of them."""
        scores = np.stack([member.score(rows) for member in self._members])
        knows = np.array([[label in member.knows for label in VIOLATIONS] for member in self._members])
        combined, given = combine_scores(scores, knows, self.args.combine, self.args.threshold)
        for index, row in enumerate(rows):
            yield row | self._verdict(scores[:, index], combined[index], given[index])

    def _verdict(self, scores, combined, given):
        verdict = [
            {
                "label": label,
                "score": float(combined[column]),
                "given_by": [
                    member.name
                    for member, score in zip(self._members, scores[:, column], strict=True)
                    if score >= self.args.threshold
                ],
            }
            for column, label in enumerate(VIOLATIONS)
        ]
        verdict.append({"label": NO_VIOLATION, "score": 1.0 - float(combined.max()), "given_by": []})
        labels = [label for label, is_given in zip(VIOLATIONS, given, strict=True) if is_given] or [NO_VIOLATION]
        return {"labels": labels, "label_scores": verdict, "text_filter": self.text_filter}

    def __getstate__(self) -> dict:
        """Workers load the classifier themselves."""
        return {name: value for name, value in self.__dict__.items() if name != "_members"}


def run(args: LabelArguments, keywords: KeywordArguments, work: WorkArguments) -> Manifest:
    """Runs the stage; returns what it made."""
    return run_stage(LabelStage(args, keywords), read_manifest(work.work_dir, "transcribe").shards, work)


def main(args: LabelArguments, keywords: KeywordArguments, work: WorkArguments) -> None:
    """Runs the stage and says how much it made."""
    manifest = run(args, keywords, work)
    print(f"{manifest.num_rows} chunks labelled.")
