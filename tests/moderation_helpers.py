"""What the tests of moderation share."""

import pytest
from helpers import tiny_processor, tiny_speech_model

from modeling_toxmtl import ToxicityDetectionPipeline, cli
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.record import describe_judge


SECONDS = (1.0, 0.4, 2.5, 0.7, 1.3, 0.2, 3.1, 0.9)  # of the clips


def run(*argv: str) -> int:
    """The exit status of `toxmtl ARGV`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(argv))
    return stop.value.code


def listener(window_seconds: float = 1.0, batch_size: int = 1) -> Listener:
    pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
    return Listener(
        pipe, describe_judge(pipe, window_seconds=window_seconds, stride_seconds=window_seconds), batch_size
    )


def heard(listener: Listener, clips) -> dict[str, dict]:
    return {item.clip: item.record for group in listener.hear(clips) for item in group}
