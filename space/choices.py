"""What a visitor chose: the keyword list and the thresholds, and a judge that decides by them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modeling_toxmtl import KeywordList
from modeling_toxmtl.labels import NO_VIOLATION
from modeling_toxmtl.moderation.judge import Judge


DIGITS = 3  # of a threshold on its slider
STEP = 10**-DIGITS
COLUMNS = ("keyword", "labels", "also written", "threshold")


@dataclass(frozen=True)
class Choices:
    """Of one visitor.

    Args:
        keywords: the list, as of `KeywordList.to_dict`.
        thresholds: score from which on each label counts.
    """

    keywords: dict
    thresholds: dict[str, float]

    @classmethod
    def of(cls, judge: Judge) -> "Choices":
        """The model's own."""
        return cls(judge.pipe.processor.keywords.to_dict(), dict(judge.thresholds))

    @property
    def places(self) -> dict[str, float]:
        """Where the sliders of the labels stand whose thresholds decide something."""
        return {label: round(value, DIGITS) for label, value in self.thresholds.items() if label != NO_VIOLATION}

    def moved(self, places: Sequence[float]) -> "Choices":
        """With the sliders at other places. A threshold whose slider was not moved stays as it is, to the last
        digit."""
        moved = {label: place for (label, old), place in zip(self.places.items(), places, strict=True) if place != old}
        return replace(self, thresholds=self.thresholds | moved)

    def with_word(self, keyword: str, labels: Sequence[str], variants: str, threshold: float) -> "Choices":
        """With a keyword that is new, or replaces its old entry.

        Args:
            keyword: word or phrase.
            labels: that it points to.
            variants: other spellings, separated by commas.
            threshold: score in [0, 1] below which it is not reported.

        Raises:
            ValueError: if the entry is none; see [`KeywordList`].
        """
        keyword = keyword.strip().lower()
        spellings = [spelling.strip().lower() for spelling in variants.split(",") if spelling.strip()]
        entry = {"keyword": keyword, "labels": list(labels), "variants": spellings, "threshold": threshold}
        entries = self.keywords["keywords"]
        if keyword in [old["keyword"] for old in entries]:
            return self._with_entries([entry if old["keyword"] == keyword else old for old in entries])
        return self._with_entries([*entries, entry])

    def without_word(self, keyword: str) -> "Choices":
        """Without a keyword. Raises ValueError if there is no such, or no other."""
        keyword = keyword.strip().lower()
        left = [entry for entry in self.keywords["keywords"] if entry["keyword"] != keyword]
        if len(left) == len(self.keywords["keywords"]):
            raise ValueError(f"{keyword!r} is no keyword of the list.")
        return self._with_entries(left)

    def with_list(self, path: str) -> "Choices":
        """With the list of a file. Raises ValueError if it holds none."""
        return replace(self, keywords=KeywordList.from_file(path).to_dict())

    def table(self) -> list[list]:
        """The list, a row for each keyword, with `COLUMNS`."""
        return [
            [entry["keyword"], ", ".join(entry["labels"]), ", ".join(entry["variants"]), entry.get("threshold", 0.0)]
            for entry in self.keywords["keywords"]
        ]

    def _with_entries(self, entries):
        return replace(self, keywords=KeywordList.from_dict(self.keywords | {"keywords": entries}).to_dict())


def own_judge(shared: Judge, choices: Choices) -> Judge:
    """A judge with the shared one's model that decides by a visitor's choices, and changes nobody else's. Raises
    ValueError if the model cannot write the keywords."""
    judge = copy.copy(shared)
    if judge.pipe.processor.keywords.to_dict() != choices.keywords:
        judge = shared.with_keywords(KeywordList.from_dict(choices.keywords))
    judge.description = judge.description | {"thresholds": choices.thresholds}
    return judge
