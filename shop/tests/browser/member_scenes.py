"""The pages of accounts: signing up, in and out, and passwords."""

from __future__ import annotations

from axes.models import AccessAttempt
from django.conf import settings
from django.urls import reverse
from playwright.sync_api import Page, expect

from shop.accounts import sign_up_token
from shop.tests.browser.shop import Shop, come_signed_in, submit_unscripted

ADDRESS = "ada.lovelace.countess.of.computing@mail.example.org"


def sign_in(shop: Shop, page: Page) -> None:
    """The form to sign in."""
    page.goto(reverse("sign-in"))


def sign_in_refused(shop: Shop, page: Page) -> None:
    """The answer to a wrong password."""
    sign_in(shop, page)
    fill_in(page, ADDRESS, "a wrong password")
    expect(page.get_by_role("alert")).to_be_visible()


def sign_in_locked(shop: Shop, page: Page) -> None:
    """The answer to too many wrong passwords."""
    AccessAttempt.objects.create(
        username=ADDRESS, ip_address="127.0.0.1", failures_since_start=settings.AXES_FAILURE_LIMIT
    )
    sign_in(shop, page)
    shop.watch.allow("^429 POST .*/sign-in/$")
    with page.expect_navigation():
        fill_in(page, ADDRESS, "yet another password")


def sign_up(shop: Shop, page: Page) -> None:
    """The form to sign up."""
    page.goto(reverse("sign-up"))


def sign_up_refused(shop: Shop, page: Page) -> None:
    """The answer to no address at all."""
    sign_up(shop, page)
    submit_unscripted(page.get_by_role("main").locator("form"))
    expect(page.get_by_role("alert")).to_be_visible()


def mail_sent(shop: Shop, page: Page) -> None:
    """What someone is told who just signed up."""
    sign_up(shop, page)
    ask_for_mail(page, ADDRESS)


def choose_password(shop: Shop, page: Page) -> None:
    """What the link in the mail leads to."""
    page.goto(reverse("sign-up-confirm", args=[sign_up_token(ADDRESS)]))


def choose_password_refused(shop: Shop, page: Page) -> None:
    """The answer to a password that is too easy to guess."""
    choose_password(shop, page)
    choose(page, "password")
    expect(page.get_by_role("alert").first).to_be_visible()


def link_used_up(shop: Shop, page: Page) -> None:
    """What an old link leads to."""
    page.goto(reverse("sign-up-confirm", args=["old"]))


def password_reset(shop: Shop, page: Page) -> None:
    """The form of someone who forgot the password."""
    page.goto(reverse("password-reset"))


def account(shop: Shop, page: Page) -> None:
    """A member's account; the address is long."""
    page.goto(reverse("sign-in"))
    come_signed_in(page, ADDRESS)
    page.goto(reverse("account"))


def password_change(shop: Shop, page: Page) -> None:
    """A member's form to choose another password."""
    account(shop, page)
    page.goto(reverse("password-change"))


def fill_in(page: Page, address: str, password: str) -> None:
    """Fill in and send the form to sign in."""
    page.locator('main [name="username"]').fill(address)
    page.locator('main [name="password"]').fill(password)
    page.locator("main form button").click()


def ask_for_mail(page: Page, address: str) -> None:
    """Fill in and send a form that asks for a mail; wait until it was sent."""
    page.locator('main [name="email"]').fill(address)
    page.locator("main form button").click()
    page.wait_for_url("**/sent/")


def choose(page: Page, password: str) -> None:
    """Fill in and send a form that asks for a new password, twice."""
    page.locator('main [name="new_password1"]').fill(password)
    page.locator('main [name="new_password2"]').fill(password)
    page.locator("main form button").click()


ALL = (
    sign_in,
    sign_in_refused,
    sign_in_locked,
    sign_up,
    sign_up_refused,
    mail_sent,
    choose_password,
    choose_password_refused,
    link_used_up,
    password_reset,
    account,
    password_change,
)
