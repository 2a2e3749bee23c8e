"""`examples/livekit_agent.py`, in a room that is made up."""

import asyncio
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from live_helpers import HearingJudge, chatter, listen, silence, word

from modeling_toxmtl.moderation.live.session import ModerationSession


rtc = pytest.importorskip("livekit.rtc", reason="livekit is not installed")
PATH = Path(__file__).parents[2] / "examples" / "livekit_agent.py"
SOUND = np.concatenate([chatter(1), word(), chatter(1), silence(2)])


@pytest.fixture(scope="module")
def livekit_agent():
    spec = importlib.util.spec_from_file_location("livekit_agent", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stream:
    """Of `rtc.AudioFrameEvent`s of 10 ms, in LiveKit's own frames."""

    def __init__(self, track, sample_rate, num_channels):
        assert (sample_rate, num_channels) == (16_000, 1)
        self.sound, self.is_closed = np.rint(32767 * track.sound).astype(np.int16), False
        track.stream = self

    async def __aiter__(self):
        for start in range(0, len(self.sound), 160):
            samples = self.sound[start : start + 160]
            yield rtc.AudioFrameEvent(rtc.AudioFrame(samples.tobytes(), 16_000, 1, len(samples)))

    async def aclose(self):
        self.is_closed = True


class Room:
    def __init__(self):
        self.sent, self.local_participant = [], self

    def on(self, event, handler):
        setattr(self, event, handler)

    async def publish_data(self, message, topic):
        assert topic == "moderation"
        self.sent.append(json.loads(message))


def track(sound, kind=None):
    return SimpleNamespace(kind=rtc.TrackKind.KIND_AUDIO if kind is None else kind, sound=sound)


def test_each_speaker_of_a_room_has_a_session(livekit_agent):
    judge, room = HearingJudge(), Room()
    tracks = [track(SOUND), track(silence(1)), track(SOUND, rtc.TrackKind.KIND_VIDEO)]

    async def run():
        agent = livekit_agent.Agent(room, judge, Stream)
        for number, each in enumerate(tracks):
            room.track_subscribed(each, None, SimpleNamespace(identity=f"player {number}"))
        await agent.finish()

    asyncio.run(run())
    expected = listen(ModerationSession(judge, name="player 0"), np.rint(32767 * SOUND).astype(np.int16))
    words = [(event["keyword"], event["state"]) for event in room.sent if event["event"] == "keyword"]
    assert words == [(event.keyword, event.state) for event in expected if event.event == "keyword"]
    (segment,) = [event for event in room.sent if event["event"] == "segment"]
    (same,) = [event for event in expected if event.event == "segment"]
    assert segment["record"] == json.loads(json.dumps(same.record)) and segment["record"]["clip"] == "player 0#0"
    assert {event["speaker"] for event in room.sent} == {"player 0"}  # silence says nothing, video is not heard
    assert tracks[0].stream.is_closed and tracks[1].stream.is_closed and not hasattr(tracks[2], "stream")
