"""Throughput of the data pipeline: hours of audio per hour and core, by stage, and what a second worker brings.

    python -m benchmarks.pipeline --minutes 20 --num_proc 1 2

Synthesises recordings with DTX, times each stage on them (the recogniser is the repository's tiny one), and finds the
cuts of a recording of one hour.
"""

import platform
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser

from benchmarks import write_results
from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.grammar_en import ENGLISH
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.data import annotate, chunk, label, transcribe
from modeling_toxmtl.data.recordings import RecordingsArguments
from modeling_toxmtl.data.stages import WorkArguments
from modeling_toxmtl.io.opus import OPUS_CLOCK, OpusTrack, encode_dtx, ogg_file, packet_samples
from modeling_toxmtl.keywords import KeywordList


@dataclass
class BenchmarkArguments:
    """What to measure."""

    minutes: float = field(default=20.0, metadata={"help": "Audio to work on."})
    recordings: int = field(default=8, metadata={"help": "Files that it comes in, one a shard."})
    num_proc: list[int] = field(default_factory=lambda: [1, 2], metadata={"help": "Numbers of workers to compare."})
    asr_model: str = field(default="model_cards/wavlm-tiny-espeak-ctc", metadata={"help": "Recogniser."})
    results_file: str = field(
        default="benchmarks/results/pipeline.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


def repeated(track: OpusTrack, seconds: float) -> OpusTrack:
    """The track's packets again and again, for so many seconds."""
    length = sum(map(packet_samples, track.packets))
    packets = list(track.packets) * max(1, round(seconds * OPUS_CLOCK / length))
    return OpusTrack(packets, track.pre_skip, sum(map(packet_samples, packets)) - track.pre_skip)


def time_stages(recordings: Path, work_dir: str, asr_model: str, num_proc: int) -> dict[str, float]:
    """Wall-clock seconds of each stage."""
    work, keywords = WorkArguments(work_dir, num_proc=num_proc), label.KeywordArguments()
    stages = {
        "chunk": lambda: chunk.run(RecordingsArguments(str(recordings), 1), chunk.ChunkStage(), work),
        "transcribe": lambda: transcribe.run(transcribe.TranscribeStage(asr_model), work),
        "label": lambda: label.run(label.LabelArguments(), keywords, work),
        "annotate": lambda: annotate.run(annotate.AnnotateArguments(), keywords, work),
    }
    seconds = {}
    for name, run in stages.items():
        start = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - start
    return seconds


def markdown(figures: dict) -> str:
    """A row per stage: hours of audio per hour and worker, by number of workers, and how much faster the most are."""
    speeds = figures["hours_per_hour_and_core"]
    first, last = list(speeds)[0], list(speeds)[-1]
    header = [f"{count} worker{'s' if int(count) > 1 else ''}" for count in speeds]
    lines = [f"| Stage | {' | '.join(header)} | speed-up |", "|---" + "|---:" * (len(speeds) + 1) + "|"]
    for stage in speeds[first]:
        values = " | ".join(f"{by_stage[stage]:.0f}" for by_stage in speeds.values())
        speed_up = speeds[last][stage] * int(last) / (speeds[first][stage] * int(first))
        lines.append(f"| {stage} | {values} | {speed_up:.2f} |")
    return "\n".join(lines)


def main(args: BenchmarkArguments) -> dict:
    """Prints and returns the figures."""
    from datasets_scripts.pipeline_demo import speak_recording  # PyTorch, which workers would import with this module

    texts = generate_corpus({"train": 20, "validation": 0, "test": 0}, 0, KeywordList.default(), ENGLISH)["train"]
    audio, _, _ = speak_recording(texts, "train", np.random.default_rng(0))
    track = encode_dtx(load_audio(audio), SAMPLING_RATE, 24_000)
    with tempfile.TemporaryDirectory() as folder:
        hour = Path(folder, "hour.ogg")
        hour.write_bytes(ogg_file(repeated(track, 3600)))
        wall, cpu = time.perf_counter(), time.process_time()
        chunks = len(list(chunk.find_chunks(str(hour), 0, chunk.ChunkStage())))
        cuts = {"chunks": chunks, "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        recordings = Path(folder, "recordings")
        recordings.mkdir()
        part = repeated(track, 60 * args.minutes / args.recordings)
        for number in range(args.recordings):
            (recordings / f"{number}.ogg").write_bytes(ogg_file(part))
        seconds = {n: time_stages(recordings, f"{folder}/work{n}", args.asr_model, n) for n in args.num_proc}
    audio_hours = args.recordings * part.num_samples / OPUS_CLOCK / 3600
    figures = {"machine": platform.machine(), "audio_hours": audio_hours, "cuts_of_an_hour": cuts}
    figures["hours_per_hour_and_core"] = {
        str(workers): {stage: audio_hours / (value / 3600) / workers for stage, value in times.items()}
        for workers, times in seconds.items()
    }
    write_results(args, figures, markdown(figures))
    return figures


if __name__ == "__main__":
    main(*HfArgumentParser(BenchmarkArguments, description=__doc__).parse_args_into_dataclasses())
