"""The packets of one speaker as they come, put on one clock: samples at the model's rate, and silence.

Design choices:
- The sender's clock counts. What was not sent is silence, as in a file with time stamps (`audio.py`): a word is where
  it was said.
- A gap says what it is by its length, as in the data pipeline: up to `GAP` seconds, packets were lost; a longer one is
  a pause of the sender (DTX, push to talk).
- Nothing waits for late packets, for their place has been heard as silence: who reorders packets does so before, in
  a jitter buffer.
- A sender that sends nothing leaves the end of speech unknown. Who sees time pass says so ([`LiveAudio.wait`]); what
  that was too much is taken off the gaps that follow.
- Whatever is not heard as it was sent is a [`Fault`].
"""

import math
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import ArrayLike

from ...audio import LONGEST_GAP, SAMPLING_RATE, SHORTEST_GAP, as_waveform, check_rate, mix_channels
from ...io.opus import GAP, OPUS_CLOCK, is_silent, packet_samples


LONGEST_DELAY = 2.0  # seconds that a packet may be late; beyond, the clock has jumped back
Sound = np.ndarray | int  # float32 mono samples, or how many samples are silent


class Fault(NamedTuple):
    """Something that is not heard as it was sent.

    Args:
        kind: "lost" (packets that never came: silence), "late" (a packet whose place has passed: left out), "damaged"
            (a packet that cannot be decoded: silence) or "clock" (a jump, which is not heard as a gap).
        time: where, in seconds of what is heard.
        seconds: how much.
    """

    kind: str
    time: float
    seconds: float


class LiveAudio:
    """Turns packets into samples at `SAMPLING_RATE`, in order of time; what was wrong with them is in `faults`."""

    def __init__(self) -> None:
        self.position = 0  # samples that were given so far
        self.seconds = 0.0  # up to where packets and pauses reach; what the resampler still holds is behind `position`
        self.faults: list[Fault] = []
        self._next: float | None = None  # the sender's time of what follows
        self._ahead = 0.0  # seconds that were waited, and may be before their time
        self._num_together = 0  # packets without a gap; a single one in a pause is an update of the background
        self._rate: int | None = None  # that the resampler takes
        self._resampler: av.AudioResampler | None = None
        self._decoder: av.CodecContext | None = None

    def pcm(self, samples: ArrayLike, sampling_rate: int, time: float | None = None) -> list[Sound]:
        """What a packet of samples adds.

        Args:
            samples: `(samples,)` of floats from -1 to 1, int16 or int32.
            sampling_rate: in Hz.
            time: of the first sample by the sender's clock, in seconds; None for what follows without a gap.

        Raises:
            ValueError: if the samples are of another shape or type, or not finite, or the rate or time is no such.
        """
        samples = as_waveform(samples)
        check_rate(sampling_rate)
        if (before := self._place(time, len(samples) / sampling_rate)) is None or not len(samples):
            return []
        return self._count([*before, *self._resample(samples, sampling_rate)])

    def opus(self, packet: bytes, time: float | None = None) -> list[Sound]:
        """What an Opus packet adds; `time` is as of [`pcm`]. A packet without content (DTX) is silence."""
        samples = packet_samples(packet)
        if not samples:
            self._fault("damaged", 0.0)
            return []
        seconds = samples / OPUS_CLOCK
        if (before := self._place(time, seconds)) is None:
            return []
        decoded = None if is_silent(packet) else self._decode(packet)
        if decoded is None:
            return self._count([*before, *self._flush(), round(seconds * SAMPLING_RATE)])
        return self._count([*before, *self._resample(decoded, OPUS_CLOCK)])

    def wait(self, seconds: float) -> list[Sound]:
        """Silence of that many seconds, in which no packet came."""
        self.seconds += seconds
        self._ahead += seconds
        self._next = (self._next or 0.0) + seconds
        return self._count([*self._flush(), round(seconds * SAMPLING_RATE)])

    def end(self) -> list[Sound]:
        """What is left of the sound when no more comes."""
        return self._count(self._flush())

    def _place(self, time, seconds) -> list[Sound] | None:
        """What lies between the sound so far and a packet; None if it came too late."""
        if time is not None and not math.isfinite(time):
            raise ValueError(f"`time` is {time}: give seconds of the sender's clock.")
        if self._next is None:
            self._next = time or 0.0
        gap = 0.0 if time is None else time - self._next
        tolerance = min(seconds / 2, SHORTEST_GAP)  # time stamps are rounded
        if not -LONGEST_DELAY - self._ahead <= gap <= LONGEST_GAP:
            self._fault("clock", gap)
            self._next, gap = time, 0.0
        if gap < -tolerance - self._ahead:
            self._fault("late", seconds)
            return None
        before = []
        if gap > tolerance:
            if gap <= GAP and not self._ahead and self._num_together > 1:
                self._fault("lost", gap)
            before, self._next, self._ahead = [*self._flush(), round(gap * SAMPLING_RATE)], time, 0.0
            self.seconds += gap
            self._num_together = 0
        self._num_together += 1
        self._next += seconds
        self.seconds += seconds
        return before

    def _fault(self, kind, seconds):
        self.faults.append(Fault(kind, self.position / SAMPLING_RATE, seconds))

    def _decode(self, packet):
        """Mono samples at `OPUS_CLOCK`; None if that cannot be."""
        if self._decoder is None:
            self._decoder = av.CodecContext.create("opus", "r")
            self._decoder.sample_rate, self._decoder.layout = OPUS_CLOCK, "stereo"  # as a packet may be
        try:
            frames = [frame.to_ndarray() for frame in self._decoder.decode(av.Packet(packet))]
        except av.error.FFmpegError:
            frames = []
        if frames:
            return mix_channels(np.concatenate(frames, axis=1))
        self._fault("damaged", packet_samples(packet) / OPUS_CLOCK)
        return None

    def _resample(self, samples, rate) -> list[np.ndarray]:
        if rate == SAMPLING_RATE:
            return [*self._flush(), samples]
        before = []
        if rate != self._rate:
            before = self._flush()
            self._rate, self._resampler = rate, av.AudioResampler(format="fltp", layout="mono", rate=SAMPLING_RATE)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate = rate
        return before + [chunk.to_ndarray()[0] for chunk in self._resampler.resample(frame)]

    def _flush(self) -> list[np.ndarray]:
        """What the resampler still holds."""
        if self._resampler is None:
            return []
        rest = [chunk.to_ndarray()[0] for chunk in self._resampler.resample(None)]
        self._rate = self._resampler = None
        return rest

    def _count(self, sounds):
        self.position += sum(sound if isinstance(sound, int) else len(sound) for sound in sounds)
        return sounds
