"""Time and quality of the three decoders on the same keyword logits.

    python -m benchmarks.decoding --model runs/demo --dataset demo_data

Design choices:
- The model runs once; every decoder reads the same logits, with the processor's language model and settings. Those of
  one decoder can be replaced (`--settings '{"pyctcdecode": {"alpha": 0.3}}'`): each has its own optimum.
- Time is processor time of one thread, so that other programs on the machine do not count. Decoders take turns, clip
  by clip and round by round, and the median over the rounds counts. It is given per 15 s of audio and as real-time
  factor.
- Flat posteriors, random ones that favour no character for long, are the worst case of a beam search.
"""

import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from tqdm import tqdm
from transformers import AutoModelForAudioClassification, HfArgumentParser, PreTrainedConfig

from benchmarks import write_results
from modeling_toxmtl import ToxicityMTLProcessor
from modeling_toxmtl.decoders import log_softmax
from modeling_toxmtl.decoding import DECODERS, DecodingSettings
from modeling_toxmtl.training.evaluation import evaluate_batches, predict_batches
from modeling_toxmtl.training.tuning import COLUMNS, load_split


@dataclass
class DecodingArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    dataset: str = field(default="demo_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    split: str = field(default="test", metadata={"help": "Split to measure on."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    timed_clips: int = field(default=100, metadata={"help": "Windows to time; quality is over all."})
    rounds: int = field(default=5, metadata={"help": "Times that each is timed."})
    language_model: str | None = field(default=None, metadata={"help": "Language model; default: the model's own."})
    settings: str = field(
        default="{}", metadata={"help": "By decoder, settings to replace, as JSON; others are the processor's."}
    )
    results_file: str = field(
        default="benchmarks/results/decoding.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


def variants(settings: DecodingSettings, overrides: dict[str, dict], has_language_model: bool) -> dict:
    """Name and settings of what is compared: each decoder, and those with a language model also without."""
    chosen = {}
    for decoder in DECODERS:
        own = replace(settings, decoder=decoder, **overrides.get(decoder, {}))
        if decoder == "greedy":
            chosen[decoder] = own
            continue
        if has_language_model:
            chosen[f"{decoder} + LM"] = own
        chosen[decoder] = replace(own, alpha=0.0)
    return chosen


def time_decoders(
    processor: ToxicityMTLProcessor, config: PreTrainedConfig, chosen: dict, clips: list[np.ndarray], rounds: int
) -> dict[str, dict]:
    """Seconds of processor time for all clips, the median over rounds: of each variant's decoder alone, from log
    posteriors to words, and of the whole call, from logits to keywords."""
    alone, whole = ({name: [0.0] * (rounds + 1) for name in chosen} for _ in range(2))
    for round_number in tqdm(range(rounds + 1), desc="Timing"):  # the first builds decoders and fills caches
        for clip in clips:
            for name, settings in chosen.items():
                processor.decoding = settings
                decoder, log_probs = processor.decoder(), log_softmax(clip)
                start = time.process_time()
                decoder.decode(log_probs)
                middle = time.process_time()
                processor.decode_keywords(clip[None], config)
                alone[name][round_number] += middle - start
                whole[name][round_number] += time.process_time() - middle
    return {
        name: {"alone": statistics.median(alone[name][1:]), "whole": statistics.median(whole[name][1:])}
        for name in chosen
    }


def flat_logits(num_clips: int, frames: int, characters: int, seed: int = 0) -> list[np.ndarray]:
    """`(frames, characters)` logits of unit variance without any structure."""
    generator = np.random.default_rng(seed)
    return list(generator.normal(size=(num_clips, frames, characters)).astype(np.float32))


def markdown(rows: dict[str, dict]) -> str:
    """A row per variant."""
    header = ["Decoder", *COLUMNS.values(), "ms per 15 s", "whole call", "RTF", "flat: ms per 15 s"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for name, row in rows.items():
        cells = [f"{row[column]:.2f}" if row.get(column) is not None else "-" for column in COLUMNS]
        cells += [f"{row['ms_per_15s']:.1f}", f"{row['whole_call_ms_per_15s']:.1f}"]
        cells += [f"{row['real_time_factor']:.5f}", f"{row['flat_ms_per_15s']:.1f}"]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def main(args: DecodingArguments) -> dict[str, dict]:
    """Measures, prints the table and writes the results."""
    model = AutoModelForAudioClassification.from_pretrained(args.model)
    processor = ToxicityMTLProcessor.from_pretrained(args.model)
    if args.language_model:
        processor.language_model = args.language_model
    chosen = variants(processor.decoding, json.loads(args.settings), processor.language_model is not None)
    dataset = load_split(processor, model.config, args.dataset, args.dataset_name, args.split, args.max_samples)
    batches = predict_batches(model, dataset)
    rows = {}
    for name, settings in tqdm(chosen.items(), desc="Decoding"):
        processor.decoding = settings
        metrics = evaluate_batches(dataset, batches).metrics
        rows[name] = {column: metrics.get(column) for column in COLUMNS} | {"settings": asdict(settings)}

    windows = [logits.numpy() for batch in batches for logits in batch.predictions[-1].float()]
    frames = [model.config.num_frames(length) for length in dataset.lengths]
    clips = [logits[:count] for logits, count in zip(windows, frames, strict=True)][: args.timed_clips]
    seconds_per_frame = model.config.inputs_to_logits_ratio / processor.feature_extractor.sampling_rate
    frames_of_15s = round(15 / seconds_per_frame)
    flat = flat_logits(3, frames_of_15s, clips[0].shape[1])
    audio = sum(map(len, clips)) * seconds_per_frame
    times = time_decoders(processor, model.config, chosen, clips, args.rounds)
    flat_times = time_decoders(processor, model.config, chosen, flat, args.rounds)
    for name, row in rows.items():
        row["ms_per_15s"] = 15e3 * times[name]["alone"] / audio
        row["whole_call_ms_per_15s"] = 15e3 * times[name]["whole"] / audio
        row["real_time_factor"] = times[name]["whole"] / audio
        row["flat_ms_per_15s"] = 1e3 * flat_times[name]["alone"] / len(flat)
    write_results(args, rows, markdown(rows), versions=versions(), processor=platform.processor())
    return rows


def versions() -> dict[str, str | None]:
    """Of what decodes."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "kenlm", "pyctcdecode"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


if __name__ == "__main__":
    main(*HfArgumentParser(DecodingArguments, description=__doc__).parse_args_into_dataclasses())
