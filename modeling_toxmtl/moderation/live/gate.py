"""Leaves out what is no speech, where a sender sends its noise, too: no DTX, no push to talk.

    session = ModerationSession(judge, gate=SpeechGate(SileroVad()))

Without a gate, silence alone ends speech (`listening.py`): no speech is lost, but a fan is heard for as long as it
runs.

Design choices:
- What the detector takes for no speech becomes silence, and the session goes on from there: it closes its segments as
  ever, and hears nothing else.
- A margin before and behind speech is heard, too. What may become the margin before it is held back: in noise, the
  session is that much late; in speech, it is not.
- The detector reads 32 ms at once, on one thread: it must cost far less than the model that it spares.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...audio import SAMPLING_RATE
from ...listening import MARGIN
from .audio import Sound


SPEECH, NO_SPEECH = 0.5, 0.35  # probability at which speech begins, and below which it ends
FRAME = 512  # samples that a detector reads at once
CONTEXT = 64  # samples before them that Silero reads again
DETECTOR = "silero_vad_16k_op15.onnx"  # in the package silero-vad


class SileroVad:
    """The probability that a frame is speech, by Silero VAD in ONNX Runtime.

    Args:
        path: of its ONNX file for 16 kHz; by default that of the package silero-vad, which is not imported.

    Raises:
        ImportError: if onnxruntime or, without a path, silero-vad is not installed.
    """

    def __init__(self, path: str | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            path or _packaged_detector(), options, providers=["CPUExecutionProvider"]
        )
        self.reset()

    def reset(self) -> None:
        """Forgets what came before."""
        self._state = np.zeros((2, 1, 128), dtype=np.float32)
        self._context = np.zeros(CONTEXT, dtype=np.float32)

    def __call__(self, frame: np.ndarray) -> float:
        """Of the next frame, `(FRAME,)` float32 at `SAMPLING_RATE`."""
        heard = np.concatenate([self._context, frame])
        inputs = {"input": heard[None], "state": self._state, "sr": np.array(SAMPLING_RATE, dtype=np.int64)}
        probability, self._state = self._session.run(None, inputs)
        self._context = heard[-CONTEXT:]
        return float(probability[0, 0])


def _packaged_detector():
    from importlib.util import find_spec

    if (package := find_spec("silero_vad")) is None:
        raise ImportError('A speech gate needs `pip install "modeling-toxmtl[gate]"`, or the path of a detector.')
    return str(Path(package.origin).parent / "data" / DETECTOR)


class SpeechGate:
    """Lets speech pass, and makes silence of the rest; of one speaker.

    Args:
        detector: which is called with frames in order, `(FRAME,)`, and has a method `reset`.
        margin: seconds before and behind speech that pass, too.
    """

    def __init__(self, detector: Callable[[np.ndarray], float], margin: float = MARGIN):
        self.detector = detector
        self._margin = round(margin * SAMPLING_RATE / FRAME)  # frames
        self._rest = np.zeros(0, dtype=np.float32)  # less than a frame
        self._held: deque[np.ndarray] = deque()
        self._left = 0  # frames that pass yet, unless speech goes on
        self._is_speech = False

    def feed(self, sounds: list[Sound]) -> list[Sound]:
        """What becomes of sound and silence that comes; together, all that it gives is as long as all that it gets."""
        passed: list[Sound] = []
        for sound in sounds:
            if isinstance(sound, int):
                passed += [*self.end(), sound]
                continue
            samples = np.concatenate([self._rest, sound])
            whole = len(samples) // FRAME * FRAME
            self._rest = samples[whole:]
            for frame in samples[:whole].reshape(-1, FRAME):
                passed += self._judge(frame)
        return passed

    def end(self) -> list[Sound]:
        """What is held back, when silence or nothing follows."""
        held, self._held = sum(map(len, self._held)), deque()
        passed = [held] if held else []
        if len(self._rest):
            passed.append(self._rest if self._left else len(self._rest))
        self._rest, self._left, self._is_speech = self._rest[:0], 0, False
        self.detector.reset()
        return passed

    def _judge(self, frame):
        self._is_speech = self.detector(frame) >= (NO_SPEECH if self._is_speech else SPEECH)
        if self._is_speech:
            passed, self._held, self._left = [*self._held, frame], deque(), self._margin
            return passed
        if self._left:
            self._left -= 1
            return [frame]
        self._held.append(frame)
        return [len(self._held.popleft())] if len(self._held) > self._margin else []
