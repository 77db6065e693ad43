"""Mails that confirm orders: to whom, once, in spite of what, and never in a sale's way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory.ledger import Receipt
from inventory.models import Order, Product
from inventory.tests.races import WAIT_S, Crowd
from inventory.tests.servers import database_url
from shop import confirmations
from shop.confirmations import MOST_ATTEMPTS, confirm, overdue, unconfirmed
from shop.models import Confirmation, MailLanguage

pytestmark = pytest.mark.django_db(transaction=True)

ADA = "ada@example.org"


@pytest.fixture
def ada() -> User:
    return User.objects.create_user(ADA, ADA)


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product(units=200)


@pytest.fixture
def order(product: Product, ada: User, buy: Buy) -> Order:
    return order_of(buy(product, buyer=f"user:{ada.pk}", quantity=2))


def order_of(receipt: Receipt) -> Order:
    return Order.objects.get(pk=receipt.order)


def send() -> str:
    """Run the command once, through all that is to do."""
    out = StringIO()
    call_command("send_confirmations", stdout=out)
    return out.getvalue().strip()


class MailServerDown(EmailBackend):
    """A mail server that fails."""

    def send_messages(self, messages: Any) -> int:
        """Fail."""
        raise ConnectionRefusedError("nobody answers")


@contextmanager
def mail_server_down(settings: Settings) -> Iterator[None]:
    working = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.MailServerDown"
    yield
    settings.EMAIL_BACKEND = working


def let_it_be_due() -> None:
    """Pass the time until the next attempt."""
    due = Confirmation.objects.filter(due_at__isnull=False)
    due.update(due_at=timezone.now() - timedelta(seconds=1))


# To whom


def test_confirms_a_members_order_once(order: Order) -> None:
    assert send() == "1 mails sent."
    assert send() == "0 mails sent."

    (message,) = mail.outbox
    assert message.to == [ADA]
    assert message.subject == "Your order at Last Unit"
    assert "It is yours: 2 × Lamp." in message.body
    assert "2 × € 12.50 = € 25.00" in message.body
    assert f"{settings.SITE_URL}/orders/{order.reference}/" in message.body
    noted = Confirmation.objects.get()
    assert noted.sent_at is not None
    assert (noted.attempts, noted.due_at) == (1, None)


def test_writes_to_no_guest(product: Product, buy: Buy) -> None:
    buy(product)

    assert send() == "0 mails sent."
    assert not Confirmation.objects.exists()


@pytest.mark.parametrize("change", [{"email": ""}, {"is_active": False}], ids=str)
def test_writes_to_nobody_who_cannot_be_written_to(
    order: Order, ada: User, change: dict[str, object]
) -> None:
    User.objects.update(**change)

    assert send() == "0 mails sent."
    assert send() == "0 mails sent."
    assert Confirmation.objects.get().due_at is None, "it is not looked at again"


def test_an_account_that_is_gone_is_in_nobodys_way(order: Order, ada: User) -> None:
    ada.delete()

    assert send() == "0 mails sent."


@pytest.mark.parametrize("buyer", ["user:", "user:ada", "user:1:2", "user:99999999999999999999"])
def test_a_buyer_who_cannot_be_read_is_in_nobodys_way(order: Order, buyer: str, buy: Buy) -> None:
    order_of(buy(order.product, buyer=buyer))

    assert send() == "1 mails sent."


@pytest.mark.parametrize("status", ["held", "cancelled", "expired"])
def test_confirms_only_what_is_bought(order: Order, status: str) -> None:
    Order.objects.update(status=status)

    assert send() == "0 mails sent."


def test_confirms_a_hold_once_it_is_paid(order: Order) -> None:
    Order.objects.update(status="held", created_at=timezone.now() - timedelta(hours=23))
    send()
    Order.objects.update(status="paid")

    assert send() == "1 mails sent."


def test_what_is_cancelled_while_it_is_claimed_is_not_confirmed(order: Order) -> None:
    Order.objects.update(status="cancelled")

    assert not confirm(order)
    assert not mail.outbox


def test_leaves_old_orders_alone(order: Order) -> None:
    Order.objects.update(created_at=timezone.now() - timedelta(days=3))

    assert send() == "0 mails sent."


def test_confirms_what_joined_an_account(client: Client, ada: User, product: Product) -> None:
    client.post(f"/products/{product.slug}/buy/")
    send()
    guest_id = Order.objects.get().buyer
    assert guest_id.startswith("guest:")
    browser = Client()
    browser.cookies["guest"] = client.cookies["guest"].value
    ada.set_password("a-long-enough-one")
    ada.save()
    browser.post("/account/sign-in/", {"username": ADA, "password": "a-long-enough-one"})

    assert send() == "1 mails sent."


def test_writes_in_the_language_of_the_last_sign_in(
    order: Order, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken: list[str | None] = []
    MailLanguage.objects.create(user=ada, language="zh-hans")
    monkeypatch.setattr(
        confirmations.mails,
        "send",
        lambda *args: spoken.append(confirmations.translation.get_language()),
    )

    confirm(order)

    assert spoken == ["zh-hans"]


def test_a_products_name_adds_no_header(order: Order) -> None:
    Product.objects.update(name="Lamp\nBcc: eve@example.org\n\n<b>&")

    assert send() == "1 mails sent."

    (message,) = mail.outbox
    assert message.recipients() == [ADA]
    assert set(message.message().keys()) & {"Bcc", "Cc"} == set()
    assert "<b>&" in message.body, "it is text, and says what the product is called"


def test_an_address_that_adds_a_header_is_not_written_to(order: Order) -> None:
    User.objects.update(email="ada@example.org\nBcc: eve@example.org")

    assert send() == "0 mails sent."
    assert not mail.outbox


# In spite of what


def test_a_failing_mail_server_is_tried_again_later_and_not_for_ever(
    order: Order, settings: Settings
) -> None:
    with mail_server_down(settings):
        for _ in range(MOST_ATTEMPTS + 2):
            assert send() == "0 mails sent."
            let_it_be_due()

    assert Confirmation.objects.get().attempts == MOST_ATTEMPTS
    assert Confirmation.objects.get().due_at is None
    assert send() == "0 mails sent."


def test_waits_twice_as_long_after_each_failure(order: Order, settings: Settings) -> None:
    pauses_min = []
    with mail_server_down(settings):
        for _ in range(4):
            confirm(order)
            due_at = Confirmation.objects.get().due_at
            assert due_at is not None
            pauses_min.append(round((due_at - timezone.now()).total_seconds() / 60))
            assert not confirm(order), "not before it is due"
            let_it_be_due()

    assert pauses_min == [5, 10, 20, 40]


def test_sends_when_the_mail_server_is_back(order: Order, settings: Settings) -> None:
    with mail_server_down(settings):
        send()
    let_it_be_due()

    assert send() == "1 mails sent."
    assert send() == "0 mails sent."
    assert len(mail.outbox) == 1


def test_one_failing_mail_keeps_no_other_back(
    order: Order, product: Product, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = User.objects.create_user("bob", "bob@example.org")
    buy(product, buyer=f"user:{bob.pk}")
    really_send = confirmations.mails.send

    def fail_for_ada(name: str, address: str, context: dict[str, Any]) -> None:
        if address == ADA:
            raise RuntimeError("what this backend raises is its own")
        really_send(name, address, context)

    monkeypatch.setattr(confirmations.mails, "send", fail_for_ada)

    assert send() == "1 mails sent."


def test_a_sender_that_died_is_stood_in_for(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(confirmations.mails, "send", die)
        with pytest.raises(KeyboardInterrupt):
            confirm(order)
    assert not overdue()
    let_it_be_due()

    assert send() == "1 mails sent."


def test_takes_many_batch_by_batch(
    ada: User, product: Product, buy: Buy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmations, "BATCH", 3)
    for _ in range(7):
        buy(product, buyer=f"user:{ada.pk}")

    assert len(unconfirmed()) == 3
    assert send() == "7 mails sent."


# Once


def test_of_many_senders_one_sends(order: Order) -> None:
    with Crowd(8) as crowd:
        for _ in range(5):
            crowd.race(lambda n: confirm(order))
            assert len(mail.outbox) == 1
            Confirmation.objects.all().delete()
            mail.outbox.clear()


def test_of_many_senders_one_sends_again(order: Order, settings: Settings) -> None:
    with mail_server_down(settings):
        confirm(order)
    let_it_be_due()

    with Crowd(8) as crowd:
        crowd.race(lambda n: confirm(order))

    assert len(mail.outbox) == 1
    assert Confirmation.objects.get().attempts == 2


def run_sender(tmp_path: Any, *options: str) -> subprocess.Popen[str]:
    """`manage.py send_confirmations` as a process whose mails are files."""
    connection.close()
    return subprocess.Popen(
        [sys.executable, "manage.py", "send_confirmations", *options],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DATABASE_URL": database_url(),
            "EMAIL_URL": f"filemail:///{tmp_path}",
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def mails_in(tmp_path: Any) -> list[str]:
    texts = [path.read_text() for path in tmp_path.glob("*.log")]
    return [one for text in texts for one in text.split("-" * 79) if one.strip()]


def test_two_processes_send_each_mail_once(
    ada: User, product: Product, buy: Buy, tmp_path: Any
) -> None:
    references = [buy(product, buyer=f"user:{ada.pk}").order for _ in range(30)]

    senders = [run_sender(tmp_path) for _ in range(2)]
    answers = [sender.communicate(timeout=WAIT_S) for sender in senders]

    assert [sender.returncode for sender in senders] == [0, 0], answers
    sent = mails_in(tmp_path)
    assert len(sent) == 30
    assert all(sum(str(reference) in one for one in sent) == 1 for reference in references)
    counts = [int(out.split()[0]) for out, _ in answers]
    assert sum(counts) == 30


def test_a_watcher_sends_what_comes_and_ends_when_told(order: Order, tmp_path: Any) -> None:
    sender = run_sender(tmp_path, "--watch", "0.05")
    try:
        for _ in range(WAIT_S * 20):
            if Confirmation.objects.filter(sent_at__isnull=False).exists():
                break
            select.select([], [], [], 0.05)
        sender.send_signal(signal.SIGTERM)
        _, log = sender.communicate(timeout=WAIT_S)
    finally:
        sender.kill()

    assert (sender.returncode, log) == (0, "")
    assert len(mails_in(tmp_path)) == 1


@pytest.mark.parametrize("pause", ["0", "-1"])
def test_refuses_a_watch_without_a_pause(pause: str) -> None:
    with pytest.raises(CommandError, match="above 0"):
        call_command("send_confirmations", "--watch", pause)


# Never in a sale's way


@pytest.mark.parametrize("broken", ["mail", "outbox"])
def test_a_sale_knows_nothing_of_mails(
    client: Client, ada: User, product: Product, settings: Settings, broken: str
) -> None:
    client.force_login(ada)
    outbox = Confirmation._meta.db_table

    def fail_for_the_outbox(execute: Any, sql: str, *rest: Any) -> Any:
        if broken == "outbox" and outbox in sql:
            raise OperationalError(1114, "The table is full")
        return execute(sql, *rest)

    with mail_server_down(settings), connection.execute_wrapper(fail_for_the_outbox):
        answer = client.post(
            f"/products/{product.slug}/buy/",
            {"key": uuid.uuid4()},
            headers={"Accept": "application/json"},
        )

    assert answer.status_code == 201
    assert not Confirmation.objects.exists()
