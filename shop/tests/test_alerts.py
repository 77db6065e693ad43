"""Alerts: what is one, and that its beginning and its end are told once, whoever looks."""

from __future__ import annotations

import hmac
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as shop_settings
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import CommandError, call_command
from django.utils import timezone
from django_redis import get_redis_connection
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import adjustments, counter
from inventory.counter import Count
from inventory.models import Movement, Product, Stock
from inventory.overview import read_figures
from inventory.purchases import purchase
from inventory.queues import Queue
from inventory.tests.races import Crowd
from inventory.tests.servers import OwnRedis, child_environment
from shop import alert_senders
from shop.alert_senders import CALM, MOST_ATTEMPTS, deliver_due, look_and_tell, remember
from shop.alerts import FROM_REDIS, Alert, Kind, alerts_in, last_audits, unknown_in
from shop.models import AlertNotice, AlertState, ProductAudit
from shop.tests.test_settings import STRONG_KEY, last_line_of_refusal, run

pytestmark = pytest.mark.django_db(transaction=True)
OPERATOR = "operator@example.org"
WAIT_S = 30
SECRET = "a secret of at least thirty-two characters"


@pytest.fixture(autouse=True)
def _told_by_mail(settings: Settings) -> None:
    settings.ALERT_EMAILS = [OPERATOR]
    settings.ALERT_LOW_STOCK_UNITS = 5


def kinds() -> list[Kind]:
    return [alert.kind for alert in alerts_in(read_figures(), last_audits())]


def take(product: Product, units: int) -> None:
    adjustments.adjust(
        product_id=product.pk,
        delta=-units,
        kind=Movement.Kind.CORRECTION,
        reason="for the test",
        actor="test",
    )


def restock(product: Product, units: int) -> None:
    adjustments.adjust(
        product_id=product.pk,
        delta=units,
        kind=Movement.Kind.RESTOCK,
        reason="for the test",
        actor="test",
    )


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Let time pass for the senders."""
    now = timezone.now() + by
    monkeypatch.setattr(alert_senders.timezone, "now", lambda: now)


# What is an alert


def test_few_units_are_an_alert_from_the_threshold_on(make_product: MakeProduct) -> None:
    product = make_product(units=20)
    assert kinds() == []

    take(product, 14)
    assert kinds() == []
    take(product, 1)
    assert kinds() == [Kind.LOW_STOCK]


def test_what_was_never_more_is_not_few(make_product: MakeProduct) -> None:
    make_product(units=3)

    assert kinds() == []


def test_what_is_sold_out_is_low_as_well(make_product: MakeProduct) -> None:
    take(make_product(units=20), 20)

    assert kinds() == [Kind.SOLD_OUT, Kind.LOW_STOCK]


@pytest.mark.parametrize("window", ["opens_at", "closes_at"])
def test_a_sale_that_is_not_on_runs_out_of_nothing(make_product: MakeProduct, window: str) -> None:
    aside = timedelta(hours=1) if window == "opens_at" else timedelta(hours=-1)
    make_product(units=0, **{window: timezone.now() + aside})

    assert kinds() == []


def test_an_audit_with_findings_is_an_alert(make_product: MakeProduct) -> None:
    product = make_product()
    audit = ProductAudit.objects.create(product=product, begun_at=timezone.now())
    assert kinds() == []

    audit.finished_at = timezone.now()
    audit.save()
    assert kinds() == []

    audit.findings, audit.findings_total = [{"code": "oversold", "text": "2 never existed"}], 1
    audit.save()
    assert kinds() == [Kind.AUDIT]


@pytest.mark.parametrize(
    ("length", "oldest_s", "expected"),
    [(0, 0.0, []), (1000, 10.0, []), (1001, 0.1, ["consumer_lag"]), (1, 10.1, ["consumer_lag"])],
)
def test_a_long_or_old_queue_is_an_alert(
    make_product: MakeProduct, settings: Settings, length: int, oldest_s: float, expected: list[str]
) -> None:
    make_product()
    settings.ALERT_LAG_ENTRIES, settings.ALERT_LAG_S = 1000, 10
    figures = read_figures()
    queue = Queue(count=Count(), length=length, oldest_s=oldest_s)
    figures = replace(figures, products=[replace(figures.products[0], queue=queue)])

    assert [str(alert.kind) for alert in alerts_in(figures, {})] == expected


@pytest.mark.redis
def test_a_counter_that_is_wrong_is_an_alert(make_product: MakeProduct, buy: Buy) -> None:
    product = make_product(strategy="redis_counter")
    buy(product)
    get_redis_connection("locks").hset(counter.keys_of(product.pk)[0], "left", 99)

    assert kinds() == [Kind.COUNTER_DRIFT]


@pytest.mark.redis
def test_an_alert_from_redis_does_not_end_where_redis_does_not_answer(
    make_product: MakeProduct, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(strategy="redis_counter")
    remember([Alert(kind=Kind.CONSUMER_LAG, product=product, text="late")])
    own_redis.kill()
    later(monkeypatch, 2 * CALM)

    look_and_tell()

    assert unknown_in(read_figures()) == FROM_REDIS
    assert AlertState.objects.get().is_on
    assert [notice.event for notice in AlertNotice.objects.all()] == ["began"]


# Once per beginning and end


def test_the_beginning_and_the_end_are_mailed_once_each(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(units=20)
    look_and_tell()
    assert mail.outbox == []

    take(product, 17)
    for _ in range(3):
        look_and_tell()
    [began] = mail.outbox
    assert began.to == [OPERATOR]
    assert began.subject == "Lamp: Few units left"
    assert "3 units are left of 20" in began.body

    restock(product, 20)
    look_and_tell()
    assert len(mail.outbox) == 1
    later(monkeypatch, CALM)
    for _ in range(3):
        look_and_tell()
    _, ended = mail.outbox
    assert ended.subject == "Lamp: over: Few units left"

    take(product, 20)
    look_and_tell()
    assert len(mail.outbox) == 3


def test_what_comes_and_goes_is_told_once(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a sale with holds: a unit comes back, and is gone a second later."""
    product = make_product(units=1)
    for number in range(5):
        take(product, 1)
        later(monkeypatch, timedelta(seconds=20 * number))
        look_and_tell()
        restock(product, 1)
        look_and_tell()

    assert [notice.event for notice in AlertNotice.objects.filter(kind=Kind.SOLD_OUT)] == ["began"]


def test_a_counter_is_given_the_time_to_be_set_right(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = Alert(kind=Kind.COUNTER_DRIFT, product=make_product(), text="wrong")
    remember([drift])
    assert not AlertNotice.objects.exists()

    remember([])
    later(monkeypatch, timedelta(seconds=6))
    remember([drift])
    assert not AlertNotice.objects.exists()

    later(monkeypatch, timedelta(seconds=12))
    remember([drift])
    assert AlertNotice.objects.count() == 1


@pytest.mark.mariadb
def test_of_senders_who_look_at_once_one_tells(make_product: MakeProduct) -> None:
    take(make_product(units=20), 20)
    alerts = alerts_in(read_figures(), {})

    with Crowd(8) as senders:
        senders.race(lambda _n: remember(alerts))
        told = AlertNotice.objects.values_list("kind", flat=True)
        assert sorted(told) == ["low_stock", "sold_out"]

        senders.race(lambda _n: deliver_due())
        assert len(mail.outbox) == 2

        AlertState.objects.update(last_seen_at=timezone.now() - 2 * CALM)
        senders.race(lambda _n: remember([]))
        assert AlertNotice.objects.filter(event="ended").count() == 2


def test_two_senders_hold_the_same_alert_and_one_begins_it(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read that it is off; the second comes to write when the first has written."""
    alert = Alert(kind=Kind.SOLD_OUT, product=make_product(), text="gone")
    make = AlertState.objects.get_or_create
    others: list[int] = []

    def overtaken(**fields: Any) -> tuple[AlertState, bool]:
        found = make(**fields)
        if not others:
            others.append(1)
            remember([alert])
        return found

    monkeypatch.setattr(AlertState.objects, "get_or_create", overtaken)

    remember([alert])

    assert AlertNotice.objects.count() == 1


def test_a_mail_that_fails_is_tried_again_later_and_not_for_ever(
    make_product: MakeProduct, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(make_product(units=20), 17)
    settings.EMAIL_BACKEND = f"{__name__}.MailServerDown"
    look_and_tell()
    notice = AlertNotice.objects.get()
    assert (notice.attempts, notice.sent_at) == (1, None)
    assert deliver_due() == 0
    assert AlertNotice.objects.get().attempts == 1

    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    later(monkeypatch, timedelta(seconds=16))
    assert deliver_due() == 1
    assert len(mail.outbox) == 1

    settings.EMAIL_BACKEND = f"{__name__}.MailServerDown"
    AlertNotice.objects.update(attempts=MOST_ATTEMPTS - 1, due_at=timezone.now(), sent_at=None)
    assert deliver_due() == 0
    assert AlertNotice.objects.get().due_at is None


class MailServerDown(EmailBackend):
    """A mail server that fails."""

    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError


# Audits


def test_each_product_is_audited_and_not_again_until_it_is_due(
    make_product: MakeProduct, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slug in ("a", "b"):
        buy(make_product(slug))
    for _ in range(3):
        look_and_tell()
    first = dict(ProductAudit.objects.values_list("product__slug", "finished_at"))
    assert set(first) == {"a", "b"}
    assert None not in first.values()
    assert set(ProductAudit.objects.values_list("findings_total", flat=True)) == {0}

    later(monkeypatch, timedelta(minutes=16))
    look_and_tell()

    again = dict(ProductAudit.objects.values_list("product__slug", "finished_at"))
    assert sum(again[slug] != first[slug] for slug in again) == 1


def test_a_unit_that_vanished_from_the_stock_row_becomes_an_alert(
    make_product: MakeProduct,
) -> None:
    product = make_product(units=20)
    Stock.objects.filter(product=product).update(available=19)

    look_and_tell()
    look_and_tell()

    [told] = mail.outbox
    assert "The books disagree" in told.subject
    assert "The stock row has 19 available, the ledger 20." in told.body


def test_two_senders_do_not_audit_the_same_product_at_once(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product()
    audited: list[int] = []
    read = alert_senders.read_books

    def read_once(product_id: int) -> Any:
        audited.append(product_id)
        if len(audited) < 3:
            alert_senders.audit_one(read_figures())
        return read(product_id)

    monkeypatch.setattr(alert_senders, "read_books", read_once)

    alert_senders.audit_one(read_figures())

    assert len(audited) == 1


# The webhook


class Receiver:
    """A server that notes what it is sent and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.location = ""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # http.server calls it so
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            def do_GET(self) -> None:
                """A redirect that is followed would come here."""
                self.do_POST()

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "*")
    receiver = Receiver()
    settings.ALERT_EMAILS = []
    settings.ALERT_WEBHOOK_URL = receiver.address
    settings.ALERT_WEBHOOK_SECRET = SECRET
    yield receiver
    receiver.close()


def test_the_receiver_can_check_what_it_is_sent(
    make_product: MakeProduct, receiver: Receiver
) -> None:
    take(make_product(units=20), 17)
    look_and_tell()

    [(headers, body)] = receiver.got
    signed = headers["Last-Unit-Timestamp"].encode() + b"." + body
    expected = hmac.new(SECRET.encode(), signed, sha256).hexdigest()
    assert headers["Last-Unit-Signature"] == f"v1={expected}"
    assert abs(int(headers["Last-Unit-Timestamp"]) - timezone.now().timestamp()) < 60
    message = json.loads(body)
    assert message["event"] == "began"
    assert (message["kind"], message["product"]) == ("low_stock", "lamp")
    assert uuid.UUID(message["id"]) == AlertNotice.objects.get().pk


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_any_answer_but_yes_is_tried_again_with_the_same_id(
    make_product: MakeProduct,
    receiver: Receiver,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A redirect is not followed: what is signed is for one address."""
    receiver.status, receiver.location = status, receiver.address + "/elsewhere"
    take(make_product(units=20), 17)
    look_and_tell()
    assert len(receiver.got) == 1

    receiver.status = 200
    later(monkeypatch, timedelta(minutes=1))
    look_and_tell()
    look_and_tell()

    first, second = (json.loads(body) for _, body in receiver.got)
    assert first == second
    assert AlertNotice.objects.get().sent_at is not None


def test_a_receiver_that_fails_is_asked_once_in_a_round(
    make_product: MakeProduct, receiver: Receiver, settings: Settings
) -> None:
    receiver.status = 500
    settings.ALERT_EMAILS = [OPERATOR]
    take(make_product(units=20), 20)

    look_and_tell()

    assert len(receiver.got) == 1
    assert len(mail.outbox) == 2


def test_a_receiver_that_says_nothing_does_not_keep_the_mails(
    make_product: MakeProduct, receiver: Receiver, settings: Settings
) -> None:
    receiver.close()
    settings.ALERT_EMAILS = [OPERATOR]
    take(make_product(units=20), 17)

    look_and_tell()

    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    ("url", "secret", "problem"),
    [
        ("http://hooks.example/a", SECRET, "ALERT_WEBHOOK_URL begins with https://."),
        ("ftp://localhost/a", SECRET, "ALERT_WEBHOOK_URL begins with https://."),
        ("file:///etc/passwd", SECRET, "ALERT_WEBHOOK_URL begins with https://."),
        (
            "https://hooks.example/a",
            "short",
            "ALERT_WEBHOOK_SECRET has at least 32 characters.",
        ),
    ],
)
def test_the_shop_does_not_start_with_a_webhook_that_gives_secrets_away(
    url: str, secret: str, problem: str
) -> None:
    refusal = last_line_of_refusal(
        SECRET_KEY=STRONG_KEY, ALERT_WEBHOOK_URL=url, ALERT_WEBHOOK_SECRET=secret
    )

    assert refusal.endswith(problem)


@pytest.mark.parametrize("url", ["https://hooks.example/a", "http://localhost:9/a"])
def test_a_webhook_that_is_safe_may_be_set(url: str) -> None:
    environment = {"ALERT_WEBHOOK_URL": url, "ALERT_WEBHOOK_SECRET": SECRET}

    assert run("import shop.settings", SECRET_KEY=STRONG_KEY, **environment).returncode == 0


# The command


def test_the_command_says_how_many_it_sent(make_product: MakeProduct) -> None:
    take(make_product(units=20), 20)
    out = StringIO()

    call_command("send_alerts", stdout=out)

    assert out.getvalue() == "2 notices sent.\n"
    with pytest.raises(CommandError):
        call_command("send_alerts", watch=0)


def test_a_watching_process_tells_by_itself_and_ends_when_it_is_asked_to(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product(units=20)
    environment = {
        **child_environment(),
        "EMAIL_URL": f"filemail:///{tmp_path}",
        "ALERT_EMAILS": OPERATOR,
    }
    command = [sys.executable, "manage.py", "send_alerts", "--watch", "0.1"]
    process = subprocess.Popen(command, cwd=shop_settings.BASE_DIR, env=environment)
    try:
        take(product, 17)
        deadline = time.monotonic() + WAIT_S
        while not AlertNotice.objects.exclude(sent_at=None).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait()

    [told] = tmp_path.iterdir()
    assert "Few units left" in told.read_text()


def test_nothing_is_told_in_a_purchases_transaction(make_product: MakeProduct) -> None:
    """A purchase writes no notice and sends no mail: only `send_alerts` does."""
    product = make_product(units=1)

    purchase(slug=product.slug, quantity=1, buyer="guest:1", key=uuid.uuid4())

    assert not AlertNotice.objects.exists()
    assert mail.outbox == []
