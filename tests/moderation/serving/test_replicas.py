"""`toxmtl serve --replicas`, in processes and on Ray: replicas that answer, one of which is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import numpy as np
import pytest
from helpers import wav
from live_helpers import chatter, silence
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from benchmarks.serving import free_port
from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.serving.limits import Limits
from modeling_toxmtl.moderation.serving.server import ServeArguments, create_app
from modeling_toxmtl.moderation.serving.service import Service


CLIP = wav(np.concatenate([chatter(1.0), silence(0.5), chatter(0.7, seed=1)]))
LIMITS = Limits(rate=1e6, speed=1000.0)


def test_replicas_share_a_keyword_list_that_cannot_be_changed(folder):
    """Or it would depend on luck which words are heard."""
    service = Service(Judge(load_judge(str(folder))), LIMITS, replica="here:7")
    with TestClient(create_app(service)) as client:
        before = client.get("/v1/keywords").json()
        answer = client.put("/v1/keywords", json=before["list"])
        assert answer.status_code == 409 and "the list of the model's folder" in answer.json()["error"]
        assert replicas_of(client.get("/metrics").text) == {"here:7"}


def test_there_is_one_replica_at_least():
    with pytest.raises(ValueError, match="--replicas is 0: give at least 1"):
        ServeArguments("model", engine="ray", replicas=0)


def test_a_system_whose_processes_cannot_share_a_port(monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="use --engine ray"):
        ServeArguments("model", replicas=2)


def replicas_of(metrics: str) -> set[str]:
    """Names in each series, of which there is one."""
    families = text_string_to_metric_families(metrics)
    return {sample.labels["replica"] for family in families for sample in family.samples}


@contextmanager
def serve(folder, port: int, log=subprocess.PIPE) -> Iterator[subprocess.Popen]:
    """Two processes, as a user starts them. A line is logged for each request: a pipe that nobody reads gets full."""
    options = ["--port", str(port), "--replicas", "2", "--rate", "1e6", "--speed", "1000"]
    command = [sys.executable, "-m", "modeling_toxmtl.cli", "serve", str(folder), *options]
    with subprocess.Popen(command, stderr=log, text=True) as server:
        try:
            yield server
        finally:
            server.kill()  # which `Popen` would wait for, for ever where a check failed


@pytest.mark.slow
def test_a_process_is_killed(folder, tmp_path):
    port, path = free_port(), tmp_path / "log"
    with path.open("w") as file, serve(folder, port, file) as server:
        check_that_nothing_is_lost(port)
        server.terminate()
        assert server.wait(60) == 0
    log = [json.loads(line) for line in path.read_text().splitlines()]
    (replaced,) = [entry for entry in log if entry["event"] == "replica replaced"]
    assert replaced["exitcode"] == -signal.SIGKILL
    assert sum(entry["event"] == "Application shutdown complete." for entry in log) == 2


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(folder):
    port = free_port()
    with serve(folder, port) as server:
        seen_replicas(port, 2)
        server.kill()
        server.stderr.read()  # until the last of them has closed it
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60)


@pytest.mark.slow
def test_processes_that_do_not_start_say_why(tmp_path):
    with serve(tmp_path, free_port()) as server:
        log = server.stderr.read()
        assert server.wait(60) == 1 and "Traceback" not in log
    assert str(tmp_path) in json.loads(log.splitlines()[0])["event"]
    assert log.splitlines()[-1].startswith("toxmtl: A replica does not start, but ends with 1")


def test_a_port_that_is_taken(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken, serve(folder, taken.getsockname()[1]) as server:
        log = server.stderr.read()
        assert server.wait(60) == 1 and "Address already in use" in log and "Traceback" not in log


@pytest.mark.slow
def test_a_replica_of_ray_is_killed(cluster, folder):
    serve = pytest.importorskip("ray.serve")
    from modeling_toxmtl.moderation.serving import ray_serve

    port = free_port()
    with pytest.raises(ValueError, match="--replicas is 3, and the cluster has 2 CPUs"):
        ray_serve.deploy(ServeArguments(str(folder), engine="ray", replicas=3), LIMITS)
    ray_serve.deploy(ServeArguments(str(folder), port=port, engine="ray", replicas=2), LIMITS)
    try:
        check_that_nothing_is_lost(port)
    finally:
        serve.shutdown()


def check_that_nothing_is_lost(port: int) -> None:
    """Kills one of two replicas. No verdict is lost or wrong: who waits for one gets a clear status, and who comes
    again is served."""
    answering = seen_replicas(port, 2)
    expected = judged(port)["windows"]
    with asking(port, expected) as statuses:
        verdicts, victim = talk_until_killed(port, answering)
        before, end = statuses.count(200), time.monotonic() + 120
        assert segments(port) == verdicts  # connected again
        while statuses.count(200) < before + 20 and time.monotonic() < end:
            time.sleep(0.1)
    assert statuses.count(200) >= before + 20 and set(statuses) <= {200, 500, 502, 503, None}
    assert victim not in seen_replicas(port, 2)


def judged(port: int) -> dict:
    """The record of the clip."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/moderate?name=clip", CLIP, method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@contextmanager
def asking(port: int, expected: list) -> Iterator[list]:
    """Statuses of what four clients ask meanwhile."""
    statuses, stop = [], threading.Event()
    clients = [threading.Thread(target=ask_on, args=(port, expected, statuses, stop)) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        yield statuses
    finally:
        stop.set()
        for client in clients:
            client.join()


def ask_on(port: int, expected: list, statuses: list, stop: threading.Event) -> None:
    """Asks again and again, and notes each status; None where the connection broke off. An answer is the right one."""
    while not stop.is_set():
        try:
            statuses.append(200 if judged(port)["windows"] == expected else -1)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
        except (OSError, HTTPException):
            statuses.append(None)


def seen_replicas(port: int, number: int) -> set[str]:
    """So many that answer, within two minutes."""
    seen, end = set(), time.monotonic() + 120
    while len(seen) < number and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                seen |= replicas_of(answer.read().decode())
        except OSError:
            time.sleep(0.1)
    assert len(seen) == number
    return seen


def say(connection) -> None:
    sound = np.concatenate([chatter(0.8), silence(2.0)])
    connection.send((sound * 32767).astype("<i2").tobytes())


def verdict_of(connection) -> dict:
    """Of the next segment."""
    while (event := json.loads(connection.recv(timeout=120)))["event"] != "segment":
        pass
    return event["record"]


def segments(port: int) -> list[dict]:
    """What a session of one utterance comes to."""
    with session(port) as connection:
        say(connection)
        return [verdict_of(connection)]


def session(port: int) -> ClientConnection:
    """As a client begins it, which tries again for a minute: a connection can still be dealt to the replica that is
    being killed, and is reset."""
    end = time.monotonic() + 60
    while True:
        try:
            return connect(f"ws://127.0.0.1:{port}/v1/stream?name=call", open_timeout=120)
        except (OSError, InvalidHandshake):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def talk_until_killed(port: int, replicas: set[str]) -> tuple[list[dict], str]:
    """The verdict that a session got, before its replica was killed and its connection closed; and which it was."""
    with session(port) as connection:
        say(connection)
        verdicts = [verdict_of(connection)]
        (victim,) = [name for name in replicas if sessions_of(port, name)]
        say(connection)
        os.kill(int(victim.rpartition(":")[2]), signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            while True:
                connection.recv(timeout=120)
        return verdicts, victim


def sessions_of(port: int, replica: str) -> float:
    """How many sessions are open at a replica, by its own count, which it gives within two minutes."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
        (sample,) = families["toxmtl_sessions"].samples
        if sample.labels["replica"] == replica:
            return sample.value
    raise TimeoutError(f"{replica} does not answer")
