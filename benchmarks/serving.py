"""How many live sessions a service holds: from the end of a word to its event, with more and more sessions at once.

    python -m benchmarks.serving --model model_cards/whisper-tiny-en-toxmtl

Servers are started on loopback, as `toxmtl serve` is by hand, and clients in a process of their own send them
sentences of the demo's test split, in packets of 20 ms as time passes, over and over with pauses between them. The
delay of a word in the verdict is that from when its last sample was sent to when its first event came, the time that
the model takes included. A load is held while its 95th percentile is under `--most_ms`, and the curve ends where it is
not.

A setup is a number of replicas: processes of one machine, or, as `ray:N`, those of Ray Serve. What they hear in a
second compares with the ceiling: the same sentences as files, one after the other, by the model alone.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from transformers import HfArgumentParser
from websockets.asyncio.client import connect

from benchmarks import write_results
from benchmarks.backbone import processor_name
from benchmarks.live import PACKET, sentences
from modeling_toxmtl.audio import SAMPLING_RATE
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.moderate import load_judge


PAUSE = 2.0  # seconds between two sentences, beside the silence around them
START_SECONDS = 600.0
REPLICA = re.compile('replica="([^"]*)"')  # in metrics, which one replica answers for


@dataclass
class ServingArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    setups: list[str] = field(
        default_factory=lambda: ["1", "2", "ray:2"], metadata={"help": "Replicas, those of Ray Serve behind ray:."}
    )
    sessions: list[int] = field(default_factory=lambda: [1, 10, 25, 50, 75, 100], metadata={"help": "At once."})
    seconds: float = field(default=60.0, metadata={"help": "For which each load is kept."})
    most_ms: float = field(default=700.0, metadata={"help": "95th percentile of the delay that is still good."})
    num_clips: int = field(default=120, metadata={"help": "Number of sentences."})
    seed: int = field(default=0, metadata={"help": "Of voices, speech rates and starts."})
    results_file: str = field(
        default="benchmarks/results/serving.json", metadata={"help": "Where the figures go, as JSON."}
    )


@dataclass
class Heard:
    """What a session measured: delays of words in seconds, words that were sent, and seconds of sound."""

    delays: list[float] = field(default_factory=list)
    said: int = 0
    seconds: float = 0.0


async def talk(url: str, clips: list, until: float, rng: np.random.Generator, heard: Heard) -> None:
    """A session that sends sentences as time passes."""
    open_words: list[tuple[DetectedKeyword, float]] = []  # in seconds of the session, and when its end was sent
    first_told: dict[DetectedKeyword, float] = {}

    async def read(connection):
        async for text in connection:
            event = json.loads(text)
            if event["event"] != "keyword":
                continue
            for word, sent in open_words:
                if word.keyword == event["keyword"] and event["start"] < word.end and word.start < event["end"]:
                    delay = first_told.setdefault(word, time.monotonic() - sent)
                    if event["state"] == "final":
                        heard.delays.append(delay)
                        open_words.remove((word, sent))
                    break

    mean = float(np.mean([len(samples) for samples, _ in clips])) / SAMPLING_RATE
    await asyncio.sleep(rng.uniform(0, mean + PAUSE))  # or all would say their first sentence at once
    async with connect(url) as connection:
        reading = asyncio.create_task(read(connection))
        begin, position = time.monotonic(), 0
        while time.monotonic() < until:
            samples, words = clips[rng.integers(len(clips))]
            samples = np.append(samples, np.zeros(round(PAUSE * SAMPLING_RATE), dtype=np.float32))
            content = (samples * 32767).astype("<i2").tobytes()
            offset = position / SAMPLING_RATE
            open_words += [(word.shifted(offset), begin + offset + word.end) for word in words]
            heard.said += len(words)
            for start in range(0, len(samples), PACKET):
                position += len(samples[start : start + PACKET])
                await asyncio.sleep(begin + position / SAMPLING_RATE - time.monotonic())
                await connection.send(content[2 * start : 2 * (start + PACKET)])
        heard.seconds = position / SAMPLING_RATE
        await connection.send('{"end": true}')
        await reading


async def load(url: str, clips: list, num_sessions: int, seconds: float, seed: int) -> Heard:
    """What so many sessions at once measure together."""
    until, heard = time.monotonic() + seconds, Heard()
    parts = [Heard() for _ in range(num_sessions)]
    await asyncio.gather(
        *(talk(url, clips, until, np.random.default_rng([seed, number]), part) for number, part in enumerate(parts))
    )
    for part in parts:
        heard.delays += part.delays
        heard.said, heard.seconds = heard.said + part.said, heard.seconds + part.seconds
    return heard


@contextmanager
def serving(model: str, setup: str) -> Iterator[tuple[str, int]]:
    """A setup while all its replicas take connections: the address for sessions, and its process.

    Raises:
        ValueError: for another name of a setup.
        TimeoutError: if it does not start.
    """
    engine, _, number = setup.rpartition(":")
    if engine not in ("", "ray") or not number.isdecimal() or not int(number):
        raise ValueError(f"`setups` has {setup!r}: give a number of replicas, or ray: and one.")
    port = free_port()
    command = [sys.executable, "-m", "modeling_toxmtl.cli", "serve", model, "--rate", "1e6", "--max-sessions", "10000"]
    command += ["--port", str(port), "--engine", engine or "local", "--replicas", number]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, int(number))
        yield f"ws://127.0.0.1:{port}/v1/stream", server.pid
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and MB of memory of a process and all that it started."""
    fields, children = {}, defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            fields[int(path.parent.name)] = path.read_text().rpartition(") ")[2].split()
    for child, values in fields.items():
        children[int(values[1])].append(child)
    family = [pid]
    for member in family:
        family += children[member]
    ticks = sum(int(value) for member in family for value in fields[member][11:13])
    pages = sum(int(fields[member][21]) for member in family)
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(port: int, num_replicas: int = 1) -> None:
    """Until all replicas take requests. Raises TimeoutError if they do not."""
    end, seen = time.monotonic() + START_SECONDS, set()
    while time.monotonic() < end:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as answer:
                seen.add(next(iter(REPLICA.findall(answer.read().decode())), None))
        except OSError:
            time.sleep(1.0)
        if len(seen) == num_replicas:
            return
    raise TimeoutError(f"{len(seen)} of {num_replicas} replicas take requests after {START_SECONDS:.0f} s.")


def ceiling(judge: Judge, clips: list) -> float:
    """Seconds of sound that the model judges in a second, of sentences one after the other."""
    sentences_alone = [samples for samples, _ in clips]
    judge.pipe(sentences_alone[0], return_keywords=True)
    start = time.monotonic()
    judge.pipe(sentences_alone, return_keywords=True)
    return sum(map(len, sentences_alone)) / SAMPLING_RATE / (time.monotonic() - start)


def measure(args: ServingArguments, clips: list, url: str, pid: int) -> list[dict]:
    """A row per load, up to the first that is too much."""
    rows = []
    for number in args.sessions:
        cpu, _ = usage(pid)
        start = time.monotonic()
        heard = asyncio.run(load(url, clips, number, args.seconds, args.seed))
        seconds, (more_cpu, megabytes) = time.monotonic() - start, usage(pid)
        if not heard.delays:
            raise ValueError("No word was heard: give more --seconds.")
        quantiles = {f"p{q}_ms": float(1000 * np.quantile(heard.delays, q / 100)) for q in (50, 95, 99)}
        rows.append(
            {"sessions": number, "said": heard.said, "heard": len(heard.delays), **quantiles}
            | {
                "sound_per_second": heard.seconds / seconds,
                "cores": (more_cpu - cpu) / seconds,
                "megabytes": megabytes,
            }
        )
        if rows[-1]["p95_ms"] > args.most_ms:
            break
    return rows


def markdown(results: dict) -> str:
    """A row per setup and load."""
    lines = ["| setup | sessions | p50 | p95 | p99 | words heard | sound a second | cores | MB |"]
    lines.append("|---|---:|" + "---:|" * 7)
    for setup, rows in results["setups"].items():
        for row in rows:
            delays = " | ".join(f"{row[name]:.0f} ms" for name in ("p50_ms", "p95_ms", "p99_ms"))
            lines.append(
                f"| {setup} | {row['sessions']} | {delays} | {row['heard']} of {row['said']} "
                f"| {row['sound_per_second']:.1f} s | {row['cores']:.2f} | {row['megabytes']:.0f} |"
            )
    lines.append(f"| ceiling: as files | | | | | | {results['ceiling']:.1f} s | | |")
    return "\n".join(lines)


def main(args: ServingArguments) -> dict:
    """Measures, prints the table and writes the results."""
    judge = Judge(load_judge(args.model))
    clips = list(sentences(args.num_clips, args.seed, judge))
    results = {"processor": processor_name(), "cpus": os.cpu_count(), "ceiling": ceiling(judge, clips), "setups": {}}
    for setup in args.setups:
        with serving(args.model, setup) as (url, pid):
            results["setups"][setup] = measure(args, clips, url, pid)
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(ServingArguments, description=__doc__).parse_args_into_dataclasses())
