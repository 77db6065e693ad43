"""The second factor of staff: no page of the desk without it, each code once, and few guesses."""

from __future__ import annotations

from binascii import unhexlify
from datetime import timedelta
from io import StringIO
from threading import Event
from typing import Any

import pytest
from django.conf import settings as shop_settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from inventory.tests.races import Crowd
from shop.tests.test_roles import addresses
from shop.tests.test_settings import STRONG_KEY, run

pytestmark = pytest.mark.django_db
OTHER_COMES_WITHIN_S = 1.5
PASSWORD = "correct horse battery staple"
LOGIN = "/admin/login/"


@pytest.fixture(autouse=True)
def _second_factor(settings: Settings) -> None:
    settings.STAFF_SECOND_FACTOR = True


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password=PASSWORD)


@pytest.fixture
def device(operator: User) -> TOTPDevice:
    call_command("add_second_factor", "operator", stdout=StringIO())
    return TOTPDevice.objects.get(user=operator)


def code_of(device: TOTPDevice, *, steps: int = 0) -> str:
    """The code that the phone shows, so many half minutes later."""
    totp = TOTP(unhexlify(device.key.encode()), drift=steps)
    return f"{totp.token():06d}"


def wrong_code(device: TOTPDevice) -> str:
    near = {code_of(device, steps=steps) for steps in range(-3, 4)}
    return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)


def log_in(client: Client, code: str, *, password: str = PASSWORD) -> Any:
    fields = {"username": "operator", "password": password, "otp_token": code, "next": "/admin/"}
    return client.post(LOGIN, fields)


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def complaints(response: Any) -> str:
    return " ".join(response.context["form"].non_field_errors())


def test_password_and_code_let_in(client: Client, device: TOTPDevice) -> None:
    answer = log_in(client, code_of(device))

    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert is_in(client)


def test_a_code_may_be_typed_as_phones_show_it(client: Client, device: TOTPDevice) -> None:
    code = code_of(device)

    log_in(client, f" {code[:3]} {code[3:]} ")

    assert is_in(client)


@pytest.mark.parametrize("code", ["", "wrong", "9" * 17, "-1", "１２３４５６", "1e5", "\x00", "'"])
def test_nothing_but_the_code_lets_in(client: Client, device: TOTPDevice, code: str) -> None:
    answer = log_in(client, code)

    assert answer.status_code == 200
    assert not is_in(client)
    assert PASSWORD not in answer.content.decode()


def test_a_code_is_good_once(client: Client, device: TOTPDevice) -> None:
    code = code_of(device)
    log_in(client, code)

    second = Client()
    answer = log_in(second, code)

    assert not is_in(second)
    assert "used before" in complaints(answer)


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_of_two_who_send_the_same_code_at_once_one_is_let_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes first waits there for the other, who is kept waiting at the device's row."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = User.objects.create_superuser("operator", password=PASSWORD)
    code = code_of(TOTPDevice.objects.create(user=user, name="phone"))
    clients = [Client(), Client()]
    came: list[str] = []
    both_came = Event()
    verify = TOTPDevice.verify_token

    def wait_for_the_other(device: TOTPDevice, token: str) -> bool:
        came.append(token)
        if len(came) == 2:
            both_came.set()
        both_came.wait(OTHER_COMES_WITHIN_S)
        return bool(verify(device, token))

    monkeypatch.setattr(TOTPDevice, "verify_token", wait_for_the_other)

    with Crowd(2) as crowd:
        crowd.race(lambda number: log_in(clients[number], code))

    assert sum(is_in(client) for client in clients) == 1


def test_guesses_make_wait_even_for_the_right_code(client: Client, device: TOTPDevice) -> None:
    wrong = wrong_code(device)
    for _ in range(2):
        log_in(client, wrong)
        TOTPDevice.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(days=1))
    log_in(client, wrong)

    answer = log_in(client, code_of(device))

    assert not is_in(client)
    assert "wait" in complaints(answer)
    assert TOTPDevice.objects.get().throttling_failure_count == 3

    TOTPDevice.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(days=1))
    log_in(client, code_of(device))
    assert is_in(client)


def test_a_wrong_password_does_not_reach_the_code(client: Client, device: TOTPDevice) -> None:
    log_in(client, wrong_code(device), password="wrong")

    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_wrong_passwords_still_shut_the_door(client: Client, device: TOTPDevice) -> None:
    for _ in range(shop_settings.AXES_FAILURE_LIMIT):
        answer = log_in(client, code_of(device), password="wrong")
    assert answer.status_code == 429

    assert log_in(client, code_of(device)).status_code == 429
    assert not is_in(client)


def test_somebody_elses_phone_lets_nobody_in(client: Client, device: TOTPDevice) -> None:
    other = User.objects.create_superuser("other", password=PASSWORD)
    theirs = TOTPDevice.objects.create(user=other, name="phone")

    fields = {"otp_device": theirs.persistent_id, "otp_token": code_of(theirs)}
    client.post(LOGIN, {"username": "operator", "password": PASSWORD, **fields})

    assert not is_in(client)


def test_who_has_no_factor_is_told_how_to_get_one(client: Client, operator: User) -> None:
    answer = log_in(client, "123456")

    assert "add_second_factor" in complaints(answer)
    assert not is_in(client)


def test_a_session_without_a_code_sees_no_page_of_the_desk(device: TOTPDevice) -> None:
    """Such as one of the shop's own sign-in, which asks for no code."""
    client = Client()
    client.force_login(device.user, backend=shop_settings.AUTHENTICATION_BACKENDS[-1])

    for address in addresses():
        path = address.replace("<app_label>", "inventory")
        if "<" in path or path in ("login/", "logout/"):
            continue
        answer = client.get(f"/admin/{path}")
        assert answer.status_code == 302, path
        assert answer["Location"].startswith(LOGIN), path


def test_the_session_of_a_factor_that_was_replaced_is_over(
    client: Client, device: TOTPDevice
) -> None:
    log_in(client, code_of(device))
    assert is_in(client)

    call_command("add_second_factor", "operator", stdout=StringIO())

    assert not is_in(client)


def test_the_command_shows_a_code_to_scan_and_its_address(operator: User) -> None:
    out = StringIO()

    call_command("add_second_factor", "operator", stdout=out)

    device = TOTPDevice.objects.get(user=operator)
    assert "█" in out.getvalue()
    last = out.getvalue().strip().splitlines()[-1]
    assert last == device.config_url
    assert last.startswith("otpauth://totp/Last%20Unit%3Aoperator?secret=")


def test_the_command_takes_a_factor_away(device: TOTPDevice) -> None:
    call_command("add_second_factor", "operator", remove=True, stdout=StringIO())

    assert not TOTPDevice.objects.exists()


def test_the_command_knows_staff_only(operator: User) -> None:
    User.objects.create_user("shopper")

    for name in ("nobody", "shopper"):
        with pytest.raises(CommandError):
            call_command("add_second_factor", name)


def test_the_secrets_are_on_no_page_of_the_desk() -> None:
    assert not admin.site.is_registered(TOTPDevice)
    assert not [address for address in addresses() if "otp" in address]


def test_without_the_setting_the_password_is_enough(
    client: Client, operator: User, settings: Settings
) -> None:
    settings.STAFF_SECOND_FACTOR = False

    assert b"otp_token" not in client.get(LOGIN).content
    log_in(client, "")

    assert is_in(client)


@pytest.mark.parametrize(("given", "is_on"), [({}, False), ({"STAFF_SECOND_FACTOR": "1"}, True)])
def test_the_environment_decides(given: dict[str, str], is_on: bool) -> None:
    said = run(
        "from shop import settings; print(settings.STAFF_SECOND_FACTOR)",
        SECRET_KEY=STRONG_KEY,
        **given,
    )

    assert said.stdout.strip() == str(is_on)
