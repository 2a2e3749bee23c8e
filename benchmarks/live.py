"""How soon a live session reports a keyword, and what that costs, by how often and how much of the latest it hears.

    python -m benchmarks.live --model model_cards/whisper-tiny-en-toxmtl

Sentences of the demo's test split are spoken by its test voices, with known word boundaries, and fed in packets of
20 ms. A keyword's delay is that from its true end to the sound that had come when it was reported; what the model
takes to compute comes on top (`benchmarks/serving.py` measures both). The cost is seconds of sound that the model
hears, looks and windows together, for each second of a segment.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm
from transformers import HfArgumentParser

from benchmarks import write_results
from benchmarks.timing import spoken_keywords
from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.espeak import VOICES, synthesize_words
from datasets_scripts.grammar_en import ENGLISH
from modeling_toxmtl.audio import SAMPLING_RATE, resample
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.events import Event, Keyword, Segment, Violation
from modeling_toxmtl.moderation.live.session import ModerationSession, SessionSettings
from modeling_toxmtl.moderation.moderate import load_judge
from modeling_toxmtl.text import normalize_text


PACKET = 320  # samples
SILENCE = np.zeros(2 * SAMPLING_RATE, dtype=np.float32)  # around a sentence, so that it is a segment


@dataclass
class LiveArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    num_clips: int = field(default=120, metadata={"help": "Number of sentences."})
    hops: list[float] = field(default_factory=lambda: [0.3, 0.5, 0.8], metadata={"help": "Seconds between looks."})
    contexts: list[float] = field(default_factory=lambda: [2.0, 3.0, 4.0], metadata={"help": "Seconds of a look."})
    lookaheads: list[float] = field(
        default_factory=lambda: [0.1, 0.2, 0.4], metadata={"help": "Seconds that follow a word's middle."}
    )
    seed: int = field(default=0, metadata={"help": "Of voices and speech rates."})
    results_file: str = field(
        default="benchmarks/results/live.json", metadata={"help": "Where the figures go, as JSON."}
    )


class RememberingJudge(Judge):
    """Hears every sound once, however many settings ask for it, and counts what each asks for."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._rows: dict[bytes, dict] = {}
        self.seconds_asked = self.seconds_heard = self.cpu_seconds = 0.0

    def hear(self, windows):
        """As of [`Judge`]."""
        rows = []
        for window, samples in windows:
            self.seconds_asked += len(samples) / SAMPLING_RATE
            key = samples.tobytes()
            if key not in self._rows:
                before = time.process_time()
                whole = window._replace(
                    start=0, end=window.end - window.start, first=0, last=window.end - window.start
                )
                (self._rows[key],) = super().hear([(whole, samples)])
                self.cpu_seconds += time.process_time() - before
                self.seconds_heard += len(samples) / SAMPLING_RATE
            rows.append(_placed(self._rows[key], window))
        return rows


def _placed(row, window):
    """A row of a window that begins at 0, as that of another place would be."""
    words = [word.shifted(window.start / SAMPLING_RATE) for word in row["keywords"].item()]
    keywords = np.empty((1, 1), dtype=object)
    keywords[0, 0] = [
        word for word in words if window.first <= (word.start + word.end) / 2 * SAMPLING_RATE <= window.last
    ]
    return row | {"window": np.array([window]), "keywords": keywords}


def sentences(num_clips: int, seed: int, judge: Judge) -> Iterator[tuple[np.ndarray, list[DetectedKeyword]]]:
    """Spoken sentences, with silence around, and the keywords in them with their true times."""
    keywords = judge.pipe.processor.keywords
    clips = generate_corpus({"train": 0, "validation": 0, "test": 4 * num_clips}, seed, keywords, ENGLISH)
    rng = np.random.default_rng(seed)
    for clip in clips["test"][:num_clips]:
        voice = VOICES["en"]["test"][rng.integers(len(VOICES["en"]["test"]))]
        text = " ".join(normalize_text(clip.transcript))
        samples, rate, words = synthesize_words(text, voice, rate=rng.integers(130, 200))
        offset = len(SILENCE) / SAMPLING_RATE
        samples = np.concatenate([SILENCE, resample(samples, rate, SAMPLING_RATE), SILENCE])
        yield samples, [word.shifted(offset) for word in spoken_keywords(words, keywords)]


def listen(judge: Judge, samples: np.ndarray, settings: SessionSettings) -> list[Event]:
    """All events of a sentence."""
    session = ModerationSession(judge, settings)
    packets = (samples[start : start + PACKET] for start in range(0, len(samples), PACKET))
    return [event for packet in packets for event in session.feed(packet)] + session.finish()


def delays(events: list[Event], said: list[DetectedKeyword]) -> list[float]:
    """Of each keyword that was said and is in the verdict: seconds from its end to its first report."""
    reports = [event for event in events if isinstance(event, Keyword)]
    found = []
    for word in said:
        own = [
            event
            for event in reports
            if event.keyword == word.keyword and event.start < word.end and word.start < event.end
        ]
        if any(event.state == "final" for event in own):
            found.append(own[0].time - word.end)
    return found


def taken_back(events: list[Event]) -> tuple[int, int]:
    """How many keywords were withdrawn, and how many violations were raised that no verdict has."""
    verdicts = {label for event in events if isinstance(event, Segment) for label in event.record["violations"]}
    raised = {event.label for event in events if isinstance(event, Violation) and event.raised}
    withdrawn = sum(isinstance(event, Keyword) and event.state == "withdrawn" for event in events)
    return withdrawn, len(raised - verdicts)


def measure(judge: RememberingJudge, clips: list, settings: SessionSettings) -> dict[str, float]:
    """The figures of one setting."""
    judge.seconds_asked, found, num_finals, num_withdrawn, num_wrong, seconds = 0.0, [], 0, 0, 0, 0.0
    for samples, said in clips:
        events = listen(judge, samples, settings)
        found += delays(events, said)
        num_finals += sum(isinstance(event, Keyword) and event.state == "final" for event in events)
        withdrawn, wrong = taken_back(events)
        num_withdrawn, num_wrong = num_withdrawn + withdrawn, num_wrong + wrong
        seconds += sum(event.end - event.start for event in events if isinstance(event, Segment))
    if not found:
        raise ValueError("No keyword that was said was heard: there is nothing to measure.")
    return {
        "keywords": len(found),
        "p50_ms": float(1000 * np.quantile(found, 0.5)),
        "p95_ms": float(1000 * np.quantile(found, 0.95)),
        "withdrawn_percent": 100 * num_withdrawn / num_finals,
        "violations_taken_back": num_wrong,
        "seconds_heard_per_second": judge.seconds_asked / seconds,
    }


def markdown(results: dict) -> str:
    """A row per setting."""
    lines = [
        "| hop | context | lookahead | word's end to event: median | p95 | withdrawn | violations taken back | cost |"
    ]
    lines.append("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in results["settings"]:
        lines.append(
            f"| {row['hop']:g} s | {row['context']:g} s | {row['lookahead']:g} s | {row['p50_ms']:.0f} ms "
            f"| {row['p95_ms']:.0f} ms | {row['withdrawn_percent']:.1f} % | {row['violations_taken_back']} "
            f"| {row['seconds_heard_per_second']:.1f} |"
        )
    return "\n".join(lines)


def main(args: LiveArguments) -> dict:
    """Measures, prints the table and writes the results."""
    judge = RememberingJudge(load_judge(args.model))
    clips = list(sentences(args.num_clips, args.seed, judge))
    defaults = SessionSettings()
    wanted = [(hop, context, defaults.lookahead) for hop, context in itertools.product(args.hops, args.contexts)]
    wanted += [(defaults.hop, defaults.context, lookahead) for lookahead in args.lookaheads]
    rows = []
    for values in tqdm(sorted(set(wanted)), desc="Listening", unit="setting"):
        named = dict(zip(("hop", "context", "lookahead"), values, strict=True))
        rows.append(named | measure(judge, clips, SessionSettings(**named)))
    results = {
        "sentences": len(clips),
        "said": sum(len(said) for _, said in clips),
        "core_seconds_per_second_heard": judge.cpu_seconds / judge.seconds_heard,
        "settings": rows,
    }
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(LiveArguments, description=__doc__).parse_args_into_dataclasses())
