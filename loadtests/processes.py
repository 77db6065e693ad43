"""The programs a run starts: the shop's server and the load generator. None outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from django.conf import settings
from django.core.management.base import CommandError

GUNICORN_CONF = settings.BASE_DIR / "deploy" / "gunicorn.conf.py"
LOCUSTFILE = settings.BASE_DIR / "loadtests" / "locustfile.py"
SERVERS = {
    "wsgi": ["shop.wsgi"],
    "asgi": ["-k", "asgi", "shop.asgi:application"],
}
"""How gunicorn is told to serve each kind."""
CONSUMER = [sys.executable, "manage.py", "commit_purchases"]
START_WITHIN_S = 20
STOP_WITHIN_S = 10
PR_SET_PDEATHSIG = 1


class ServerNotStarted(CommandError):
    """The shop's server did not come up; says why."""


@contextmanager
def child(
    arguments: list[str], *, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a program beside this one, its output in `log`; end it, and its children, on leaving.

    It has a session of its own, so that Ctrl-C reaches this process alone, which then ends it.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            cwd=settings.BASE_DIR,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_parent,
        )
        try:
            yield process
        finally:
            _end(process)


@contextmanager
def server(*, log: Path, kind: str = "wsgi", timed: bool = False) -> Iterator[str]:
    """
    Serve the shop on a free port while the block runs; gives its address.

    With `timed` its answers tell where their time went, in Server-Timing. Where there is
    Redis, a consumer commits beside it what the Redis counter accepted.
    Raises ServerNotStarted, with the end of the log, when it does not come up.
    """
    port = _free_port()
    arguments = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN_CONF), *SERVERS[kind]]
    environment = {"SERVER_KIND": kind, "SERVER_TIMING": str(int(timed))}
    environment |= {"BIND": f"127.0.0.1:{port}", "LOG_LEVEL": "ERROR", "HTTPS": "0"}
    with ExitStack() as stack:
        if "locks" in settings.CACHES:
            stack.enter_context(child(CONSUMER, log=log.with_suffix(".consumer.log")))
        process = stack.enter_context(child(arguments, log=log, **environment))
        host = f"http://127.0.0.1:{port}"
        _wait_until_alive(host, process, log)
        yield host


def consumers() -> list[int]:
    """The process ids of the consumers that were started here."""
    children = psutil.Process().children()
    return [c.pid for c in children if CONSUMER[-1] in _command_of(c)]


def locust_arguments(*, host: str, users: int, record: Path, **options: object) -> list[str]:
    """Write the command line of a headless run of the locustfile."""
    arguments = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    arguments += ["--host", host, "--users", str(users), "--spawn-rate", str(users)]
    arguments += ["--record", str(record), "--only-summary", "--loglevel", "ERROR"]
    for name, value in options.items():
        arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return arguments


def _wait_until_alive(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with direct.open(f"{host}/healthz", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise ServerNotStarted(f"The server did not start; the end of {log}:\n{tail}")


def _command_of(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_with_the_parent() -> None:
    """Linux: receive SIGTERM when the starting process dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
