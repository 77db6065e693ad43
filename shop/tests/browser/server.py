"""The shop's own server, on the test's database and with a Redis of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from inventory.tests.servers import database_url, free_port

START_WITHIN_S = 30
STOP_WITHIN_S = 10


@dataclass(slots=True)
class Server:
    """A running shop: where it is, what it has to say, and the mails it sent, one a file."""

    address: str
    log: Path
    mails: Path
    _read: int = 0

    def complaints(self) -> str:
        """What it logged since it was last asked, if an exception is among it."""
        said = self.log.read_bytes()[self._read :]
        self._read += len(said)
        return said.decode() if b"Traceback" in said else ""


@contextmanager
def serving(*, log: Path, redis: str) -> Iterator[Server]:
    """Serve as production does: gunicorn's own settings, static files collected, rates limited."""
    port = free_port()
    mails = log.parent / "mails"
    environment = {
        "BIND": f"127.0.0.1:{port}",
        "DATABASE_URL": database_url(),
        "REDIS_URL": redis,
        "HTTPS": "0",
        "SERVER_KIND": "wsgi",
        "STATIC_FROM_SOURCE": "0",
        "RATE_LIMITS": "1",
        "EMAIL_URL": f"filemail:///{mails}",
        "LOG_LEVEL": "ERROR",
    }
    environment = {**os.environ, **environment}
    collect = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity=0"]
    subprocess.run(collect, cwd=settings.BASE_DIR, env=environment, check=True)
    configuration = str(settings.BASE_DIR / "deploy" / "gunicorn.conf.py")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", configuration, "shop.wsgi"],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", log, mails)
    try:
        _wait_until_alive(server, process)
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_alive(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), direct.open(f"{server.address}/healthz", timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"The server did not start:\n{server.log.read_text()}")
