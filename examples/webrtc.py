"""WebRTC: a track in, the same track without its keywords out, and events on the data channel.

    pip install "modeling-toxmtl[serve]" aiortc
    python examples/webrtc.py model_cards/whisper-tiny-en-toxmtl

A page or another peer posts its offer to `http://localhost:8080/offer` as `{"sdp": …, "type": "offer"}` and gets the
answer; of the data channels that it opens, each gets all events as JSON. What it hears is two seconds late, which is
what the judge needs to take a word out before it is heard.

One thread judges for all peers: for more of them than a machine follows, use `toxmtl serve`.
"""

import asyncio
import json
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import uvicorn
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from fastapi import FastAPI

from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.events import Event
from modeling_toxmtl.moderation.live.redaction import DelayLine, LiveRedactor
from modeling_toxmtl.moderation.live.session import ModerationSession


RATE = 48_000  # Hz, of Opus in WebRTC
PAUSE = 1.0  # seconds without a packet after which time passes all the same: a sender with DTX sends nothing


class Channels:
    """The data channels of a peer. Events that come before the first is open wait for it."""

    def __init__(self):
        self._channels, self._waiting = [], []

    def add(self, channel) -> None:
        self._channels.append(channel)
        self.tell(self._waiting)
        self._waiting = []

    def tell(self, events: list[Event]) -> None:
        if not self._channels:
            self._waiting = [*self._waiting, *events]
        for channel in (each for each in self._channels if each.readyState == "open"):
            for event in events:
                channel.send(json.dumps(event.to_dict(), ensure_ascii=False))


class ModeratedTrack(MediaStreamTrack):
    """An audio track without its keywords, some seconds later.

    Args:
        source: the track as it comes, of `RATE`.
        redactor: of its speaker.
        thread: which judges.
        channels: that are told of events.
    """

    kind = "audio"

    def __init__(
        self, source: MediaStreamTrack, redactor: LiveRedactor, thread: ThreadPoolExecutor, channels: Channels
    ):
        super().__init__()
        self._source, self._redactor, self._thread, self._channels = source, redactor, thread, channels
        self._leaving: deque[av.AudioFrame] = deque()
        self._has_ended = False

    async def recv(self) -> av.AudioFrame:
        """The next packet that leaves. Raises MediaStreamError behind the last one."""
        while not self._leaving:
            if self._has_ended:
                self.stop()
                raise MediaStreamError
            packets, events = await asyncio.get_running_loop().run_in_executor(self._thread, await self._next())
            self._leaving.extend(_frame(packet.samples, packet.start) for packet in packets)
            self._channels.tell(events)
        return self._leaving.popleft()

    async def _next(self):
        """What is to be heard next: a packet, that none came, or that none will."""
        try:
            frame = await asyncio.wait_for(self._source.recv(), PAUSE)
        except asyncio.TimeoutError:
            return lambda: self._redactor.wait(PAUSE)
        except MediaStreamError:
            self._has_ended = True
            return self._redactor.finish
        return lambda: self._redactor.feed(_mono(frame), float(frame.pts * frame.time_base))


def _mono(frame):
    """`(samples,)` int16 of a frame, whose channels are interleaved."""
    samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    return np.rint(samples.mean(1)).astype(np.int16)


def _frame(samples, start):
    """A frame that is played at second `start`."""
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(start * RATE)
    return frame


class Moderator:
    """Moderates any number of peers with one model.

    Args:
        judge: which hears.
        how: "beep" or "mute".
    """

    def __init__(self, judge: Judge, how: str = "beep"):
        self.judge, self.how = judge, how
        self._thread = ThreadPoolExecutor(1)
        self._peers: set[RTCPeerConnection] = set()

    async def answer(self, offer: RTCSessionDescription) -> RTCSessionDescription:
        """Takes a peer's offer; its tracks come back moderated."""
        peer, channels = RTCPeerConnection(), Channels()
        self._peers.add(peer)

        @peer.on("track")
        def on_track(track):
            if track.kind == "audio":
                redactor = LiveRedactor(ModerationSession(self.judge, name=track.id), RATE, DelayLine(how=self.how))
                peer.addTrack(ModeratedTrack(track, redactor, self._thread, channels))

        @peer.on("datachannel")
        def on_channel(channel):
            channels.add(channel)

        @peer.on("connectionstatechange")
        async def on_change():
            if peer.connectionState in ("failed", "closed"):
                await peer.close()
                self._peers.discard(peer)

        await peer.setRemoteDescription(offer)
        await peer.setLocalDescription(await peer.createAnswer())
        return peer.localDescription

    async def close(self) -> None:
        """Lets all peers go."""
        await asyncio.gather(*(peer.close() for peer in [*self._peers]))
        self._thread.shutdown()


def create_app(moderator: Moderator) -> FastAPI:
    """Answers offers over HTTP."""
    app = FastAPI()

    @app.post("/offer")
    async def offer(description: dict[str, str]) -> dict[str, str]:
        answer = await moderator.answer(RTCSessionDescription(**description))
        return {"sdp": answer.sdp, "type": answer.type}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Moderator(Judge(load_judge(sys.argv[1])))), port=8080)
