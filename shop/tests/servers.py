"""The shop as gunicorn serves it, on the tests' database, for clients with sockets of their own."""

from __future__ import annotations

import http.client
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from django.conf import settings

from inventory.tests.servers import database_url, free_port

WAIT_S = 20
APPLICATIONS = {"wsgi": "shop.wsgi:application", "asgi": "shop.asgi:application"}


class RealShop:
    """One gunicorn with one worker; `environment` changes its settings."""

    def __init__(self, kind: str, log: Path, **environment: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.log = log
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "SERVER_KIND": kind,
            "BIND": f"127.0.0.1:{self.port}",
            "WEB_WORKERS": "1",
            "WEB_THREADS": "8",
            "HTTPS": "0",
            **environment,
        }

    def start(self) -> None:
        """Start it; wait until it answers."""
        conf = str(settings.BASE_DIR / "deploy" / "gunicorn.conf.py")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", conf, APPLICATIONS[self.kind]],
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError):
                if self.get("/healthz")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        """End it and its worker."""
        self._process.terminate()
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(WAIT_S)

    @contextmanager
    def kept_busy(self) -> Iterator[None]:
        """Let its worker do nothing during the block."""
        workers = psutil.Process(self._process.pid).children()
        for worker in workers:
            worker.suspend()
        try:
            yield
        finally:
            for worker in workers:
                worker.resume()

    def memory_bytes(self) -> int:
        """What its worker holds in memory."""
        workers = psutil.Process(self._process.pid).children()
        return sum(worker.memory_info().rss for worker in workers)

    def get(self, path: str) -> tuple[int, http.client.HTTPMessage, str]:
        """Get a page over a connection of its own."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            client.request("GET", path)
            response = client.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            client.close()

    def visit(self, slug: str) -> dict[str, str]:
        """Open a product's page; the headers that a program then buys with."""
        status, headers, page = self.get(f"/products/{slug}/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert status == 200
        assert token
        cookies = [c.split(";")[0] for c in headers.get_all("Set-Cookie") or []]
        return {
            "Host": f"127.0.0.1:{self.port}",
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": "; ".join(cookies),
            "X-CSRFToken": token[1],
        }


@dataclass
class Answer:
    """What came back on a socket: no status when it was closed without one."""

    status: int | None
    text: str
    took_s: float


class Wire:
    """A socket to the shop, on which anything can be written, at any pace."""

    def __init__(self, shop: RealShop) -> None:
        self._socket = socket.create_connection(("127.0.0.1", shop.port), timeout=WAIT_S)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def begin(self, path: str, headers: dict[str, str], *more: str) -> None:
        """Write the head of a POST."""
        lines = [f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), *more]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def write(self, data: bytes) -> bool:
        """Write until all is written, or there is something to read; whether all was."""
        view = memoryview(data)
        while view:
            readable, writable, _ = select.select([self._socket], [self._socket], [], WAIT_S)
            if readable or not writable:
                return False
            try:
                view = view[self._socket.send(view[:65536]) :]
            except OSError:
                return False
        return True

    def half_close(self) -> None:
        """Say that nothing more comes, while still reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def drip(self, every_s: float) -> None:
        """Write a byte now and then until there is an answer."""
        while not select.select([self._socket], [], [], every_s)[0]:
            self.write(b"x")

    def answer(self) -> Answer:
        """Read until there is a whole answer, or the connection is closed."""
        started = time.monotonic()
        data = b""
        with suppress(ConnectionError):
            while not _is_whole(data):
                piece = self._socket.recv(65536)
                if not piece:
                    break
                data += piece
        status = re.match(rb"HTTP/1\.1 (\d+)", data)
        took_s = time.monotonic() - started
        return Answer(int(status[1]) if status else None, data.decode(), took_s)


def _is_whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(separator) and length is not None and len(body) >= int(length[1])
