"""What thousands of sessions, opened and closed, leave behind in a service: memory, open descriptors and threads.

    python -m benchmarks.session_leaks --model model_cards/whisper-tiny-en-toxmtl

`toxmtl serve` runs on loopback, and is sent pieces of the example clips, in PCM of two rates and in Opus. Sessions end
well, are closed or break off without a word, or send what is no packet.
"""

import asyncio
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks import write_results
from benchmarks.serving import serving
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio, resample
from modeling_toxmtl.io.opus import FRAME_SECONDS, OPUS_CLOCK, encode_dtx


EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
FORMATS = {"pcm16": SAMPLING_RATE, "pcm16&rate=48000": OPUS_CLOCK, "opus": SAMPLING_RATE}
ENDS = ("end", "close", "break off", "garbage")
SHORTEST, LONGEST = 0.2, 1.5  # seconds of sound; the latest seconds are heard apart from 1 s on
AT_ONCE = 8  # sessions
BIT_RATE = 24_000  # of Opus


@dataclass
class SessionLeaksArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    sessions: int = field(default=10_000, metadata={"help": "How many are opened and closed."})
    every: int = field(default=1_000, metadata={"help": "Sessions after which is measured what the service holds."})
    seed: int = field(default=0, metadata={"help": "Of sound, formats and ends."})
    results_file: str = field(
        default="benchmarks/results/session_leaks.json", metadata={"help": "Where the figures go, as JSON."}
    )


def packets(samples: np.ndarray, form: str) -> Iterator[bytes]:
    """Sound at `SAMPLING_RATE` as a client sends it, 20 ms each."""
    rate = FORMATS[form]
    if form == "opus":
        yield from encode_dtx(samples, rate, BIT_RATE).packets
        return
    content = (resample(samples, SAMPLING_RATE, rate) * 32767).astype("<i2").tobytes()
    size = 2 * round(FRAME_SECONDS * rate)
    yield from (content[start : start + size] for start in range(0, len(content), size))


async def talk(url: str, speech: np.ndarray, rng: np.random.Generator) -> None:
    """A session of any kind."""
    length = round(rng.uniform(SHORTEST, LONGEST) * SAMPLING_RATE)
    start = rng.integers(len(speech) - length)
    form, end = rng.choice(list(FORMATS)), rng.choice(ENDS)
    async with connect(f"{url}?format={form}") as connection:
        with suppress(ConnectionClosed):
            for packet in packets(speech[start : start + length], form):
                await connection.send(packet)
            if end == "break off":
                connection.transport.abort()
            elif end == "garbage":
                await connection.send(rng.bytes(333))  # to Opus, this may be damaged sound
                await connection.send("hello")
            elif end == "end":
                await connection.send('{"end": true}')
            if end != "close":
                async for _ in connection:
                    pass


async def open_and_close(url: str, speech: np.ndarray, numbers: range, seed: int) -> None:
    """A session for each number, some at once."""
    left = iter(numbers)

    async def client():
        for number in left:
            await talk(url, speech, np.random.default_rng([seed, number]))

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


def metrics(url: str) -> str:
    """Of the service whose sessions are at `url`, once all are over."""
    address = url.replace("ws://", "http://").replace("/v1/stream", "/metrics")
    while True:
        with urllib.request.urlopen(address) as answer:
            text = answer.read().decode()
        if "toxmtl_sessions 0.0\n" in text:
            return text


def held(pid: int) -> dict[str, float]:
    """What a process holds."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "megabytes": int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


def measure(args: SessionLeaksArguments, url: str, pid: int) -> dict:
    """A row for each `every` sessions, and how all ended, by close code."""
    speech, rows = np.concatenate([load_audio(path) for path in sorted(EXAMPLES.glob("*.ogg"))]), []
    for start in range(0, args.sessions, args.every):
        numbers = range(start, min(start + args.every, args.sessions))
        asyncio.run(open_and_close(url, speech, numbers, args.seed))
        text = metrics(url)
        rows.append({"sessions": numbers.stop, **held(pid)})
        print(rows[-1], flush=True)
    ends = re.findall(r'^toxmtl_session_ends_total\{code="(\d+)"\} (\S+)', text, re.MULTILINE)
    return {"rows": rows, "ends": {code: round(float(count)) for code, count in ends}}


def markdown(results: dict) -> str:
    """A row for each measurement."""
    lines = ["| sessions so far | MB | descriptors | threads |", "|---:|---:|---:|---:|"]
    lines += ["| {sessions} | {megabytes:.1f} | {descriptors} | {threads} |".format(**row) for row in results["rows"]]
    return "\n".join(lines)


def main(args: SessionLeaksArguments) -> dict:
    """Measures, prints the table and writes the results."""
    with serving(args.model, "1") as (url, pid):
        results = measure(args, url, pid)
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(SessionLeaksArguments, description=__doc__).parse_args_into_dataclasses())
