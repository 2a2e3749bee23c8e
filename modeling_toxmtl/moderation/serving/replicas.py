"""The service in several processes of one machine, which listen at the same port.

Design choices:
- A replica is a whole service, as those of Ray are: Python hears the packets of a process one at a time, so that a
  second process holds more sessions where cores are free.
- The kernel deals new connections among those that listen (`SO_REUSEPORT`), at random: there is no proxy that handles
  each packet once more.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event

from ... import WITHOUT_MODELS
from ...runtime import is_exported, num_cores
from .limits import Limits
from .server import ServeArguments, Server, log_json_lines, make_service, read_tokens, replica_name


logger = logging.getLogger("toxmtl.serve")

CHECK_SECONDS = 0.5  # after which it is seen that a replica is gone


def serve_in_processes(args: ServeArguments, limits: Limits) -> None:
    """Serves until it is told to stop; then each replica finishes what it took. One that dies is replaced.

    Raises:
        OSError: if the port is taken.
        RuntimeError: if a replica does not start.
    """
    log_json_lines()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // args.replicas)))  # before they start
    if is_exported(args.model):
        os.environ[WITHOUT_MODELS] = "1"  # it needs no PyTorch, which takes seconds and 350 MB of each
    with _bound(args.host, args.port) as held:  # keeps the port, and takes no connections
        address = held.getsockname()[:2]
        replicas = [_start(args, limits, address) for _ in range(args.replicas)]
        try:
            while not stopped.wait(CHECK_SECONDS):
                replicas = [_alive(replica, args, limits, address) for replica in replicas]
        finally:
            for process, _ in replicas:
                process.terminate()
            for process, _ in replicas:
                process.join()


def _bound(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound


def _start(args, limits, address) -> tuple[SpawnProcess, Event]:
    context = multiprocessing.get_context("spawn")  # threads of what is loaded do not outlive a fork
    has_started = context.Event()
    process = context.Process(target=_serve, args=(args, limits, address, has_started))
    process.start()
    return process, has_started


def _alive(replica, args, limits, address):
    """The replica, or another in its place."""
    process, has_started = replica
    if process.is_alive():
        return replica
    if not has_started.is_set():
        raise RuntimeError(f"A replica does not start, but ends with {process.exitcode}: its log says why.")
    logger.warning("replica replaced", extra={"pid": process.pid, "exitcode": process.exitcode})
    return _start(args, limits, address)


def _serve(args, limits, address, has_started):
    """In a replica's process."""
    log_json_lines()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        service = make_service(args, limits, read_tokens(args.tokens), replica_name())
    except (ValueError, OSError, RuntimeError, ImportError) as error:  # the user's to mend
        logger.error(str(error))
        sys.exit(1)
    server = Server(service, *address, args.drain_seconds, when_started=has_started.set)
    server.run(sockets=[_bound(*address)])


def _end_with_parent():
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
