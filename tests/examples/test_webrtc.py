"""`examples/webrtc.py`, over loopback."""

import asyncio
import importlib.util
import json
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from live_helpers import HearingJudge, chatter, silence, word

from modeling_toxmtl.moderation.live.events import SpeechStarted


pytest.importorskip("aiortc", reason="aiortc is not installed")
pytest.importorskip("fastapi", reason="fastapi is not installed")
import av  # noqa: E402
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from aiortc.mediastreams import MediaStreamError  # noqa: E402


RATE, PACKET = 48_000, 960
PATH = Path(__file__).parents[2] / "examples" / "webrtc.py"


@pytest.fixture(scope="module")
def webrtc():
    spec = importlib.util.spec_from_file_location("webrtc", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Microphone(MediaStreamTrack):
    """Sends `(samples,)` of 16 kHz as 48 kHz in packets of 20 ms, each when its time has come."""

    kind = "audio"

    def __init__(self, samples):
        super().__init__()
        self._samples = np.rint(32767 * np.repeat(samples, 3)).astype(np.int16)
        self._sent, self._begin = 0, None

    async def recv(self):
        self._begin = self._begin or time.monotonic()
        await asyncio.sleep(max(self._begin + self._sent / RATE - time.monotonic(), 0))
        samples = self._samples[self._sent : self._sent + PACKET]
        if not len(samples):
            self.stop()
            raise MediaStreamError
        frame = av.AudioFrame.from_ndarray(np.pad(samples, (0, PACKET - len(samples)))[None], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self._sent
        self._sent += PACKET
        return frame


async def listen(track, num_seconds):
    """`(samples,)` that a track brings, mono, from its first packet on."""
    heard, first = np.zeros(round(num_seconds * RATE)), None
    while True:
        try:
            frame = await asyncio.wait_for(track.recv(), 10)
        except (MediaStreamError, asyncio.TimeoutError):
            return heard
        first = frame.pts if first is None else first
        samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(1) / 32767
        place = frame.pts - first
        if place + len(samples) >= len(heard):
            return heard
        heard[place : place + len(samples)] = samples


async def call(webrtc, samples, num_seconds):
    """What a caller hears of himself, and the events that he is told."""
    moderator, caller, told = webrtc.Moderator(HearingJudge(), how="mute"), RTCPeerConnection(), []
    channel, back = caller.createDataChannel("events"), asyncio.get_running_loop().create_future()
    channel.on("message", lambda message: told.append(json.loads(message)))
    caller.on("track", back.set_result)
    caller.addTrack(Microphone(samples))
    await caller.setLocalDescription(await caller.createOffer())
    offer = RTCSessionDescription(caller.localDescription.sdp, caller.localDescription.type)
    await caller.setRemoteDescription(await moderator.answer(offer))
    try:
        return await listen(await asyncio.wait_for(back, 30), num_seconds), told
    finally:
        await caller.close()
        await moderator.close()


def test_a_word_is_muted_on_its_way_and_the_caller_is_told(webrtc):
    """Sound without words comes through; where the word was, there is nothing."""
    sound = np.concatenate([2 * chatter(1.5), word(1000, 0.4), 2 * chatter(1.5), silence(4)])
    heard, told = asyncio.run(call(webrtc, sound, 3.0))
    levels = np.sqrt((heard[: 3 * RATE].reshape(-1, RATE // 20) ** 2).mean(1))  # of each 50 ms
    assert levels.max() < 0.2  # of the word, which is six times as loud as what is around it, nothing is left
    muted = np.flatnonzero(levels[:50] < 1e-3)
    assert len(muted) >= 8 and np.count_nonzero(levels > 0.02) >= 40
    words = [event for event in told if event["event"] == "keyword"]
    assert {event["keyword"] for event in words} == {"damn"} and words[0]["state"] == "provisional"
    assert words[0]["end"] - words[0]["start"] == pytest.approx(0.4, abs=0.05)
    assert told[0]["event"] == "speech started" and any(event["event"] == "violation" for event in told)


def test_events_wait_for_a_channel_and_none_is_sent_to_one_that_is_closed(webrtc):
    sent, channels, event = [], webrtc.Channels(), SpeechStarted(1.0, 0.5)
    channel = SimpleNamespace(send=sent.append, readyState="open")
    channels.tell([event])
    channels.add(channel)
    channels.tell([event])
    channel.readyState = "closed"
    channels.tell([event])
    assert [json.loads(text)["start"] for text in sent] == [0.5, 0.5]
