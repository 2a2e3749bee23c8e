"""How many live sessions a service holds: from the end of a word to its event, with more and more sessions at once.

    python -m benchmarks.serving --model model_cards/whisper-tiny-en-toxmtl

A server is started on loopback, and clients in a process of their own send it sentences of the demo's test split, in
packets of 20 ms as time passes, over and over with pauses between them. The delay of a word is that from when its last
sample was sent to when its first event came, the time that the model takes included. A load is held while its 95th
percentile is under `--most_ms`, and the curve ends where it is not.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser
from websockets.asyncio.client import connect

from benchmarks import write_results
from benchmarks.live import PACKET, sentences
from modeling_toxmtl.audio import SAMPLING_RATE
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.moderate import load_judge
from modeling_toxmtl.moderation.serving.limits import Limits
from modeling_toxmtl.moderation.serving.server import ServeArguments, make_server


PAUSE = 2.0  # seconds between two sentences, beside the silence around them
START_SECONDS = 600.0


@dataclass
class ServingArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    sessions: list[int] = field(default_factory=lambda: [1, 5, 10, 20, 50], metadata={"help": "Sessions at once."})
    seconds: float = field(default=60.0, metadata={"help": "For which each load is kept."})
    most_ms: float = field(default=700.0, metadata={"help": "95th percentile of the delay that is still good."})
    num_clips: int = field(default=40, metadata={"help": "Number of sentences."})
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

    async def read(connection):
        async for text in connection:
            event = json.loads(text)
            if event["event"] != "keyword" or event["state"] == "withdrawn":
                continue
            for word, sent in open_words:
                if word.keyword == event["keyword"] and event["start"] < word.end and word.start < event["end"]:
                    heard.delays.append(time.monotonic() - sent)
                    open_words.remove((word, sent))
                    break

    await asyncio.sleep(rng.uniform(0, PAUSE))
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


def serve(model: str, port: int) -> None:
    """The server, in a process of its own."""
    make_server(ServeArguments(model, port=port), Limits(max_sessions=10_000, rate=1e6)).run()


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and MB of memory of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(port: int) -> None:
    """Until the server takes connections. Raises TimeoutError if it does not."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(1.0)
        else:
            return
    raise TimeoutError(f"The server does not take connections after {START_SECONDS:.0f} s.")


def measure(args: ServingArguments, clips: list, port: int, pid: int) -> list[dict]:
    """A row per load, up to the first that is too much."""
    rows = []
    for number in args.sessions:
        cpu, _ = usage(pid)
        start = time.monotonic()
        heard = asyncio.run(load(f"ws://127.0.0.1:{port}/v1/stream", clips, number, args.seconds, args.seed))
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
    """A row per load."""
    lines = ["| sessions | p50 | p95 | p99 | words heard | sound a second | cores | MB |", "|---:|" + "---:|" * 7]
    for row in results["loads"]:
        delays = " | ".join(f"{row[name]:.0f} ms" for name in ("p50_ms", "p95_ms", "p99_ms"))
        lines.append(
            f"| {row['sessions']} | {delays} | {row['heard']} of {row['said']} | {row['sound_per_second']:.1f} s "
            f"| {row['cores']:.2f} | {row['megabytes']:.0f} |"
        )
    return "\n".join(lines)


def main(args: ServingArguments) -> dict:
    """Measures, prints the table and writes the results."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(args.model, port))
    server.start()
    try:
        clips = list(sentences(args.num_clips, args.seed, Judge(load_judge(args.model))))
        wait_for(port)
        results = {"cpus": os.cpu_count(), "loads": measure(args, clips, port, server.pid)}
    finally:
        server.terminate()
        server.join()
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(ServingArguments, description=__doc__).parse_args_into_dataclasses())
