"""Discord: a bot that judges voice messages and sound files in text channels.

    pip install modeling-toxmtl discord.py
    export DISCORD_TOKEN=…  # of a bot with the intent "message content"
    python examples/discord_bot.py model_cards/whisper-tiny-en-toxmtl

What it cannot enter: voice channels and calls. Since March 2026, Discord encrypts them from end to end (DAVE) and
refuses who does not speak that protocol (close code 4017); discord.py gives bots no sound of others, and a bot that
reads it all the same must be a member of the encrypted group, whom each speaker sees. Stage channels are excepted.
Moderation of such calls belongs into the client, before it encrypts. Voice messages are files, and are not encrypted
from end to end.

It has been tested on messages made up for the test, and not against Discord.
"""

import asyncio
import os
import sys
from typing import Any

import discord

from modeling_toxmtl.moderation.hearing import CLIP_ERRORS, load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.record import make_record
from modeling_toxmtl.moderation.records import audio_hash


MOST_BYTES = 10_000_000
MARK = "⚠️"


def record_of(judge: Judge, name: str, audio: bytes) -> dict[str, Any]:
    """The record of a file. Raises ValueError if it cannot be heard."""
    rows = judge.hear(list(judge.windows(audio)))
    return make_record(name, audio_hash(audio), judge.verdict(rows), judge.description)


def summary(record: dict[str, Any]) -> str:
    """What people are told of a decision: kinds of violation, and when, but not the words again."""
    places = ", ".join(f"{word['start']:.1f} s" for word in record["keywords"])
    return f"{', '.join(record['violations'])}" + f" (at {places})" * bool(places)


class Bot(discord.Client):
    """Marks messages whose sound violates something, and answers why.

    Args:
        judge: which hears.
    """

    def __init__(self, judge: Judge):
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__(intents=intents)
        self.judge = judge
        self._turn = asyncio.Lock()  # one clip at a time

    async def on_message(self, message: discord.Message) -> None:
        """Judges what is attached to a message."""
        for attachment in message.attachments:
            is_sound = (attachment.content_type or "").startswith("audio/")
            if is_sound and attachment.size <= MOST_BYTES:
                await self._judge(message, attachment)

    async def _judge(self, message, attachment):
        audio = await attachment.read()
        async with self._turn:
            try:
                record = await asyncio.to_thread(record_of, self.judge, attachment.filename, audio)
            except CLIP_ERRORS:
                return
        if record["violations"]:
            await message.add_reaction(MARK)
            await message.reply(summary(record))


if __name__ == "__main__":
    Bot(Judge(load_judge(sys.argv[1]))).run(os.environ["DISCORD_TOKEN"])
