"""Judges clips from the command line: `python -m modeling_toxmtl MODEL CLIP [CLIP …]`."""

import argparse
import sys

from . import ToxicityDetectionPipeline, ToxicityMTLProcessor, WavLMForToxicityMTL


def format_verdict(clip: str, verdict: dict) -> str:
    """A clip's violations, all labels with a bar each, and its keywords with times, as far as the model has them."""
    lines = [clip]
    if verdict["violations"] is not None:
        lines = [f"{clip}: {', '.join(verdict['violations']) or 'no violation'}"]
    for item in verdict["labels"] or ():
        lines.append(f"  {item['label']:<18} {item['score']:6.1%}  {'█' * round(20 * item['score'])}")
    for word in verdict["keywords"] or ():
        span = f"{word['start']:6.2f}–{word['end']:.2f} s"
        lines.append(f"  {span:<18} {word['keyword']!r} ({', '.join(word['labels'])}), score {word['score']:.2f}")
    if verdict["keywords"] == []:
        lines.append("  no toxic keyword heard")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Prints a verdict per clip; returns 1 if some clip could not be judged."""
    parser = argparse.ArgumentParser(prog="python -m modeling_toxmtl", description=__doc__)
    parser.add_argument("model", help="folder or Hub id of a model of this package")
    parser.add_argument("clips", nargs="+", metavar="clip", help="audio file in any format that FFmpeg reads")
    args = parser.parse_args(argv)
    moderate = ToxicityDetectionPipeline(
        WavLMForToxicityMTL.from_pretrained(args.model), ToxicityMTLProcessor.from_pretrained(args.model)
    )
    failed = 0
    for clip in args.clips:
        try:
            print(format_verdict(clip, moderate(clip, return_keywords=True)))
        except (ValueError, OSError) as error:
            print(f"{clip}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
