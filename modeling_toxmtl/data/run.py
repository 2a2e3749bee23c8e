"""The whole data pipeline: recordings in, data set out (paper, section 2).

    toxmtl data run raw_audio --output-dir my_clips

The same command goes on where it was stopped; a changed setting repeats the stages from the changed one on.
"""

from . import annotate, build, chunk, label, transcribe
from .recordings import RecordingsArguments
from .stages import WorkArguments
from .statistics import render_hours


def main(
    recordings: RecordingsArguments,
    chunk_stage: chunk.ChunkStage,
    transcribe_stage: transcribe.TranscribeStage,
    label_args: label.LabelArguments,
    keywords: label.KeywordArguments,
    annotate_args: annotate.AnnotateArguments,
    build_args: build.BuildArguments,
    work: WorkArguments,
) -> dict[str, dict]:
    """Runs all stages; returns `clips` and `hours` of each split."""
    # what any of them lacks is said before the hours that the stages take
    transcribe_stage.check()
    label.LabelStage(label_args, keywords), annotate.AnnotateStage(annotate_args, keywords)
    build.check(build_args)
    manifests = [
        chunk.run(recordings, chunk_stage, work),
        transcribe.run(transcribe_stage, work),
        label.run(label_args, keywords, work),
        annotate.run(annotate_args, keywords, work),
    ]
    statistics = build.run(build_args, work)
    for manifest in manifests:
        print(f"{manifest.stage}: {manifest.num_rows} rows, {len(manifest.rejected)} in quarantine")
    print(f"Wrote {build_args.output_dir}, hours by label:\n{render_hours(statistics)}")
    return statistics
