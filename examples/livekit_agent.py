"""LiveKit: a participant that hears the others and says what it heard, as data messages to the room.

    pip install modeling-toxmtl livekit
    export LIVEKIT_URL=wss://… LIVEKIT_TOKEN=…  # of a participant that may subscribe, and publish data
    python examples/livekit_agent.py model_cards/whisper-tiny-en-toxmtl

Each event of each speaker is sent as JSON on the topic `moderation`, with the speaker's identity; what follows from it
(a note, a mute by the server's API) is for who receives it. It has been tested against a room made up for the test,
and not against a server. A room with end-to-end encryption is heard only with its key
(`rtc.RoomOptions(encryption=…)`).
"""

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from livekit import rtc

from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.events import Event
from modeling_toxmtl.moderation.live.session import ModerationSession


RATE = 16_000  # Hz, which LiveKit is asked for
TOPIC = "moderation"


class Agent:
    """Hears all speakers of a room, each in a session of their own.

    Args:
        room: connected or not; its handlers are set here.
        judge: which hears.
        stream_of: the sound of a track, an asynchronous iterator of `rtc.AudioFrameEvent`.
    """

    def __init__(self, room: rtc.Room, judge: Judge, stream_of=rtc.AudioStream):
        self.room, self.judge, self._stream_of = room, judge, stream_of
        self._thread = ThreadPoolExecutor(1)  # judges for all
        self._tasks: set[asyncio.Task] = set()
        room.on("track_subscribed", self._on_track)

    def _on_track(self, track, publication, participant):
        """LiveKit's handlers are no coroutines."""
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            task = asyncio.create_task(self._hear(track, participant.identity))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _hear(self, track, identity):
        session, loop = ModerationSession(self.judge, name=identity), asyncio.get_running_loop()
        stream = self._stream_of(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16)
                await self._tell(identity, await loop.run_in_executor(self._thread, session.feed, samples, RATE))
        finally:
            await stream.aclose()
        await self._tell(identity, await loop.run_in_executor(self._thread, session.finish))

    async def _tell(self, identity: str, events: list[Event]):
        for event in events:
            message = json.dumps({"speaker": identity, **event.to_dict()}, ensure_ascii=False)
            await self.room.local_participant.publish_data(message, topic=TOPIC)

    async def finish(self) -> None:
        """Waits until all tracks have ended, and what came of them is told."""
        while self._tasks:
            await asyncio.gather(*self._tasks)


async def main(model: str) -> None:
    """Stays until the room lets it go."""
    room, gone = rtc.Room(), asyncio.Event()
    room.on("disconnected", lambda *reason: gone.set())
    agent = Agent(room, Judge(load_judge(model)))
    await room.connect(os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])
    await gone.wait()
    await agent.finish()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
