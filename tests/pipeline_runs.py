"""A run of the whole pipeline. Apart from `pipeline_helpers`, which workers import."""

from pathlib import Path

import datasets

from modeling_toxmtl.data import annotate, build, chunk, label, run, transcribe
from modeling_toxmtl.data.recordings import RecordingsArguments
from modeling_toxmtl.data.stages import WorkArguments


def run_all(folder: Path, recordings: Path, output="data", engine="local", labelling=None, **transcribing) -> dict:
    """Every stage in `folder`, with its transcripts if nothing else is said; what `run.main` returns."""
    transcribing = transcribing or {"transcripts": str(folder / "transcripts.jsonl")}
    return run.main(
        RecordingsArguments(str(recordings), files_per_shard=2),
        chunk.ChunkStage(),
        transcribe.TranscribeStage(**transcribing),
        labelling or label.LabelArguments(),
        label.KeywordArguments(),
        annotate.AnnotateArguments(),
        build.BuildArguments(str(folder / output), validation_share=0.2, test_share=0.3),
        WorkArguments(str(folder / "work"), engine=engine, num_proc=1),
    )


def load(folder: Path, tmp_path: Path) -> datasets.DatasetDict:
    """The data set of a folder."""
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def row_of(text: str) -> dict:
    """A transcribed chunk of one phrase."""
    return {"transcript": text, "phrases": [{"text": text}]}
