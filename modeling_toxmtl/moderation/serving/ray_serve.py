"""The service on Ray Serve: the same application in replicas, on all machines of a cluster.

Design choices:
- A replica is a whole service, with a model, a batching queue and limits of its own: they share nothing, so that none
  takes another with it. Ray replaces one that is killed.
- Each request and each session goes to one replica. What differs between them would be a matter of luck for a client,
  so the keyword list cannot be changed, and metrics say which replica they are of.
"""

import signal
import threading
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI

from ...io.ray_pool import num_processors
from .limits import Limits
from .server import ServeArguments, create_app, log_json_lines, make_service, read_tokens, replica_name


try:
    from ray import serve
except ImportError as error:
    raise ImportError("--engine ray needs Ray Serve: pip install 'modeling-toxmtl[ray]'.") from error

NAME = "toxmtl"
SPARE_REQUESTS = 64  # beyond what the service takes, so that it is the service that refuses them, and says why


def application(args: ServeArguments, limits: Limits) -> serve.Application:
    """The service as Ray Serve deploys it, with limits for each replica. All find the model under the same path.

    Raises:
        ValueError: if there are fewer processors than replicas, for which Ray would wait.
    """
    kind = "GPU" if num_processors("GPU") else "CPU"
    if args.replicas > num_processors(kind):
        raise ValueError(f"--replicas is {args.replicas}, and the cluster has {num_processors(kind)} {kind}s.")
    if Path(args.model).exists():
        args = replace(args, model=str(Path(args.model).resolve()))
    tokens = read_tokens(args.tokens)

    def build() -> FastAPI:  # in each replica
        log_json_lines()
        return create_app(make_service(args, limits, tokens, replica_name()))

    return serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        num_replicas=args.replicas,
        max_ongoing_requests=limits.max_sessions + limits.max_requests + SPARE_REQUESTS,
        graceful_shutdown_timeout_s=args.drain_seconds,
        ray_actor_options={f"num_{kind.lower()}s": 1},
    ).bind()


def deploy(args: ServeArguments, limits: Limits) -> None:
    """Returns when all replicas take requests, at the host and port of every machine that has one.

    Raises:
        ValueError: as of [`application`].
        RuntimeError: if they do not start.
    """
    service = application(args, limits)
    serve.start(proxy_location="EveryNode", http_options={"host": args.host, "port": args.port})
    serve.run(service, name=NAME)


def serve_on_ray(args: ServeArguments, limits: Limits) -> None:
    """Serves until it is told to stop; then, clips are answered, and sessions may go on for `drain_seconds`."""
    deploy(args, limits)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # not before: Ray sets its own when it starts
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    serve.delete(NAME)  # and nothing else that the cluster serves
