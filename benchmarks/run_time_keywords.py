"""How well words are heard that join the keyword list at run time, beside those that the model was trained with.

    python -m benchmarks.run_time_keywords --models model_cards/whisper-tiny-en-toxmtl --dataset voice_data
    python -m benchmarks.run_time_keywords --models runs/voices-keywords runs/voices-2 --dataset voice_data
    python -m benchmarks.run_time_keywords --dataset digits_data --words zero one two three four five six seven …

Each model runs once. Its keyword logits are then decoded with its own list and with a longer one, and no weight
changes. Models with other targets (`run_mtl.py --keyword_target`) are compared on the same clips.

- trained: the keywords of the model's list; with its own list, and with the longer one.
- added: words that were never keywords; `--words`, or those of the split's everyday content words that are said most.
- sound-alikes: words that resemble a keyword (`datasets_scripts/words_en.py`), and in the place of how many the model
  reports one, with its own list.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import AutoModelForAudioClassification, HfArgumentParser

from benchmarks import write_results
from datasets_scripts.words_en import SOUND_ALIKES
from modeling_toxmtl import KeywordEntry, KeywordList, ToxicityMTLProcessor
from modeling_toxmtl.training.evaluation import evaluate_batches, predict_batches
from modeling_toxmtl.training.metrics import align_words, keyword_metrics
from modeling_toxmtl.training.tuning import load_split


# An added word is an everyday content word: of four letters at least, and said between 10 ** 2.5 and 10 ** 4.8 times
# in 10 ** 9 words
FEWEST_LETTERS, ZIPF = 4, (2.5, 4.8)
FIGURES = {"f1": "F1", "precision": "precision", "recall": "recall"}
GROUPS = ("trained", "added", "trained, longer list")


@dataclass
class RunTimeKeywordsArguments:
    """Which models, which words, and where results go."""

    models: list[str] = field(
        default_factory=lambda: ["model_cards/whisper-tiny-en-toxmtl"], metadata={"help": "Model folders or Hub ids."}
    )
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    split: str = field(default="test", metadata={"help": "Split to listen to."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    words: list[str] | None = field(default=None, metadata={"help": "Words to add; default: chosen from the split."})
    num_words: int = field(default=20, metadata={"help": "How many to choose."})
    results_file: str = field(
        default="benchmarks/results/run_time_keywords.json",
        metadata={"help": "JSON; the table goes beside it as .md."},
    )


def choose_words(transcripts: Sequence[str], keywords: KeywordList, count: int) -> list[str]:
    """The content words that are said most, in no spelling of a keyword and in no sound-alike; the first by the
    alphabet of those said equally often.

    Raises:
        ImportError: wordfreq, which knows the function words, is missing.
    """
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise ImportError("Choosing words needs wordfreq: pip install -e '.[corpora]', or give --words.") from error
    taken = {word for phrase in (*keywords.spellings, *SOUND_ALIKES, keywords.filler) for word in phrase.split()}
    said = Counter(word for text in transcripts for word in keywords.tokens(text))
    rarest, commonest = ZIPF
    content = [
        word
        for word in said
        if len(word) >= FEWEST_LETTERS
        and word not in taken
        and rarest <= zipf_frequency(word, keywords.language) <= commonest
    ]
    return sorted(content, key=lambda word: (-said[word], word))[:count]


def longer_list(keywords: KeywordList, words: Sequence[str]) -> KeywordList:
    """A copy of the list with the words at its end."""
    longer = KeywordList.from_dict(keywords.to_dict())
    for word in words:
        longer.add(word, ["Other"])
    return longer


def flagged(said: Sequence[Sequence[str]], heard: Sequence[Sequence[str]], keywords: KeywordList) -> dict[str, int]:
    """How many sound-alikes are said, and in the place of how many a keyword is heard."""
    alikes = KeywordList([KeywordEntry(word, ("Other",)) for word in SOUND_ALIKES])
    counts = {"said": 0, "flagged": 0}
    for reference, hypothesis in zip(said, heard, strict=True):
        reference = alikes.merge(reference)
        counts["said"] += sum(word in alikes for word in reference)
        pairs = [pair for pair in align_words(reference, hypothesis, keywords.keywords) if None not in pair]
        counts["flagged"] += sum(reference[i] in alikes and hypothesis[j] in keywords for i, j in pairs)
    return counts


def measure(args: RunTimeKeywordsArguments, name: str) -> tuple[dict, list[str]]:
    """Figures of a model, and the words that were added."""
    model = AutoModelForAudioClassification.from_pretrained(name)
    processor = ToxicityMTLProcessor.from_pretrained(name)
    dataset = load_split(processor, model.config, args.dataset, None, args.split, args.max_samples)
    batches = predict_batches(model, dataset)
    own, transcripts = processor.keywords, [text or "" for text in dataset.rows["transcript"]]
    words = args.words or choose_words(transcripts, own, args.num_words)
    if known := sorted(set(words) & set(own.spellings)):
        raise ValueError(f"--words: {', '.join(known)} in the list of {name} already: name words that are not.")
    heard, said = {}, {}
    for moment, keywords in {"own": own, "longer": longer_list(own, words)}.items():
        processor.keywords = keywords
        heard[moment] = [clip.words for clip in evaluate_batches(dataset, batches).predictions]
        said[moment] = [keywords.merge(keywords.tokens(text)) for text in transcripts]
    asked = {"trained": ("own", own.keywords), "added": ("longer", words), GROUPS[2]: ("longer", own.keywords)}
    figures = {group: keyword_metrics(said[moment], heard[moment], of) for group, (moment, of) in asked.items()}
    return figures | {"sound_alikes": flagged(said["own"], heard["own"], own)}, words


def markdown(results: dict[str, dict]) -> str:
    """A row per model and group of keywords."""
    lines = ["| Model | Keywords | Said | F1 | Precision | Recall |", "|---|---|---:|---:|---:|---:|"]
    for name, figures in results.items():
        for group in GROUPS:
            metrics = figures[group]
            cells = ["-" if metrics[figure] is None else f"{metrics[figure]:.1f}" for figure in FIGURES]
            lines.append(f"| {name} | {group} | {metrics['num_keywords']} | {' | '.join(cells)} |")
        alikes = figures["sound_alikes"]
        lines.append(f"| {name} | sound-alikes | {alikes['said']} | {alikes['flagged']} reported as a keyword | | |")
    return "\n".join(lines)


def main(args: RunTimeKeywordsArguments) -> dict[str, dict]:
    """Measures, prints the table and writes the results."""
    results, words = {}, {}
    for name in args.models:
        results[name], words[name] = measure(args, name)
    write_results(args, results, markdown(results), words=words)
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(RunTimeKeywordsArguments, description=__doc__).parse_args_into_dataclasses())
