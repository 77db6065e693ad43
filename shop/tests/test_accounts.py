"""Sign up, in and out; passwords; what nobody may learn; and whose a guest's orders become."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from conftest import Buy, MakeProduct, drain
from inventory.audit import audit, read_books
from inventory.errors import LimitReached
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Movement, Order, Product
from inventory.strategies import STRATEGIES
from inventory.tests.races import WAIT_S, Crowd
from shop import accounts, joining
from shop.addresses import client_address
from shop.models import MailLanguage
from shop.throttling import PatientHandler

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Accept": "application/json"}
PASSWORD = "a-long-enough-one"
ADA = "ada@example.org"
SIGN_IN, SIGN_UP, SIGN_OUT = "/account/sign-in/", "/account/sign-up/", "/account/sign-out/"
RESET, CHANGE = "/account/reset/", "/account/password/"


@pytest.fixture(autouse=True)
def _quick_hasher(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user(ADA, ADA, PASSWORD)


def sign_in(client: Client, name: str = ADA, password: str = PASSWORD, **more: Any) -> Response:
    fields = {"username": name, "password": password, "next": more.pop("next", "")}
    return client.post(SIGN_IN, fields, **more)


def text_of(response: Response) -> str:
    return response.content.decode()


def words_of(response: Response, address: str) -> str:
    """A page, without the token and the address typed in."""
    text = re.sub(r'(csrfmiddlewaretoken" value=")[^"]+', r"\1", text_of(response))
    return text.replace(address, "ADDRESS")


def link_in(message: mail.EmailMessage) -> str:
    found = re.search(r"http://testserver(/account/\S+)", str(message.body))
    assert found
    return found[1]


def last_mail() -> mail.EmailMessage:
    return mail.outbox[-1]


def open_reset_form(client: Client, link: str) -> tuple[Response, str]:
    """Follow a reset link to its form; the page and the form's address."""
    moved = client.get(link)
    address = moved.headers.get("Location", link)
    return client.get(address), address


def choose(client: Client, address: str, password: str) -> Response:
    return client.post(address, {"new_password1": password, "new_password2": password})


def is_signed_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


# Sign up


def test_signs_up_by_a_mailed_link(client: Client) -> None:
    asked = client.post(SIGN_UP, {"email": "Ada@Example.org"})

    assert asked["Location"] == "/account/sign-up/sent/"
    assert "We sent you a mail" in text_of(client.get(asked["Location"]))
    assert not User.objects.exists(), "nobody has an account before the mail was read"
    assert last_mail().to == [ADA]
    link = link_in(last_mail())
    assert ADA in text_of(client.get(link))
    done = choose(client, link, PASSWORD)
    assert done["Location"] == "/orders/"
    user = User.objects.get()
    assert (user.username, user.email, user.is_staff) == (ADA, ADA, False)
    assert is_signed_in(client)
    assert sign_in(Client()).status_code == 302


def test_a_sign_up_link_works_once(client: Client) -> None:
    client.post(SIGN_UP, {"email": ADA})
    link = link_in(last_mail())
    choose(client, link, PASSWORD)

    again = choose(Client(), link, "another-long-one")

    assert "does not work any more" in text_of(again)
    assert "does not work any more" in text_of(Client().get(link))
    assert User.objects.get().check_password(PASSWORD)


def test_a_sign_up_link_followed_twice_at_once_makes_one_account() -> None:
    link = f"{SIGN_UP}{accounts.sign_up_token(ADA)}/"
    answers: list[str] = []

    with Crowd(6) as crowd:
        crowd.race(lambda n: answers.append(text_of(choose(Client(), link, PASSWORD))))

    assert User.objects.count() == 1
    assert len(answers) == 6
    assert sum("does not work any more" in answer for answer in answers) == 5


@pytest.mark.parametrize("forged", ["nonsense", "Iq5hIg:1a:x", "%00"])
def test_a_forged_sign_up_link_does_not_work(client: Client, forged: str) -> None:
    assert "does not work any more" in text_of(client.get(f"{SIGN_UP}{forged}/"))


def test_an_old_sign_up_link_does_not_work(client: Client, settings: Settings) -> None:
    token = accounts.sign_up_token(ADA)
    settings.PASSWORD_RESET_TIMEOUT = -1

    assert "does not work any more" in text_of(client.get(f"{SIGN_UP}{token}/"))


@pytest.mark.parametrize("weak", ["short", "password1234", "8520147963", ADA])
def test_refuses_a_weak_password(client: Client, weak: str) -> None:
    page = choose(client, f"{SIGN_UP}{accounts.sign_up_token(ADA)}/", weak)

    assert page.status_code == 200
    assert 'role="alert"' in text_of(page)
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "address", ["", "ada", "a@b", "ada@example.org\nBcc: eve@example.org", "a" * 145 + "@ex.org"]
)
def test_refuses_what_is_no_address(client: Client, address: str) -> None:
    page = client.post(SIGN_UP, {"email": address})

    assert page.status_code == 200
    assert 'role="alert"' in text_of(page)
    assert not mail.outbox


def test_spells_an_address_in_one_way_only() -> None:
    assert accounts.normal_address("Ada@MÜLLER.example") == "ada@xn--mller-kva.example"
    with pytest.raises(ValidationError):
        accounts.normal_address(f"ada@{'ü' * 64}.example")


# What nobody may learn


def test_sign_up_says_the_same_to_a_known_address(client: Client, ada: User) -> None:
    with CaptureQueriesContext(connection) as to_known:
        known = client.post(SIGN_UP, {"email": ADA}, follow=True)
    with CaptureQueriesContext(connection) as to_unknown:
        unknown = client.post(SIGN_UP, {"email": "bob@example.org"}, follow=True)

    assert known.redirect_chain == unknown.redirect_chain
    assert known.status_code == unknown.status_code
    assert words_of(known, ADA) == words_of(unknown, "bob@example.org")
    assert len(to_known) == len(to_unknown)
    to_ada, to_bob = mail.outbox
    assert (to_ada.to, to_bob.to) == ([ADA], ["bob@example.org"])
    assert "you have one already" in to_ada.body
    assert link_in(to_ada) == SIGN_IN
    assert "choose a password" in to_bob.body


@pytest.mark.parametrize("state", ["unknown", "inactive", "without a password"])
def test_a_reset_says_the_same_to_every_address(client: Client, ada: User, state: str) -> None:
    bob = "bob@example.org"
    if state != "unknown":
        inactive = state == "inactive"
        User.objects.create_user(bob, bob, PASSWORD if inactive else None, is_active=not inactive)

    known = client.post(RESET, {"email": ADA}, follow=True)
    other = client.post(RESET, {"email": bob}, follow=True)

    assert known.redirect_chain == other.redirect_chain
    assert known.status_code == other.status_code
    assert words_of(known, ADA) == words_of(other, bob)
    to_ada, to_bob = mail.outbox
    assert (to_ada.to, to_bob.to) == ([ADA], [bob])
    assert "choose a new password" in to_ada.body
    assert "there is none" in to_bob.body


@pytest.mark.parametrize("ask_at", [SIGN_UP, RESET])
@pytest.mark.parametrize("address", [ADA, "bob@example.org"])
def test_says_the_same_when_the_mail_server_is_down(
    client: Client, ada: User, settings: Settings, ask_at: str, address: str
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    page = client.post(ask_at, {"email": address}, follow=True)

    assert "We sent you a mail" in text_of(page)


def test_sign_in_says_the_same_to_all_whom_it_does_not_let_in(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.create_user("bob@example.org", "bob@example.org", PASSWORD, is_active=False)
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    answers = set()
    for name in (ADA, "bob@example.org", "nobody@example.org"):
        hashed.clear()
        answer = sign_in(client, name, "not-the-password")
        answers.add((answer.status_code, words_of(answer, name), len(hashed)))

    assert len(answers) == 1
    ((status, words, hashes),) = answers
    assert (status, hashes) == (200, 1)
    assert "do not belong together" in words
    assert words_of(sign_in(client, "bob@example.org"), "bob@example.org") == words


# Throttling


def fail(client: Client, times: int, name: str = ADA, **more: Any) -> Response:
    for _ in range(times):
        answer = sign_in(client, name, "wrong", **more)
    return answer


@pytest.mark.parametrize("name", [ADA, "nobody@example.org"])
def test_five_failures_lock_a_name_from_one_address(client: Client, ada: User, name: str) -> None:
    assert fail(client, 4, name).status_code == 200

    locked = fail(client, 1, name)

    assert locked.status_code == 429
    assert locked["Retry-After"] == "900"
    assert "Wait a quarter of an hour" in text_of(locked)
    assert f'<a href="{RESET}"' in text_of(locked)
    assert "Last Unit" in text_of(locked)
    assert sign_in(client, name).status_code == 429, "the right password neither"
    assert not Session.objects.exists()


def test_a_lock_is_a_problem_to_programs(client: Client) -> None:
    locked = fail(client, 5, headers=JSON)

    assert locked["Content-Type"] == "application/problem+json"
    assert locked.json()["code"] == "too_many_attempts"


def test_a_lock_holds_for_one_name_and_address_only(client: Client, ada: User) -> None:
    fail(client, 5)

    assert fail(client, 1, "bob@example.org").status_code == 200
    assert sign_in(Client(), REMOTE_ADDR="192.0.2.7").status_code == 302


def test_spelling_a_name_or_a_browser_otherwise_escapes_no_lock(client: Client, ada: User) -> None:
    for number, name in enumerate([ADA, ADA.upper(), "Ada@Example.org", f" {ADA} ", ADA]):
        locked = fail(client, 1, name, HTTP_USER_AGENT=f"browser {number}")

    assert locked.status_code == 429


def test_a_made_up_forwarding_header_escapes_no_lock(client: Client, ada: User) -> None:
    for number in range(5):
        locked = fail(client, 1, HTTP_X_FORWARDED_FOR=f"192.0.2.{number}")

    assert locked.status_code == 429


def test_a_lock_ends_and_leaves_nothing_behind(client: Client, ada: User) -> None:
    fail(client, 5)
    fail(client, 5, "bob@example.org")
    past = timezone.now() - timedelta(minutes=16)
    AccessAttempt.objects.update(attempt_time=past)

    assert sign_in(client).status_code == 302
    assert not AccessAttempt.objects.exists(), "every sign-in clears what is over"


def test_trying_on_does_not_prolong_a_lock_nor_fill_the_table(client: Client, ada: User) -> None:
    fail(client, 5)
    before = AccessAttempt.objects.values().get()

    fail(client, 3)

    assert AccessAttempt.objects.values().get() == before


def test_a_sign_in_forgets_the_failures_before_it(client: Client, ada: User) -> None:
    fail(client, 4)
    sign_in(client)

    assert fail(client, 4).status_code == 200


def test_throttles_the_operators_door_too(client: Client) -> None:
    User.objects.create_superuser("operator", password=PASSWORD)
    for _ in range(5):
        locked = client.post("/admin/login/", {"username": "operator", "password": "wrong"})

    assert locked.status_code == 429
    right = client.post("/admin/login/", {"username": "operator", "password": PASSWORD})
    assert right.status_code == 429


@pytest.mark.parametrize("name", ["x" * 300, "ö" * 300, "x" * 255 + " ", ""])
def test_answers_a_name_of_any_length(client: Client, name: str) -> None:
    answer = client.post("/admin/login/", {"username": name, "password": "wrong"})

    assert answer.status_code == 200


def test_a_server_on_a_socket_has_no_addresses_and_locks_all_the_same(
    client: Client, ada: User
) -> None:
    assert fail(client, 5, REMOTE_ADDR="").status_code == 429


def test_counts_a_failure_again_that_a_deadlock_undid(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone = [OperationalError(1213, "Deadlock found when trying to get lock")] * 3
    clean = PatientHandler.clean_expired_user_attempts

    def deadlock_first(*args: Any) -> int:
        if undone:
            raise undone.pop()
        cleaned: int = clean(*args)
        return cleaned

    monkeypatch.setattr(PatientHandler, "clean_expired_user_attempts", deadlock_first)

    assert fail(client, 1).status_code == 200
    assert AccessAttempt.objects.get().failures_since_start == 1
    undone.append(OperationalError(1213, "Deadlock found when trying to get lock"))
    assert sign_in(client).status_code == 302
    assert not AccessAttempt.objects.exists()


def test_a_burst_of_failures_locks_too_and_breaks_nothing(ada: User) -> None:
    statuses: list[int] = []

    with Crowd(8) as crowd:
        crowd.race(lambda n: statuses.append(fail(Client(), 1).status_code))

    assert len(statuses) == 8
    assert set(statuses) <= {200, 429}
    assert fail(Client(), 1).status_code == 429


@pytest.mark.parametrize(
    ("proxies", "forwarded", "remote", "client_is"),
    [
        (0, "192.0.2.1", "198.51.100.9", "198.51.100.9"),
        (1, "192.0.2.1", "198.51.100.9", "192.0.2.1"),
        (1, "made.up, 203.0.113.5, 192.0.2.1", "198.51.100.9", "192.0.2.1"),
        (2, "203.0.113.5, 192.0.2.1 , 198.51.100.1", "198.51.100.9", "192.0.2.1"),
        (2, "192.0.2.1", "198.51.100.9", "198.51.100.9"),
        (1, "", "198.51.100.9", "198.51.100.9"),
        (1, "192.0.2.1, unknown", "198.51.100.9", "198.51.100.9"),
        (1, "192.0.2.1,", "198.51.100.9", "198.51.100.9"),
        (1, "2001:DB8::0001", "::1", "2001:db8::1"),
        (1, "::ffff:192.0.2.1", "::1", "192.0.2.1"),
        (0, "", "fe80::1%eth0", "fe80::1"),
        (0, "", "", ""),
        (-1, "192.0.2.1", "198.51.100.9", "198.51.100.9"),
    ],
)
def test_tells_a_clients_address(
    settings: Settings, proxies: int, forwarded: str, remote: str, client_is: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)

    assert client_address(request) == client_is


# In and out


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        ("/account/", "/account/"),
        ("", "/orders/"),
        ("https://evil.example/", "/orders/"),
        ("//evil.example/", "/orders/"),
        ("///evil.example/", "/orders/"),
        ("/\\evil.example/", "/orders/"),
        ("http:///evil.example/", "/orders/"),
        ("javascript:alert(1)", "/orders/"),
        ("\x00//evil.example", "/orders/"),
    ],
)
def test_leads_nobody_to_another_site(
    client: Client, ada: User, wanted: str, leads_to: str
) -> None:
    assert sign_in(client, next=wanted)["Location"] == leads_to
    assert client.post(SIGN_OUT, {"next": wanted})["Location"] in ("/", leads_to)


def test_a_page_for_members_asks_to_sign_in_and_comes_back(client: Client, ada: User) -> None:
    asked = client.get(CHANGE)
    assert asked["Location"] == f"{SIGN_IN}?next={CHANGE}"
    assert f'name="next" value="{CHANGE}"' in text_of(client.get(asked["Location"]))


def test_a_new_session_begins_at_sign_in(client: Client, ada: User) -> None:
    session = client.session
    session["before"] = "me"
    session.save()
    client.cookies["sessionid"] = session.session_key or ""

    sign_in(client)

    assert client.cookies["sessionid"].value != session.session_key
    assert not Session.objects.filter(pk=session.session_key).exists()


def test_signing_out_takes_a_post(client: Client, ada: User) -> None:
    sign_in(client)

    assert client.get(SIGN_OUT).status_code == 405
    assert is_signed_in(client)
    assert client.post(SIGN_OUT)["Location"] == "/"
    assert not is_signed_in(client)


@pytest.mark.parametrize("address", [SIGN_IN, SIGN_UP, SIGN_OUT, RESET, CHANGE])
def test_every_form_needs_its_token(ada: User, address: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada)

    answer = browser.post(address, {"username": ADA, "password": PASSWORD, "email": ADA})

    assert answer.status_code == 403
    assert not mail.outbox
    assert is_signed_in(browser)


def test_the_forms_work_in_a_browser(ada: User) -> None:
    browser = Client(enforce_csrf_checks=True)

    def submit(address: str, page: str, **fields: str) -> Response:
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', text_of(browser.get(page)))
        assert token
        return browser.post(address, {"csrfmiddlewaretoken": token[1], **fields})

    assert submit(SIGN_IN, SIGN_IN, username=ADA, password=PASSWORD).status_code == 302
    assert submit(SIGN_OUT, "/").status_code == 302
    assert submit(RESET, RESET, email=ADA).status_code == 302
    assert submit(SIGN_UP, SIGN_UP, email="bob@example.org").status_code == 302
    link = link_in(last_mail())
    done = submit(link, link, new_password1=PASSWORD, new_password2=PASSWORD)
    assert done.status_code == 302


# Passwords


def test_a_changed_password_ends_all_other_sessions(client: Client, ada: User) -> None:
    elsewhere = Client()
    sign_in(client)
    sign_in(elsewhere)
    new = {"new_password1": "an-even-longer-one", "new_password2": "an-even-longer-one"}

    assert client.post(CHANGE, {"old_password": "wrong", **new}).status_code == 200
    done = client.post(CHANGE, {"old_password": PASSWORD, **new}, follow=True)

    assert "Your password is changed" in text_of(done)
    assert is_signed_in(client)
    assert not is_signed_in(elsewhere)
    assert sign_in(Client()).status_code == 200
    assert sign_in(Client(), password="an-even-longer-one").status_code == 302


def test_a_reset_link_works_once_ends_all_sessions_and_lifts_a_lock(
    client: Client, ada: User
) -> None:
    elsewhere = Client()
    sign_in(elsewhere)
    assert fail(client, 5).status_code == 429
    client.post(RESET, {"email": "ADA@example.org"})
    link = link_in(last_mail())

    _, form = open_reset_form(client, link)
    done = choose(client, form, "an-even-longer-one")

    assert done["Location"] == "/account/reset/done/"
    assert not is_signed_in(elsewhere)
    assert "does not work any more" in text_of(open_reset_form(Client(), link)[0])
    assert sign_in(client, password="an-even-longer-one").status_code == 302


def test_an_older_reset_link_does_not_work_after_a_change(client: Client, ada: User) -> None:
    client.post(RESET, {"email": ADA})
    ada.set_password("an-even-longer-one")
    ada.save()

    page, _ = open_reset_form(client, link_in(last_mail()))

    assert "does not work any more" in text_of(page)


# What pages say and cost


def test_the_header_knows_who_is_signed_in(client: Client, ada: User) -> None:
    assert "Sign in" in text_of(client.get("/"))

    sign_in(client)

    page = text_of(client.get("/"))
    assert ADA in page
    assert "Sign out" in page
    assert "Sign in" not in page


@pytest.mark.parametrize("address", ["/", "/nothing/", SIGN_IN, "/account/sign-up/sent/"])
def test_no_page_of_one_visitor_is_kept_for_another(
    client: Client, ada: User, address: str
) -> None:
    assert "Cookie" in client.get(address)["Vary"]
    sign_in(client)
    assert "Cookie" in client.get(address)["Vary"]


def test_a_guests_page_asks_for_no_session(
    client: Client, make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_product()

    with django_assert_num_queries(1):
        page = client.get("/products/lamp/")

    assert "sessionid" not in page.cookies


@pytest.mark.parametrize("address", ["/orders/", "/"])
def test_a_page_about_an_outage_does_not_meet_it_again(
    client: Client, ada: User, address: str
) -> None:
    sign_in(client)

    def fail_to_connect(*args: object) -> Any:
        raise OperationalError(2003, "the cable was pulled")

    with connection.execute_wrapper(fail_to_connect):
        page = client.get(address)

    assert page.status_code == 503
    assert "Back in a moment" in text_of(page)


def test_lists_orders_in_pages_the_newest_first(
    client: Client, ada: User, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=25)
    bought = [buy(product, buyer=f"user:{ada.pk}").order for _ in range(25)]
    sign_in(client)

    pages = [text_of(client.get(f"/orders/?page={number}")) for number in (1, 2)]

    listed = [re.findall(r'href="/orders/([^"/]+)/"', page) for page in pages]
    assert [len(part) for part in listed] == [20, 5]
    assert [uuid.UUID(one) for part in listed for one in part] == bought[::-1]
    assert client.get("/orders/?page=nonsense").status_code == 200
    assert client.get("/orders/?page=-1").status_code == 200
    assert client.get("/orders/?page=99999999999999999999").status_code == 200


# Whose a guest's orders become


def purchase_of(client: Client, **form: object) -> str:
    """Buy as a browser does; where it leads to."""
    return client.post("/products/lamp/buy/", form)["Location"]


def assert_clean(product: Product) -> None:
    assert audit(read_books(product.pk)) == []


def test_a_guests_orders_join_the_account_at_sign_in(
    client: Client, ada: User, make_product: MakeProduct
) -> None:
    product = make_product(units=5)
    orders = [purchase_of(client), purchase_of(client)]
    guest = Order.objects.values_list("buyer", flat=True).distinct().get()
    strangers = purchase_of(Client())

    sign_in(client)

    assert Order.objects.filter(buyer=f"user:{ada.pk}").count() == 2
    assert [client.get(order).status_code for order in orders] == [200, 200]
    assert client.get(strangers).status_code == 404
    elsewhere = Client()
    sign_in(elsewhere)
    assert all(order in text_of(elsewhere.get("/orders/")) for order in orders)
    assert Movement.objects.filter(actor=guest).count() == 2, "the ledger keeps who bought"
    assert not Movement.objects.filter(actor=f"user:{ada.pk}").exists()
    assert_clean(product)


def test_a_guests_orders_join_the_account_at_sign_up(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    order = purchase_of(client)
    client.post(SIGN_UP, {"email": ADA})

    choose(client, link_in(last_mail()), PASSWORD)

    assert Order.objects.get().buyer == f"user:{User.objects.get().pk}"
    assert client.get(order).status_code == 200


def test_a_guests_orders_join_at_the_operators_door_too(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()
    purchase_of(client)
    operator = User.objects.create_superuser("operator", password=PASSWORD)

    client.post("/admin/login/", {"username": "operator", "password": PASSWORD})

    assert Order.objects.get().buyer == f"user:{operator.pk}"


def test_a_failed_sign_in_joins_nothing(
    client: Client, ada: User, make_product: MakeProduct
) -> None:
    make_product()
    purchase_of(client)

    fail(client, 1)

    assert Order.objects.get().buyer.startswith("guest:")


def test_a_forged_guest_joins_nothing(client: Client, ada: User, make_product: MakeProduct) -> None:
    make_product()
    purchase_of(Client())
    guest = Order.objects.get().buyer.removeprefix("guest:")
    client.cookies["guest"] = f"{guest}:1abcde:forged"

    sign_in(client)

    assert Order.objects.get().buyer == f"guest:{guest}"


def test_the_next_person_at_the_computer_is_another_guest(
    client: Client, ada: User, make_product: MakeProduct
) -> None:
    make_product()
    order = purchase_of(client)
    former_guest = Order.objects.get().buyer
    sign_in(client)

    client.post(SIGN_OUT)

    assert client.get(order).status_code == 404
    assert "not bought anything yet" in text_of(client.get("/orders/"))
    purchase_of(client)
    new_guest = Order.objects.exclude(buyer=f"user:{ada.pk}").get().buyer
    assert new_guest.startswith("guest:")
    assert new_guest != former_guest
    sign_in(client)
    assert set(Order.objects.values_list("buyer", flat=True)) == {f"user:{ada.pk}"}


def test_a_key_that_both_used_fails_no_sign_in_and_loses_no_order(
    client: Client, ada: User, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=5)
    key = uuid.uuid4()
    members = buy(product, buyer=f"user:{ada.pk}", key=key)
    guests = [purchase_of(client, key=key), purchase_of(client)]

    assert sign_in(client).status_code == 302

    own = Order.objects.filter(buyer=f"user:{ada.pk}")
    assert own.count() == 3
    assert all(order in text_of(client.get("/orders/")) for order in guests)
    assert own.get(key=key).reference == members.order, "the key still finds what it found"
    assert_clean(product)


def test_joined_units_count_for_the_limit(
    client: Client, ada: User, make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=9, limit_per_buyer=2)
    purchase_of(client, quantity=2)

    sign_in(client)

    with pytest.raises(LimitReached):
        buy(product, buyer=f"user:{ada.pk}")


def test_a_replay_after_sign_in_finds_the_guests_order(
    client: Client, ada: User, make_product: MakeProduct
) -> None:
    make_product()
    key = uuid.uuid4()
    order = purchase_of(client, key=key)
    sign_in(client)

    assert purchase_of(client, key=key) == order
    assert Order.objects.count() == 1


def test_of_two_accounts_that_sign_in_at_once_each_order_joins_one(
    make_product: MakeProduct, buy: Buy
) -> None:
    product = make_product(units=20)
    members = [User.objects.create_user(f"{n}@example.org", password=PASSWORD) for n in range(4)]
    first = Client()
    purchase_of(first)
    buyer = Order.objects.get().buyer
    for _ in range(9):
        buy(product, buyer=buyer)
    cookie = first.cookies["guest"].value
    statuses: list[int] = []

    def enter(number: int) -> None:
        browser = Client()
        browser.cookies["guest"] = cookie
        statuses.append(sign_in(browser, members[number].username).status_code)

    with Crowd(4) as crowd:
        crowd.race(enter)

    assert statuses == [302] * 4
    assert not Order.objects.filter(buyer=buyer).exists()
    assert Order.objects.count() == 10
    assert_clean(product)


@contextmanager
def purchase_under_way(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A guest's purchase that is past the door and not yet sold, until the block ends."""
    strategy = type(STRATEGIES["conditional_update"])
    arrived, go_on = Event(), Event()
    sell = strategy.sell
    leads_to: list[str] = []

    def wait_and_sell(self: Any, request: PurchaseRequest) -> Receipt:
        arrived.set()
        assert go_on.wait(WAIT_S)
        return sell(self, request)

    def work() -> None:
        other_tab = Client()
        other_tab.cookies["guest"] = client.cookies["guest"].value
        leads_to.append(purchase_of(other_tab))
        connection.close()

    monkeypatch.setattr(strategy, "sell", wait_and_sell)
    buyer = Thread(target=work)
    buyer.start()
    assert arrived.wait(WAIT_S)
    yield leads_to
    go_on.set()
    buyer.join(WAIT_S)


def test_a_purchase_under_way_at_sign_in_joins_when_it_is_looked_at(
    client: Client, ada: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product()
    client.get("/")
    with purchase_under_way(client, monkeypatch) as leads_to:
        sign_in(client)
    assert Order.objects.get().buyer.startswith("guest:"), "it was too late to join"

    assert leads_to[0] in text_of(client.get("/orders/"))
    assert client.get(leads_to[0]).status_code == 200

    assert Order.objects.get().buyer == f"user:{ada.pk}"
    assert_clean(product)


def test_a_purchase_under_way_at_sign_in_joins_at_sign_out_at_last(
    client: Client, ada: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product()
    client.get("/")
    with purchase_under_way(client, monkeypatch):
        sign_in(client)

    client.post(SIGN_OUT)

    assert Order.objects.get().buyer == f"user:{ada.pk}"


@pytest.mark.redis
def test_a_guests_ticket_is_redeemed_after_sign_in(
    client: Client, ada: User, make_product: MakeProduct
) -> None:
    product = make_product(strategy="redis_counter")
    ticket = purchase_of(client)
    sign_in(client)

    assert client.get(ticket).status_code == 202
    drain(product)
    order = client.get(ticket)["Location"]

    assert client.get(order).status_code == 200
    assert Order.objects.get().buyer == f"user:{ada.pk}"
    assert client.get(ticket)["Location"] == order
    assert Client().get(ticket).status_code == 404


def test_a_database_that_cannot_join_now_fails_no_sign_in(
    client: Client, ada: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product()
    order = purchase_of(client)
    with monkeypatch.context() as patched:
        deadlock = OperationalError(1213, "Deadlock found when trying to get lock")

        def fail_once(**names: str) -> int:
            raise deadlock

        patched.setattr(joining, "hand_over", fail_once)
        assert sign_in(client).status_code == 302

    assert client.get(order).status_code == 200
    assert Order.objects.get().buyer == f"user:{ada.pk}"


def test_notes_the_language_of_the_last_sign_in(client: Client, ada: User) -> None:
    for language in ("zh-hans", "en", "zh-hans"):
        sign_in(client, headers={"Accept-Language": language})

    assert MailLanguage.objects.get().language == "zh-hans"
