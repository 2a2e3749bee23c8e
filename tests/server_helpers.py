"""A service on a socket, in a thread."""

import asyncio
import threading

from websockets.sync.client import connect

from modeling_toxmtl.moderation.serving.limits import Limits
from modeling_toxmtl.moderation.serving.server import Server
from modeling_toxmtl.moderation.serving.service import Service


class Running:
    """Serves a judge while it is open, on a free port of loopback."""

    def __init__(self, judge, limits: Limits | None = None):
        self.judge, self.limits, self.ready = judge, limits or Limits(rate=1e6, speed=1000.0), threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self):
        self.server = Server(Service(self.judge, self.limits))
        task = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.ready.set()
        await task

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(60)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(60)

    def connect(self, query: str = ""):
        return connect(f"ws://127.0.0.1:{self.port}/v1/stream?{query}")
