"""Judges clips and live sessions over HTTP and WebSocket.

    toxmtl serve me/my-model --port 8000 --tokens tokens.txt
    curl --data-binary @clip.ogg -H "Authorization: Bearer TOKEN" localhost:8000/v1/moderate

`/docs` describes all routes. Sessions of all clients and clips share the model's batches. On SIGTERM and SIGINT,
nothing new is taken, what was taken is finished, and each session gets its verdict. Logs are a JSON object a line,
without sound, and without words unless --log-words. `--replicas 2` runs it in two processes, which listen at the same
port, or, with `--engine ray`, in two replicas on a Ray cluster.
"""

import asyncio
import gc
import json
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Header, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from ...keywords import unique_keys
from ..hearing import load_judge
from ..judge import Judge
from ..live.session import SessionSettings
from .batching import Overloaded
from .limits import Limits
from .service import RETRY_SECONDS, Refused, Service
from .streaming import FAULT, Closed, Stream


logger = logging.getLogger("toxmtl.serve")

ENGINES = ("local", "ray")
MAX_MESSAGE = 1 << 20  # bytes of a packet
MOST_KEYWORDS = 1.0  # 10^6 bytes of a keyword list
CLIENT_GONE = 499  # status, in logs and metrics, of a request whose client went away
CLOSE_SECONDS = 1.0  # for what is still open when there is no time left to finish it
OCTETS = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
OBJECT = {"schema": {"type": "object", "additionalProperties": True, "title": "Keywords"}}
KEYWORDS = {"requestBody": {"required": True, "content": {"application/json": OBJECT}}}


@dataclass
class ServeArguments:
    """What to serve, and where."""

    model: str = field(metadata={"help": "Folder or Hub id of a model of this package."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen at; 0.0.0.0 for all."})
    port: int = field(default=8000, metadata={"help": "Port to listen at; 0 for any that is free."})
    tokens: str | None = field(
        default=None,
        metadata={"help": "File of tokens, a line each; default: those of TOXMTL_TOKENS, or none needed."},
    )
    hop: float = field(default=SessionSettings.hop, metadata={"help": "Seconds between looks at the latest seconds."})
    context: float = field(default=SessionSettings.context, metadata={"help": "Seconds that a look hears."})
    batch_size: int = field(default=8, metadata={"help": "Windows per forward pass."})
    drain_seconds: float = field(default=30.0, metadata={"help": "Seconds to finish what was taken."})
    log_words: bool = field(default=False, metadata={"help": "Let logs name the keywords that were heard."})
    engine: str = field(
        default="local", metadata={"help": "ray: replicas on the machines of a Ray cluster.", "choices": ENGINES}
    )
    replicas: int = field(
        default=1, metadata={"help": "Of the service, each with its model: processes that listen at the same port."}
    )

    def __post_init__(self):
        if self.replicas < 1:
            raise ValueError(f"--replicas is {self.replicas}: give at least 1.")
        if self.replicas > 1 and self.engine == "local" and not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("--replicas: processes of this system cannot listen at the same port; use --engine ray.")


def read_tokens(path: str | None) -> list[str]:
    """The tokens of a file, or of the environment. Raises ValueError for a file without any, and for a token that no
    header can bear, which its message does not tell."""
    if path is None:
        place, text = "TOXMTL_TOKENS", os.environ.get("TOXMTL_TOKENS", "")
    else:  # whatever is no UTF-8 is no ASCII, either
        place, text = f"--tokens {path}", Path(path).read_text(encoding="utf-8-sig", errors="replace")
    tokens = text.split()
    if path is not None and not tokens:
        raise ValueError(f"{place} has no token: write one a line.")
    for number, token in enumerate(tokens, start=1):
        if not (token.isascii() and token.isprintable()):
            raise ValueError(f"{place}: token {number} has other characters than those of ASCII: choose another.")
    return tokens


def create_app(service: Service) -> FastAPI:
    """The application, with the service as `app.state.service`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.queue.close()

    app = FastAPI(title="toxmtl", description="Hears toxicity in voice chat.", lifespan=lifespan)
    app.state.service = service
    app.exception_handler(Refused)(_refuse)
    app.exception_handler(Overloaded)(_refuse_more)
    app.middleware("http")(_count_and_log)
    _add_health(app, service)
    _add_clips(app, service)
    _add_keywords(app, service)
    _add_stream(app, service)
    return app


async def _refuse(request: Request, error: Refused) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": f"{max(error.retry_after, 1):.0f}"}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 408:
        headers["Connection"] = "close"  # or what comes late would be taken for the next request
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _refuse_more(request: Request, error: Overloaded) -> JSONResponse:
    return await _refuse(request, Refused(503, str(error), RETRY_SECONDS))


async def _count_and_log(request: Request, proceed: Any) -> Response:
    start, status = time.monotonic(), 500  # of what ends with an error that nothing here handles
    try:
        response = await proceed(request)
        status = response.status_code
        return response
    finally:
        route = request.scope.get("route")
        path = route.path if route else "unknown"  # what clients make up is no label
        request.app.state.service.metrics.requests.labels(path, status).inc()
        if path.startswith("/v1/"):
            seconds = round(time.monotonic() - start, 4)
            logger.info("request", extra={"path": path, "status": status, "seconds": seconds})


def _admit(service: Service, connection: Request | WebSocket) -> None:
    client = connection.client.host if connection.client else ""
    service.admit(connection.headers.get("authorization"), client)


def _add_health(app, service):
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """That the process runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """That it takes requests: 503 while it shuts down."""
        if service.is_draining.is_set():
            raise Refused(503, "The service is shutting down.", RETRY_SECONDS)
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_clips(app, service):
    @app.post("/v1/moderate", openapi_extra=OCTETS)
    async def moderate(request: Request, name: str = "clip") -> dict[str, Any]:
        """The record (toxmtl.verdict/1) of a clip, whose file is the body, in any format that FFmpeg reads."""
        _admit(service, request)
        return await service.moderate(await _body(request, service.limits.max_megabytes, "clip"), name)


async def _body(request, max_megabytes, what) -> bytes:
    """Of a request, no more than is allowed of it, as long as it comes without a long pause."""
    refused = Refused(413, f"The {what} has more than {max_megabytes:g} MB: make it smaller.")
    most, seconds, parts, size = max_megabytes * 1e6, request.app.state.service.limits.send_seconds, [], 0
    if int(request.headers.get("content-length") or 0) > most:
        raise refused
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), seconds)
        except asyncio.TimeoutError as error:  # before Python 3.11, it is no TimeoutError
            raise Refused(408, f"No more of the {what} came for {seconds:g} s: send it again.") from error
        if message["type"] == "http.disconnect":
            raise Refused(CLIENT_GONE, "The client is gone.")  # for the log: nobody reads it
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise refused
        if not message.get("more_body"):
            return b"".join(parts)


def _add_keywords(app, service):
    @app.get("/v1/keywords")
    async def keywords(request: Request) -> dict[str, Any]:
        """The keyword list, and its SHA-256, which records name."""
        _admit(service, request)
        return service.keywords

    @app.put("/v1/keywords", openapi_extra=KEYWORDS)
    async def replace(request: Request, if_match: Annotated[str | None, Header()] = None) -> dict[str, Any]:
        """Another list, as `list` of what was read; with its SHA-256 as `If-Match`, if nobody changed it since."""
        _admit(service, request)  # before a stranger's body is read
        keywords = _content(await _body(request, MOST_KEYWORDS, "keyword list"))
        return await service.change_keywords(keywords, if_match and if_match.strip('"'))


def _content(body):
    """Of JSON."""
    try:
        return json.loads(body, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise Refused(422, f"The body is no JSON: {error}.") from error


def _add_stream(app, service):
    @app.websocket("/v1/stream")
    async def stream(
        websocket: WebSocket,
        name: str = "session",
        format: Literal["pcm16", "opus"] = "pcm16",
        rate: int = 16_000,
        stamped: bool = False,
    ) -> None:
        try:
            _admit(service, websocket)
            if not 8000 <= rate <= 192_000:
                raise Refused(422, f"`rate` is {rate}: give Hz from 8000 to 192000.")
            service.begin_session()
        except Refused as error:
            await websocket.send_denial_response(await _refuse(websocket, error))
            return
        start, code, session = time.monotonic(), FAULT, None
        try:
            await websocket.accept()
            session = Stream(service, _Socket(websocket), name, format, rate, stamped)
            code, reason = await session.run(), ""
            await websocket.close(code)
        except Closed as error:
            code, reason = error.code, str(error)
            await _Socket(websocket).close(code, reason)
        except (WebSocketDisconnect, ConnectionError):
            code, reason = 1006, "the client is gone"
        finally:
            service.end_session()
            service.metrics.session_ends.labels(code).inc()
            told = {"session": name, "code": code, "reason": reason, "seconds": round(time.monotonic() - start, 1)}
            if session is not None:
                told |= {"segments": session.num_segments, "with_violations": session.num_violations}
            logger.info("session", extra=told)


class _Socket:
    """A WebSocket as a [`Connection`]."""

    def __init__(self, websocket: WebSocket):
        self.websocket = websocket

    async def receive(self) -> bytes | str | None:
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        return message["text"] if message.get("text") is not None else message["bytes"]

    async def send(self, text: str) -> None:
        try:
            await self.websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionError(str(error)) from error

    async def close(self, code: int, reason: str) -> None:
        """Closes it, if it is open."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self.websocket.close(code, reason[:120])  # a control frame has no more room


class Server(uvicorn.Server):
    """Serves, and finishes what was taken before connections are closed."""

    def __init__(
        self,
        service: Service,
        host: str = "127.0.0.1",
        port: int = 0,
        drain_seconds: float = 30.0,
        when_started: Callable[[], Any] = lambda: None,
    ):
        # sound gets hardly smaller; to compress it costs as much as to plan its windows, and buffers for each session
        websockets = {"ws_max_size": MAX_MESSAGE, "ws_per_message_deflate": False}
        options = {"log_config": None, "access_log": False, **websockets}
        super().__init__(uvicorn.Config(create_app(service), host, port, **options))
        self.service, self.drain_seconds, self.when_started = service, drain_seconds, when_started

    async def startup(self, sockets: list | None = None) -> None:
        """Loads, listens, and says so."""
        await super().startup(sockets)
        if self.started:
            self.when_started()

    async def shutdown(self, sockets: list | None = None) -> None:
        """Drains, then shuts down, both within `drain_seconds` and a moment to close."""
        end = time.monotonic() + self.drain_seconds
        await self.service.drain(self.drain_seconds)
        self.config.timeout_graceful_shutdown = max(end - time.monotonic(), CLOSE_SECONDS)
        await super().shutdown(sockets)


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, message, and what a record has beside."""

    _known = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        content = {"time": round(record.created, 3), "level": record.levelname.lower(), "event": record.getMessage()}
        content |= {name: value for name, value in vars(record).items() if name not in self._known}
        if record.exc_info:
            content["error"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def make_service(args: ServeArguments, limits: Limits, tokens: Sequence[str], replica: str | None = None) -> Service:
    """The service of a command; see [`Service`]."""
    settings = SessionSettings(hop=args.hop, context=args.context)
    judge = Judge(load_judge(args.model), batch_size=args.batch_size)
    # Connections leave circles behind, and Python looks for those once they are a quarter of all objects. Those of the
    # model and of libraries are a million: they count no more.
    gc.collect()
    gc.freeze()
    return Service(judge, limits, settings, tokens, args.log_words, replica)


def make_server(args: ServeArguments, limits: Limits) -> Server:
    """The server of a command, ready to `run`."""
    return Server(make_service(args, limits, read_tokens(args.tokens)), args.host, args.port, args.drain_seconds)


def replica_name() -> str:
    """Of this process, among those that answer at one address."""
    return f"{platform.node()}:{os.getpid()}"


def log_json_lines() -> None:
    """Logs of this process go to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def main(args: ServeArguments, limits: Limits) -> None:
    """Serves until it is told to stop."""
    if args.engine == "ray":
        from .ray_serve import serve_on_ray

        serve_on_ray(args, limits)
        return
    if args.replicas > 1:
        from .replicas import serve_in_processes

        serve_in_processes(args, limits)
        return
    log_json_lines()
    make_server(args, limits).run()
