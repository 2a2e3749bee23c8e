import gc
import json
import logging
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from socket import create_connection

import jsonschema
import numpy as np
import pytest
from helpers import tone, wav
from live_helpers import HearingJudge, chatter, word
from server_helpers import Running
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed

from modeling_toxmtl.moderation.records import SCHEMA_FILE
from modeling_toxmtl.moderation.serving import server
from modeling_toxmtl.moderation.serving.limits import Limits
from modeling_toxmtl.moderation.serving.server import JsonLines, create_app, read_tokens
from modeling_toxmtl.moderation.serving.service import Service


INSULT = np.concatenate([chatter(1), word(seconds=0.4), chatter(1)])
PCM = (INSULT * 32767).astype("<i2").tobytes()
AUTHORIZED = {"Authorization": "Bearer secret"}
REFUSED = ({"keyword": "日本", "labels": ["Other"]}, {"keyword": "banana", "labels": ["\ud800"]})  # entries


@pytest.fixture(scope="module")
def judge():
    return HearingJudge()


def client_of(judge, limits: Limits | None = None, **how) -> TestClient:
    """With the service's application running."""
    return TestClient(create_app(Service(judge, limits or Limits(rate=1000.0, speed=1000.0), **how)))


# --- clips


def test_a_clip_gets_its_record(judge):
    with client_of(judge) as client:
        answer = client.post("/v1/moderate", params={"name": "insult"}, content=wav(INSULT))
    record = answer.json()
    assert answer.status_code == 200 and record["clip"] == "insult"
    jsonschema.validate(record, json.loads(SCHEMA_FILE.read_text()))
    assert record["violations"] == ["Profanity"]
    assert [(item["keyword"], round(item["start"], 2)) for item in record["keywords"]] == [("damn", 1.0)]


def test_clips_that_cannot_be_judged(judge):
    with client_of(judge, Limits(rate=1000.0, max_megabytes=0.1, max_seconds=2.0)) as client:
        statuses = {
            name: (answer.status_code, answer.json()["error"])
            for name, content in (("garbage", b"garbage"), ("empty", b""), ("big", b"0" * 100_001),
                                  ("long", wav(tone(8 * 2000, rate=8000), rate=4000)), ("short", wav(tone(10))))
            for answer in [client.post("/v1/moderate", content=content)]
        }  # fmt: skip
    assert [status for status, _ in statuses.values()] == [422, 422, 413, 413, 422]
    assert "cannot be read as audio" in statuses["garbage"][1]
    assert "more than 0.1 MB" in statuses["big"][1] and "more than 2 s" in statuses["long"][1]


def test_a_body_that_comes_in_parts_is_measured_on_the_way(judge):
    def parts():
        for _ in range(10):
            yield b"0" * 50_000

    with client_of(judge, Limits(max_megabytes=0.1)) as client:
        assert client.post("/v1/moderate", content=parts()).status_code == 413


def test_more_clips_than_allowed_are_told_to_come_back(judge):
    with client_of(judge) as client:
        client.app.state.service.num_requests = 16
        answer = client.post("/v1/moderate", content=wav(INSULT))
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"


class Broken(HearingJudge):
    """Fails on all but the second of silence that a service begins with."""

    def hear(self, windows):
        if any(samples.any() for _, samples in windows):
            raise RuntimeError("out of memory")
        return super().hear(windows)


def test_more_sound_than_may_wait_is_told_to_come_back(judge):
    with client_of(judge) as client:
        client.app.state.service.queue.max_seconds = 1.0
        answer = client.post("/v1/moderate", content=wav(INSULT))
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert "s of sound wait to be judged" in answer.json()["error"]


def test_errors_of_the_service_are_counted_and_logged_too(caplog):
    caplog.set_level(logging.INFO, logger="toxmtl.serve")
    with client_of(Broken()) as client:
        with pytest.raises(RuntimeError, match="out of memory"):
            client.post("/v1/moderate", content=wav(INSULT))
        text = client.get("/metrics").text
    assert 'toxmtl_requests_total{path="/v1/moderate",status="500"} 1.0' in text
    (told,) = [item for item in caplog.records if item.getMessage() == "request"]
    assert (told.path, told.status) == ("/v1/moderate", 500)


# --- who may come


def test_tokens(judge):
    with client_of(judge, tokens=["secret"]) as client:
        for headers, status in ((None, 401), ({"Authorization": "Bearer wrong"}, 401), (AUTHORIZED, 200)):
            answer = client.post("/v1/moderate", content=wav(INSULT), headers=headers)
            assert answer.status_code == status
            assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/stream"):
            pass
        assert denied.value.status_code == 401
        with client.websocket_connect("/v1/stream", headers=AUTHORIZED) as socket:
            socket.send_text('{"end": true}')


def test_a_client_that_comes_too_often(judge):
    with client_of(judge, Limits(rate=1.0), tokens=["secret", "other"]) as client:
        statuses = [client.get("/v1/keywords", headers=AUTHORIZED).status_code for _ in range(4)]
        assert statuses[:2] == [200, 200] and statuses[-1] == 429
        assert client.get("/v1/keywords", headers={"Authorization": "Bearer other"}).status_code == 200


@pytest.mark.parametrize(
    ("tokens", "header"), [((), "made up {}"), (["secret"], "Bearer {}secret")], ids=["no token", "one token"]
)
def test_a_client_is_the_same_whatever_else_its_header_says(judge, tokens, header):
    with client_of(judge, Limits(rate=1.0), tokens=tokens) as client:
        headers = [{"Authorization": header.format(" " * number)} for number in range(6)]
        statuses = [client.get("/v1/keywords", headers=each).status_code for each in headers]
        assert statuses[:2] == [200, 200] and statuses[-1] == 429


def test_tokens_of_a_file_or_the_environment(tmp_path, monkeypatch):
    assert read_tokens(None) == []
    monkeypatch.setenv("TOXMTL_TOKENS", "one two")
    assert read_tokens(None) == ["one", "two"]
    (tmp_path / "tokens.txt").write_text("three\n\n")
    assert read_tokens(str(tmp_path / "tokens.txt")) == ["three"]
    (tmp_path / "tokens.txt").write_text("\n")
    with pytest.raises(ValueError, match="has no token: write one a line"):
        read_tokens(str(tmp_path / "tokens.txt"))


def test_tokens_that_no_header_can_bear(tmp_path, monkeypatch):
    """Errors say where they stand, and not what they are."""
    file = tmp_path / "tokens.txt"
    for content in ("one\nschlüssel".encode(), "one\nschlüssel".encode("latin-1"), b"one\na\0b"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"tokens.txt: token 2 has other characters than those of ASCII") as error:
            read_tokens(str(file))
        assert "schl" not in str(error.value)
    file.write_text("one", encoding="utf-8-sig")  # as some editors do
    assert read_tokens(str(file)) == ["one"]
    monkeypatch.setenv("TOXMTL_TOKENS", "schlüssel")
    with pytest.raises(ValueError, match="TOXMTL_TOKENS: token 1 has"):
        read_tokens(None)


# --- keywords


def test_the_keyword_list_is_read_and_replaced(judge):
    """Records name the list that they were made with; who changed an older one is told."""
    with client_of(judge) as client:
        before = client.get("/v1/keywords").json()
        changed = before["list"] | {"keywords": before["list"]["keywords"][:1]}
        answer = client.put("/v1/keywords", json=changed, headers={"If-Match": f'"{before["sha256"]}"'})
        after = client.get("/v1/keywords").json()
        assert answer.status_code == 200 and answer.json() == after and len(after["list"]["keywords"]) == 1
        record = client.post("/v1/moderate", content=wav(INSULT)).json()
        assert record["keyword_list"]["sha256"] == after["sha256"] != before["sha256"]
        stale = client.put("/v1/keywords", json=changed, headers={"If-Match": before["sha256"]})
        assert stale.status_code == 412 and after["sha256"] in stale.json()["error"]
        for bad in ({"keywords": []}, *(changed | {"keywords": [entry]} for entry in REFUSED)):
            assert client.put("/v1/keywords", content=json.dumps(bad)).status_code == 422
        assert client.get("/v1/keywords").json() == after
        assert client.put("/v1/keywords", json=before["list"]).json() == before


def test_a_stranger_s_keyword_list_is_not_read(judge):
    def parts():
        pytest.fail("is read")
        yield b""

    with client_of(judge, tokens=["secret"]) as client:
        for content in (parts(), b"[1", b""):
            assert client.put("/v1/keywords", content=content).status_code == 401


def test_keyword_lists_that_are_none(judge):
    with client_of(judge) as client:
        before = client.get("/v1/keywords").json()
        text = json.dumps(before["list"])
        answers = {
            name: client.put("/v1/keywords", content=content)
            for name, content in (("cut", text[:-1]), ("twice", text[:-1] + ', "filler": "uh"}'), ("array", "[]"),
                                  ("deep", "[" * 100_000), ("bytes", b"\xff"), ("big", text + " " * 1_000_000))
        }  # fmt: skip
        assert client.get("/v1/keywords").json() == before
        body = client.get("/openapi.json").json()["paths"]["/v1/keywords"]["put"]["requestBody"]
    assert [answer.status_code for answer in answers.values()] == [422, 422, 422, 422, 422, 413]
    assert "the key 'filler' occurs twice" in answers["twice"].json()["error"]
    assert "The keyword list has more than 1 MB" in answers["big"].json()["error"]
    assert body["required"] and body["content"]["application/json"]["schema"]["type"] == "object"


# --- sessions


def events_of(socket) -> list[dict]:
    """Up to the verdict."""
    events = []
    while not events or events[-1]["event"] != "segment":
        events.append(socket.receive_json())
    return events


def test_a_session(judge, caplog):
    """Logs say how it went, and no word of it."""
    caplog.set_level(logging.INFO, logger="toxmtl.serve")
    with client_of(judge) as client:
        with client.websocket_connect("/v1/stream?name=call") as socket:
            for start in range(0, len(PCM), 3200):
                socket.send_bytes(PCM[start : start + 3200])
            socket.send_text('{"end": true}')
            events = events_of(socket)
            assert events[-1]["record"]["clip"] == "call#0" and events[-1]["record"]["violations"] == ["Profanity"]
            assert socket.receive_json()["event"] == "violation"  # cleared
            assert socket.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}
        text = client.get("/metrics").text
    assert 'toxmtl_session_ends_total{code="1000"} 1.0' in text and "toxmtl_sessions 0.0" in text
    (told,) = [json.loads(JsonLines().format(item)) for item in caplog.records if item.getMessage() == "session"]
    assert told["session"] == "call" and told["segments"] == told["with_violations"] == 1
    assert "damn" not in caplog.text


def test_sessions_that_make_no_sense_are_denied(judge):
    with client_of(judge) as client:
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/stream?rate=1"):
            pass
        assert denied.value.status_code == 422 and "`rate` is 1" in denied.value.json()["error"]
        with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/v1/stream?format=mp3"):
            pass
        assert closed.value.code == 1008


def test_more_sessions_than_allowed_are_told_to_come_back(judge):
    with client_of(judge, Limits(max_sessions=1)) as client, client.websocket_connect("/v1/stream"):
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/stream"):
            pass
        assert denied.value.status_code == 503 and denied.value.headers["Retry-After"] == "1"


def test_what_was_there_before_the_first_session_is_no_matter_of_the_collector(judge, monkeypatch):
    """Or the circles that connections leave would wait for very many more."""
    monkeypatch.setattr(server, "load_judge", lambda model: judge.pipe)
    try:
        service = server.make_service(server.ServeArguments("model"), Limits(), tokens=())
        known = {id(thing) for thing in gc.get_objects()}
        assert id(service) in known and not known & {id(vars(judge.pipe)), id(judge.pipe.model)}
    finally:
        gc.unfreeze()


# --- a server on a socket


def events_until_closed(socket) -> list[dict]:
    events = []
    with suppress(ConnectionClosed):
        for text in socket:
            events.append(json.loads(text))
    return events


def test_a_server_that_is_stopped_finishes_what_it_took(judge):
    """Sessions get their verdict, and the close code that says to connect again; new requests are refused."""
    with Running(judge) as running, running.connect() as socket:
        socket.send(PCM)
        assert json.loads(socket.recv())["event"] == "speech started"
        running.server.should_exit = True
        assert events_until_closed(socket)[-2]["event"] == "segment" and socket.close_code == 1012


def upload(running):
    """A connection over which a part of a clip came."""
    connection = create_connection(("127.0.0.1", running.port), timeout=60)
    connection.sendall(b"POST /v1/moderate HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nRIFF")
    return connection


def statuses(caplog) -> list[int]:
    """Of the requests that are logged; waits for one, half a minute at most."""
    told, end = [], time.monotonic() + 30
    while not told and time.monotonic() < end:
        time.sleep(0.01)
        told = [item.status for item in caplog.records if item.getMessage() == "request"]
    return told


def test_an_upload_that_stalls_is_broken_off(judge, caplog):
    caplog.set_level(logging.INFO, logger="toxmtl.serve")
    with Running(judge, Limits(send_seconds=0.2)) as running, upload(running) as connection:
        answer = b"".join(iter(lambda: connection.recv(4096), b""))  # up to the end of the connection
        assert answer.startswith(b"HTTP/1.1 408 ") and b"No more of the clip came for 0.2 s" in answer
        assert statuses(caplog) == [408]


def test_a_client_that_leaves_while_it_uploads_is_no_error(judge, caplog):
    caplog.set_level(logging.INFO)
    with Running(judge) as running:
        upload(running).close()
        assert statuses(caplog) == [499]
    assert not [item for item in caplog.records if item.exc_info or item.levelno >= logging.ERROR]


def test_an_upload_that_stalls_does_not_hold_the_end(judge):
    with Running(judge, Limits(send_seconds=1000.0)) as running, upload(running):
        time.sleep(0.3)  # until it is read
        running.server.drain_seconds, running.server.should_exit = 0.5, True
        running.thread.join(20)
        assert not running.thread.is_alive()


def test_messages_are_not_compressed(judge):
    """Though the client offers it: each session would hold the buffers."""
    with Running(judge) as running, running.connect() as socket:
        assert "Sec-WebSocket-Extensions" in socket.request.headers
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


def test_a_message_that_is_too_long_ends_its_session_alone(judge):
    with Running(judge) as running, running.connect() as good:
        with running.connect() as socket:
            socket.send([bytes(1 << 20), b"1"])  # what is refused unread would reset the connection
            assert events_until_closed(socket) == [] and socket.close_code == 1009
        good.send(PCM)
        good.send('{"end": true}')
        assert events_until_closed(good)[-2]["event"] == "segment"


@pytest.mark.slow
def test_thousands_of_sessions_leave_nothing_behind(judge):
    """Memory and open files, however the sessions end."""

    def held() -> tuple[int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096, len(list(Path("/proc/self/fd").iterdir()))

    def sessions(running, number):
        for index in range(number):
            with running.connect() as socket:
                if index % 4:
                    socket.send(PCM[: 3200 * (index % 20)])
                if index % 3 == 0:
                    socket.send('{"end": true}')
                    events_until_closed(socket)
                elif index % 3 == 1:
                    socket.socket.close()  # gone without a word

    with Running(judge) as running:
        sessions(running, 200)
        time.sleep(1.0)
        memory, files = held()
        sessions(running, 2000)
        time.sleep(1.0)
        more_memory, more_files = held()
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics").read()
        assert b"toxmtl_sessions 0.0" in metrics
    assert more_files <= files + 5 and more_memory < memory + 40e6
