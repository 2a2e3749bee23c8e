import asyncio
import time

import numpy as np
from helpers import wav
from live_helpers import NamingJudge, chatter, word

from modeling_toxmtl.moderation.record import describe_keywords
from modeling_toxmtl.moderation.serving.service import ROUND, Service


BANANA = {"filler": "good", "language": "en", "keywords": [{"keyword": "banana", "labels": ["Other"]}]}
INSULT = np.concatenate([chatter(1), word(), chatter(1)])


class Slow(NamingJudge):
    def hear(self, windows):
        time.sleep(0.1)
        return super().hear(windows)


def test_a_clip_is_heard_for_the_list_that_its_record_names():
    """Though another comes while it is heard, which the next clip is heard for."""

    async def run(judge):
        service = Service(judge)
        service.queue.start()
        clip = wav(np.tile(INSULT, 2 * ROUND))
        first = asyncio.create_task(service.moderate(clip, "first"))
        while judge.num_heard == 0:
            await asyncio.sleep(0.01)
        await service.change_keywords(BANANA, expected=None)
        assert not first.done()
        records = await first, await service.moderate(clip, "second")
        await service.queue.close()
        return records, service.keywords["sha256"]

    judge = Slow()
    keywords = judge.pipe.processor.keywords
    records, changed = asyncio.run(run(judge))
    assert [record["keyword_list"]["sha256"] for record in records] == [describe_keywords(keywords)["sha256"], changed]
    heard = [{item["keyword"] for item in record["keywords"]} for record in records]
    assert heard == [{keywords.keywords[0]}, {"banana"}]
