import asyncio
import json
import struct
import time

import numpy as np
import pytest
from live_helpers import HearingJudge, NamingJudge, chatter, silence, word
from pipeline_helpers import burst

from modeling_toxmtl.io.opus import encode_dtx
from modeling_toxmtl.moderation.record import describe_keywords
from modeling_toxmtl.moderation.serving import streaming
from modeling_toxmtl.moderation.serving.limits import Limits
from modeling_toxmtl.moderation.serving.service import Refused, Service
from modeling_toxmtl.moderation.serving.streaming import Closed, Stream


END = '{"end": true}'
INSULT = np.concatenate([chatter(1), word(seconds=0.4), chatter(1)])


def pcm(samples: np.ndarray, seconds: float = 0.1) -> list[bytes]:
    """Packets of 16 bits."""
    content = (samples * 32767).astype("<i2").tobytes()
    size = 2 * round(seconds * 16_000)
    return [content[start : start + size] for start in range(0, len(content), size)]


class Client:
    """What a client sends, a message or an exception each, and the events that it got.

    Args:
        messages: in order; a float waits so many seconds, an event until it is set, and None is gone.
        reads: whether it reads events.
    """

    def __init__(self, *messages, reads: bool = True):
        self.messages, self.reads, self.events, self.num_taken = list(messages), reads, [], 0

    async def receive(self):
        while self.messages and isinstance(self.messages[0], float | asyncio.Event):
            wait = self.messages.pop(0)
            await (asyncio.sleep(wait) if isinstance(wait, float) else wait.wait())
        if not self.messages:
            await asyncio.sleep(3600)
        self.num_taken += 1
        return self.messages.pop(0)

    async def send(self, text):
        if not self.reads:
            await asyncio.sleep(3600)
        self.events.append(json.loads(text))

    def told(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture(scope="module")
def judge():
    return HearingJudge()


def serve(judge, *clients: Client, limits: Limits | None = None, during=None, **how) -> tuple[list, Service]:
    """The close code and reason of each client's session, all at once."""

    async def session(service, client):
        try:
            return await Stream(service, client, "session", **how).run(), ""
        except Closed as error:
            return error.code, str(error)

    async def run():
        service = Service(judge, limits or Limits(speed=1000.0))
        service.queue.start()
        others = [asyncio.create_task(during(service))] if during else []
        ends = await asyncio.gather(*(session(service, client) for client in clients))
        await asyncio.gather(*others)
        await service.queue.close()
        return ends, service

    return asyncio.run(asyncio.wait_for(run(), 300))


def good() -> Client:
    return Client(*pcm(INSULT), END)


def test_a_session_from_start_to_end(judge):
    client = good()
    ((code, _),), service = serve(judge, client)
    assert code == 1000 and client.told()[0] == "speech started" and client.told()[-2:] == ["segment", "violation"]
    assert [event["keyword"] for event in client.events if event.get("state") == "final"] == ["damn"]
    assert client.events[-2]["record"]["violations"] == ["Profanity"]
    assert b'toxmtl_events_total{event="segment"} 1.0' in service.metrics.text()


def test_a_segment_is_heard_for_the_list_that_its_record_names(monkeypatch):
    """Though another comes while somebody speaks, which the next segment is heard for."""
    monkeypatch.setattr(streaming, "PAUSE", 1e9)
    judge, changed = NamingJudge(), asyncio.Event()
    keywords = judge.pipe.processor.keywords
    new = keywords.to_dict() | {"keywords": [{"keyword": "banana", "labels": ["Other"]}]}
    client = Client(*pcm(np.tile(INSULT, 3)), changed, *pcm(np.concatenate([INSULT, silence(3), INSULT])), END)

    async def change(service):
        while "keyword" not in client.told():
            await asyncio.sleep(0.01)
        await service.change_keywords(new, expected=None)
        changed.set()

    ((code, _),), service = serve(judge, client, during=change)
    records = [event["record"] for event in client.events if event["event"] == "segment"]
    assert code == 1000 and [len(record["keywords"]) for record in records] == [4, 1]
    heard = [{item["keyword"] for item in record["keywords"]} for record in records]
    assert heard == [{keywords.keywords[0]}, {"banana"}]
    hashes = [describe_keywords(keywords)["sha256"], service.keywords["sha256"]]
    assert [record["keyword_list"]["sha256"] for record in records] == hashes


def test_many_sessions_share_batches(judge):
    clients = [good() for _ in range(8)]
    ends, service = serve(judge, *clients)
    assert {code for code, _ in ends} == {1000} and all("segment" in client.told() for client in clients)
    text = service.metrics.text().decode()
    (batches,) = [
        float(line.split()[1]) for line in text.splitlines() if line.startswith("toxmtl_batch_windows_count")
    ]
    (windows,) = [float(line.split()[1]) for line in text.splitlines() if line.startswith("toxmtl_batch_windows_sum")]
    assert windows / batches > 1.5


def test_answers_that_come_together_are_told_in_order(judge):
    """Here after all was sent: the first segment's verdict comes first."""
    client = Client(*pcm(np.concatenate([INSULT, silence(3), INSULT])), END)

    class Slow(HearingJudge):
        def hear(self, windows):
            time.sleep(0.5)
            return super().hear(windows)

    serve(Slow(window=6.0, stride=4.0), client)
    verdicts = [event for event in client.events if event["event"] == "segment"]
    assert [event["record"]["clip"] for event in verdicts] == ["session#0", "session#1"]


@pytest.mark.parametrize(
    ("bad", "code", "reason"),
    [
        (lambda: Client(*pcm(INSULT)[:9], None), 1000, "the client is gone"),
        (lambda: Client(b"\x00" * 33), 1007, "no PCM of 16 bits"),
        (lambda: Client("hello"), 1003, "as binary messages"),
        (lambda: Client('{"end": false}'), 1003, "as binary messages"),
        (lambda: Client(*pcm(INSULT), reads=False), 1008, "does not read"),
    ],
    ids=["vanishes", "garbage", "words", "another message", "does not read"],
)
def test_a_client_that_misbehaves_harms_no_other(judge, bad, code, reason):
    client = good()
    ends, _ = serve(judge, bad(), client, bad(), limits=Limits(speed=1000.0, send_seconds=0.2))
    assert [end[0] for end in ends] == [code, 1000, code] and reason in ends[0][1]
    assert "segment" in client.told()


def test_a_flood_is_read_no_faster_than_allowed(judge, monkeypatch):
    """What is not read waits at the client, and others are served."""
    monkeypatch.setattr(streaming, "BURST", 5.0)
    flood, client = Client(*pcm(silence(600), seconds=1.0)), good()

    async def watch(service):
        await asyncio.sleep(1.0)
        assert flood.num_taken <= 5 + 2 * 1.0 + 2
        flood.messages.clear()
        service.is_draining.set()

    ends, _ = serve(judge, flood, client, limits=Limits(speed=2.0), during=watch)
    assert "segment" in client.told() and ends[0][0] == 1012


def test_a_flood_of_damaged_packets_is_slowed_down(judge, monkeypatch):
    monkeypatch.setattr(streaming, "BURST", 0.1)
    flood = Client(*[b"\xff" * 30] * 5000)

    async def watch(service):
        await asyncio.sleep(0.5)
        assert flood.num_taken <= (0.1 + 0.5 * 2) / streaming.SHORTEST_PACKET + 10
        flood.messages.clear()
        service.is_draining.set()

    serve(judge, flood, limits=Limits(speed=2.0), during=watch, format="opus")
    assert set(flood.told()) == {"fault"} and {event["kind"] for event in flood.events} == {"damaged"}


def test_a_sender_that_stops_gets_its_verdict(judge, monkeypatch):
    """Push to talk: nothing is sent behind the last word."""
    monkeypatch.setattr(streaming, "PAUSE", 0.1)
    monkeypatch.setattr(streaming, "TICK", 0.05)
    client = Client(*pcm(INSULT))  # and then nothing, not even the end

    async def wait_for_verdict(service):
        while "segment" not in client.told():
            await asyncio.sleep(0.01)
        service.is_draining.set()

    ((code, _),), _ = serve(judge, client, during=wait_for_verdict)
    assert code == 1012 and client.told().count("segment") == 1


def test_a_session_that_sends_nothing_ends(judge, monkeypatch):
    monkeypatch.setattr(streaming, "TICK", 0.05)
    ((code, reason),), _ = serve(judge, Client(), limits=Limits(idle_seconds=0.2))
    assert code == 1000 and "no packet for" in reason


def test_packets_with_time_stamps(judge):
    """Half a second is missing, and a packet is late."""
    packets = pcm(INSULT)
    stamped = [
        struct.pack("<d", 100 + number / 10 + 0.5 * (number > 20)) + packet for number, packet in enumerate(packets)
    ]
    client = Client(*stamped, struct.pack("<d", 101.0) + packets[0], END)
    ((code, _),), _ = serve(judge, client, is_stamped=True)
    (late,) = [event for event in client.events if event["event"] == "fault"]
    assert code == 1000 and late["kind"] == "late" and late["time"] == pytest.approx(2.9)
    ((code, reason),), _ = serve(judge, Client(b"1234"), is_stamped=True)
    assert code == 1007 and "has no time stamp" in reason


def test_opus_packets(judge):
    client = Client(*encode_dtx(0.2 * burst(1.0), 16_000, 24_000).packets, END)
    ((code, _),), _ = serve(judge, client, format="opus")
    assert code == 1000 and client.told() == ["speech started", "segment"]


def test_sessions_get_their_verdict_when_the_service_drains(judge):
    client, refused = Client(*pcm(INSULT)), []

    async def drain(service):
        service.begin_session()
        while client.num_taken < len(pcm(INSULT)):
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(service.drain(5.0))
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as error:
            service.admit(None, "")
        refused.append(error.value.status)
        service.end_session()
        await draining

    ((code, _),), _ = serve(judge, client, during=drain)
    assert code == 1012 and "segment" in client.told() and refused == [503]


def test_a_judge_that_breaks_ends_the_sessions_that_asked(judge):
    class Broken(HearingJudge):
        def hear(self, windows):
            raise RuntimeError("out of memory")

    ((code, reason),), _ = serve(Broken(), good())
    assert (code, reason) == (1011, "a window could not be judged")
