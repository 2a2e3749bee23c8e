"""`examples/discord_bot.py`, on messages that are made up."""

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge


pytest.importorskip("discord", reason="discord.py is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def discord_bot():
    spec = importlib.util.spec_from_file_location("discord_bot", ROOT / "examples" / "discord_bot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Message:
    """With attachments: pairs of a type and content."""

    def __init__(self, *attachments):
        self.marks, self.replies = [], []
        self.attachments = [
            SimpleNamespace(content_type=kind, size=len(content), filename="voice.ogg", read=self._reader(content))
            for kind, content in attachments
        ]

    def _reader(self, content):
        async def read():
            return content

        return read

    async def add_reaction(self, mark):
        self.marks.append(mark)

    async def reply(self, text):
        self.replies.append(text)


def test_voice_messages_are_judged_and_nothing_else(discord_bot):
    insult, harmless = (
        (ROOT / "docs" / "examples" / f"{name}.ogg").read_bytes() for name in ("insult", "sound_alikes")
    )
    messages = [
        Message(("audio/ogg", insult)),
        Message(("audio/ogg", harmless)),
        Message(("image/png", insult), (None, insult), ("audio/ogg", b"no sound")),
        Message(("audio/ogg", insult + bytes(discord_bot.MOST_BYTES))),
    ]

    async def run():
        bot = discord_bot.Bot(Judge(load_judge(str(ROOT / "model_cards" / "whisper-tiny-en-toxmtl"))))
        for message in messages:
            await bot.on_message(message)

    asyncio.run(run())
    assert [message.replies for message in messages] == [["Bullying (at 1.1 s, 2.4 s)"], [], [], []]
    assert [len(message.marks) for message in messages] == [1, 0, 0, 0]
