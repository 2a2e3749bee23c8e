"""How far the reported times of keywords are from the truth, on synthesised sentences whose word boundaries are known.

    python -m benchmarks.timing --model_name_or_path runs/demo

The sentences are those of the demo's test split without punctuation, spoken by the test voices without noise: what is
measured is the decoder's timing, not the recogniser's robustness. Only keywords that were heard count.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForAudioClassification, HfArgumentParser

from benchmarks import write_results
from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.espeak import VOICES, SpokenWord, synthesize_words
from datasets_scripts.grammar_en import ENGLISH
from modeling_toxmtl import KeywordList, ToxicityMTLProcessor
from modeling_toxmtl.audio import SAMPLING_RATE, resample
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.text import normalize_text
from modeling_toxmtl.training.metrics import align_words


@dataclass
class TimingArguments:
    """What to measure, and where results go."""

    model_name_or_path: str = field(default="runs/demo", metadata={"help": "Model of the demo."})
    decoder: str | None = field(default=None, metadata={"help": "Decoder; default: that of the model's processor."})
    num_clips: int = field(default=300, metadata={"help": "Number of sentences."})
    seed: int = field(default=0, metadata={"help": "Of voices and speech rates."})
    results_file: str = field(
        default="benchmarks/results/timing.json", metadata={"help": "Where the figures go, as JSON."}
    )


def spoken_keywords(words: list[SpokenWord], keywords: KeywordList) -> list[DetectedKeyword]:
    """The keywords among the spoken words, with their true times, as the decoder would report them."""
    return [
        DetectedKeyword(match.keyword, (), words[match.start].start, words[match.end - 1].end, 1.0)
        for match in keywords.find([word.text for word in words])
    ]


def errors(truth: list[DetectedKeyword], heard: list[DetectedKeyword], keywords: KeywordList) -> list[tuple]:
    """Reported minus true start and end, in seconds, of each keyword that was said and heard."""
    names = [[keyword.keyword for keyword in side] for side in (truth, heard)]
    pairs = [pair for pair in align_words(*names, keywords.keywords) if None not in pair]
    return [
        (heard[j].start - truth[i].start, heard[j].end - truth[i].end) for i, j in pairs if names[0][i] == names[1][j]
    ]


def summarize(differences: np.ndarray) -> dict[str, float]:
    """Figures of one column of differences, in milliseconds."""
    sizes = np.abs(differences)
    return {
        "median_error_ms": float(1000 * np.median(sizes)),
        "p90_error_ms": float(1000 * np.quantile(sizes, 0.9)),
        "median_bias_ms": float(1000 * np.median(differences)),
    }


def markdown(results: dict) -> str:
    """A row per side of the keywords."""
    names = {"median_error_ms": "median error", "p90_error_ms": "90 % are within", "median_bias_ms": "median bias"}
    lines = [f"| ms, of {results['heard']} of {results['said']} keywords | {' | '.join(names.values())} |"]
    lines.append("|---|" + "---:|" * len(names))
    for side in ("start", "end"):
        lines.append(f"| {side} | " + " | ".join(f"{results[side][name]:.0f}" for name in names) + " |")
    return "\n".join(lines)


@torch.no_grad()
def main(args: TimingArguments) -> dict:
    """Speaks, listens, prints the figures and writes the results."""
    model = AutoModelForAudioClassification.from_pretrained(args.model_name_or_path).eval()
    processor = ToxicityMTLProcessor.from_pretrained(args.model_name_or_path)
    clips = generate_corpus(
        {"train": 0, "validation": 0, "test": 4 * args.num_clips}, args.seed, KeywordList.default(), ENGLISH
    )
    texts = [" ".join(normalize_text(clip.transcript)) for clip in clips["test"] if clip.keywords]
    rng, found, said = np.random.default_rng(args.seed), [], 0
    for text in tqdm(texts[: args.num_clips], desc="Listening", unit="clip"):
        voice = VOICES["en"]["test"][rng.integers(len(VOICES["en"]["test"]))]
        samples, rate, words = synthesize_words(text, voice, rate=rng.integers(130, 200))
        samples = resample(samples, rate, SAMPLING_RATE)
        features = processor(samples, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        logits = model(**features).keyword_logits
        heard = processor.decode_keywords(logits, model.config, [len(samples)], args.decoder)[0].keywords
        truth = spoken_keywords(words, processor.keywords)
        said += len(truth)
        found += errors(truth, heard, processor.keywords)
    if not found:
        raise ValueError(f"{args.model_name_or_path} heard none of {said} keywords: there is nothing to measure.")
    differences = np.array(found)
    results = {"said": said, "heard": len(found)}
    results |= {"start": summarize(differences[:, 0]), "end": summarize(differences[:, 1])}
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(TimingArguments, description=__doc__).parse_args_into_dataclasses())
