"""Alive, and ready: what each claims, and how soon when something hangs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from pytest_django import Settings

from shop import health

SOON_S = 1.3
"""The promise is a second; the rest is for a busy machine."""


@pytest.fixture
def hang() -> Iterator[Callable[..., None]]:
    """A call that does not return while the test lasts."""
    over = threading.Event()

    def wait(*args: object) -> None:
        over.wait(10)

    yield wait
    over.set()


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < limit_s


def refuse_connection(connection: BaseDatabaseWrapper) -> None:
    raise OperationalError(2003, "Can't connect to server on 'db' (111)")


def say_ok() -> None:
    """Stand in for a probe that is answered."""


def use_redis_at(address: str, settings: Settings) -> None:
    locks = {**settings.CACHES["locks"], "LOCATION": f"redis://{address}/1"}
    settings.CACHES = {**settings.CACHES, "locks": locks}


def test_is_alive_without_touching_database_or_redis(
    client: Client, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """pytest-django forbids the database to a test without its mark; so does the next line."""
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse_connection)
    settings.CACHES = {}

    response = client.get("/healthz")

    assert (response.status_code, response.content) == (200, b"alive\n")
    assert not response.cookies


@pytest.mark.django_db(transaction=True)
@pytest.mark.redis
def test_is_ready_when_database_and_redis_answer(client: Client) -> None:
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {"ready": True, "database": "ok", "redis": "ok"}
    assert not response.cookies


@pytest.mark.django_db(transaction=True)
def test_asks_no_redis_where_none_is_set(client: Client, settings: Settings) -> None:
    settings.CACHES = {name: cache for name, cache in settings.CACHES.items() if name != "locks"}

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {"ready": True, "database": "ok"}


def test_is_not_ready_when_the_database_refuses_the_connection(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse_connection)

    with within(SOON_S):
        response = client.get("/readyz")

    parts = response.json()
    assert response.status_code == 503
    assert parts["ready"] is False
    assert parts["database"] == "no answer (OperationalError)"
    assert parts.get("redis", "ok") == "ok", "one part's failure is not another's"


def test_is_not_ready_when_the_database_hangs_and_says_so_within_a_second(
    client: Client, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", hang)

    with within(SOON_S):
        response = client.get("/readyz")

    parts = response.json()
    assert response.status_code == 503
    assert parts["ready"] is False
    assert parts["database"] == "no answer within 0.9 s"
    assert parts.get("redis", "ok") == "ok"


@pytest.mark.redis
def test_is_not_ready_when_redis_refuses_the_connection(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_ask_database", say_ok)
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        use_redis_at(f"127.0.0.1:{nobody_listens.getsockname()[1]}", settings)

        with within(SOON_S):
            response = client.get("/readyz")

    parts = response.json()
    assert response.status_code == 503
    assert (parts["ready"], parts["database"]) == (False, "ok")
    assert parts["redis"].startswith("no answer (")


@pytest.mark.redis
def test_is_not_ready_when_redis_takes_the_connection_and_then_says_nothing(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket timeout of the settings (0.5 s) ends it, so that no thread is left waiting."""
    monkeypatch.setattr(health, "_ask_database", say_ok)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_redis_at(f"127.0.0.1:{silent.getsockname()[1]}", settings)

        with within(SOON_S):
            response = client.get("/readyz")

    parts = response.json()
    assert response.status_code == 503
    assert (parts["ready"], parts["database"]) == (False, "ok")
    assert parts["redis"].startswith("no answer (")


@pytest.mark.redis
def test_is_not_ready_when_redis_hangs_past_every_timeout(
    client: Client, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    monkeypatch.setattr(health, "_ask_database", say_ok)
    monkeypatch.setattr(health, "_ask_redis", hang)

    with within(SOON_S):
        response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"ready": False, "database": "ok", "redis": "no answer within 0.9 s"}


@pytest.mark.redis
def test_asks_both_at_once_so_that_two_that_hang_take_no_longer(
    client: Client, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    monkeypatch.setattr(health, "_ask_database", hang)
    monkeypatch.setattr(health, "_ask_redis", hang)

    with within(SOON_S):
        response = client.get("/readyz")

    assert response.json() == {
        "ready": False,
        "database": "no answer within 0.9 s",
        "redis": "no answer within 0.9 s",
    }


@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
def test_answers_probes_over_http_where_everything_else_is_sent_to_https(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(health, "_ask_database", say_ok)
    settings.SECURE_SSL_REDIRECT = True

    assert client.get(address).status_code == 200
    assert client.get("/products/lamp/").status_code == 301


@pytest.mark.django_db(transaction=True)
def test_probes_of_what_hangs_do_not_pile_up(
    client: Client, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    """Each would keep a thread and a connection."""
    asked: list[bool] = []

    def counted() -> None:
        asked.append(True)
        hang()

    monkeypatch.setattr(health, "_ask_database", counted)

    for _ in range(2):
        assert client.get("/readyz").status_code == 503

    assert len(asked) == 1
