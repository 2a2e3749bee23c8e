"""Stage 4: keywords with times, for the chunks that the text filter calls toxic (paper, section 2: "chunks that the
Text Filter classifies as toxic are annotated with keywords from the ASR transcription").

    toxmtl data annotate --work-dir work

In the transcript of a chunk that is not toxic, keywords become the filler word, since a keyword target derives from
the transcript; what the recogniser wrote stays in `asr_transcript`. `--keywords_everywhere` annotates every chunk. In
no chunk is a keyword said across the end of a phrase, and what would spell one there becomes the filler, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import Features, Value

from ..io.tables import read_labels, read_table
from ..keywords import KeywordList
from ..labels import LABELS, NO_VIOLATION
from .label import KeywordArguments, LabelStage
from .schema import TRACED_FEATURES
from .shards import Rejected, read_rows
from .stages import Manifest, WorkArguments, read_manifest, run_stage
from .transcripts import check_known, phrase_ends


REVIEWER = "human"


@dataclass
class AnnotateArguments:
    """Which chunks get keywords."""

    corrections: str | None = field(
        default=None, metadata={"help": "Table of toxmtl from-label-studio: labels that people gave, by id."}
    )
    keywords_everywhere: bool = field(
        default=False, metadata={"help": "Annotate keywords in chunks without violation too."}
    )


def read_corrections(path: str | None) -> dict[str, list[str]]:
    """Labels by id of a table; none without a path.

    Raises:
        ValueError: if a line has labels that are none, `NoViolation` beside a violation, or other labels than an
            earlier line of the same id; the message names it.
    """
    corrections = {}
    lines = read_table(Path(path), required=["id", "labels"]) if path else []
    for number, correction in enumerate(lines, start=1):
        try:
            labels = read_labels(correction["labels"])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}.") from error
        if not labels or set(labels) - set(LABELS):
            raise ValueError(f"{path}, line {number}: `labels` are {labels}: violations of {LABELS}, or NoViolation.")
        id, labels = str(correction["id"]), [label for label in LABELS if label in labels]
        if corrections.setdefault(id, labels) != labels:
            raise ValueError(f"{path}, line {number}: {id} has other labels in a line before: keep one of the two.")
    return corrections


def find_keywords(
    words: list[dict], keywords: KeywordList, phrases: Sequence[dict] = ()
) -> tuple[list[dict], list[int]]:
    """Keywords with the times of their first and last word and the mean of their scores, and the positions in `words`
    that they take up. `words` have `word`, `start`, `end` and `score`; no keyword reaches over the end of one of the
    `phrases`, which have the `text` of these words."""
    ends, place, pieces = set(phrase_ends(phrases)), 0, []
    for index, word in enumerate(words):
        if place in ends:
            pieces.append(("", index))  # no word of any keyword
        pieces += [(piece, index) for piece in keywords.tokens(word["word"])]
        place += len(word["word"]) + 1
    found, positions = [], []
    for match in keywords.find([piece for piece, _ in pieces]):
        indices = sorted({index for _, index in pieces[match.start : match.end]})
        first, last = words[indices[0]], words[indices[-1]]
        score = sum(words[index]["score"] for index in indices) / len(indices)
        found.append({"keyword": match.keyword, "start": first["start"], "end": last["end"], "score": score})
        positions += indices
    return found, positions


class AnnotateStage:
    """Adds `keywords` and `asr_transcript`, and makes `transcript` what a model is to learn from."""

    name = "annotate"
    uses_model = False
    features = Features(
        {**LabelStage.features, "asr_transcript": Value("string"), "keywords": TRACED_FEATURES["keywords"]}
    )

    def __init__(self, args: AnnotateArguments, keywords: KeywordArguments) -> None:
        self.args, self.keywords = args, keywords.load()
        self.corrections = read_corrections(args.corrections)

    def check_corrections(self, labelled: Manifest) -> None:
        """Warns of corrections whose id no labelled chunk has; ValueError if none is of one."""
        if not self.corrections:
            return
        ids = {row["id"] for shard in labelled.shards for row in read_rows(shard.path, ["id"])}
        fault = (
            "ids are of no chunk here, such as {}; an id says where a chunk starts: divide the recordings as before."
        )
        check_known(self.corrections.keys(), ids, f"--corrections {self.args.corrections}", fault)

    def settings(self) -> dict:
        """As of [`Stage`]."""
        contents = {"keywords": self.keywords.to_dict(), "corrections": self.corrections}
        return asdict(self.args) | contents

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        """Rows with the keywords found, their times and the training transcript."""
        for row in rows:
            if row["id"] in self.corrections:
                row = row | _corrected(self.corrections[row["id"]])
            found, positions = find_keywords(row["words"], self.keywords, row["phrases"])
            _, of_target = find_keywords(row["words"], self.keywords)  # which derives from the bare transcript
            unsaid = set(of_target) - set(positions)
            if row["labels"] == [NO_VIOLATION] and not self.args.keywords_everywhere:
                found, unsaid = [], {*of_target, *positions}
            words = [word["word"] for word in row["words"]]
            for position in unsaid:
                words[position] = self.keywords.filler
            yield row | {"asr_transcript": row["transcript"], "transcript": " ".join(words), "keywords": found}


def _corrected(labels):
    """What a person says is certain, and so is what they do not say."""
    scores = [
        {"label": label, "score": float(label in labels), "given_by": [REVIEWER] * (label in labels)}
        for label in LABELS
    ]
    return {"labels": labels, "label_scores": scores}


def run(args: AnnotateArguments, keywords: KeywordArguments, work: WorkArguments) -> Manifest:
    """Runs the stage; returns what it made."""
    stage, labelled = AnnotateStage(args, keywords), read_manifest(work.work_dir, "label")
    stage.check_corrections(labelled)
    return run_stage(stage, labelled.shards, work)


def main(args: AnnotateArguments, keywords: KeywordArguments, work: WorkArguments) -> None:
    """Runs the stage and says how much it made."""
    print(f"{run(args, keywords, work).num_rows} chunks annotated.")
