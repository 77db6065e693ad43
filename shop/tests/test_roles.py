"""Who may do what at the operator's desk: every address, for everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, resolve

from conftest import Buy, MakeProduct
from inventory.models import Movement, Order, Product
from shop.roles import LAB, OPERATOR, ROLES, VIEWER, make_roles

ANONYMOUS, SHOPPER, SUPERUSER = "anonymous", "shopper", "superuser"
LoadRun = apps.get_model("loadtests", "LoadRun")
Comparison = apps.get_model("loadtests", "Comparison")
VISITORS = (ANONYMOUS, SHOPPER, *ROLES, SUPERUSER)
STAFF = frozenset({*ROLES, SUPERUSER})
OPERATORS = frozenset({OPERATOR, SUPERUSER})
LABS = frozenset({LAB, SUPERUSER})
ROOT = frozenset({SUPERUSER})
NOBODY: frozenset[str] = frozenset()
OK, FOUND, BAD = HTTPStatus.OK, HTTPStatus.FOUND, HTTPStatus.BAD_REQUEST
FORBIDDEN, NOT_FOUND = HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND
NOT_ALLOWED = HTTPStatus.METHOD_NOT_ALLOWED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may get an address, who may post nothing to it, and what each is answered then."""

    get: frozenset[str]
    post: frozenset[str]
    got: int = OK
    posted: int = OK
    refused: int = FORBIDDEN
    """What staff are answered who may not."""
    open_door: bool = False
    """Whether those who are no staff are answered as well, rather than sent to the login."""

    def expected(self, visitor: str, method: str) -> int:
        """The status of an answer."""
        if visitor not in STAFF and not self.open_door:
            return FOUND
        if visitor in (self.get if method == "GET" else self.post):
            return self.got if method == "GET" else self.posted
        return self.refused


SEEN = Rule(get=STAFF, post=NOBODY)
"""Shown to all staff, and changed by nobody."""
LISTED = Rule(get=STAFF, post=STAFF)
"""A list: a post without an action shows it again."""
MADE_BY_ROOT = Rule(get=ROOT, post=ROOT)
NOT_HERE = Rule(get=NOBODY, post=NOBODY)
MOVED = Rule(get=STAFF, post=STAFF, got=FOUND, posted=FOUND)
MISSING = Rule(get=STAFF, post=STAFF, got=NOT_FOUND, posted=NOT_FOUND)
RULES = {
    "": Rule(get=STAFF, post=STAFF),
    "figures/": LISTED,
    "login/": Rule(
        get=frozenset(VISITORS), post=frozenset(VISITORS), open_door=True, got=OK, posted=OK
    ),
    "logout/": Rule(get=NOBODY, post=STAFF, refused=NOT_ALLOWED),
    "password_change/": Rule(get=STAFF, post=STAFF),
    "password_change/done/": Rule(get=STAFF, post=NOBODY, refused=NOT_ALLOWED),
    "autocomplete/": Rule(get=NOBODY, post=STAFF, posted=NOT_ALLOWED),
    "jsi18n/": Rule(get=STAFF, post=NOBODY, refused=NOT_ALLOWED),
    "r/<content_type_id>/<object_id>/": Rule(
        get=STAFF, post=STAFF, got=NOT_FOUND, posted=NOT_FOUND
    ),
    "<app_label>/": Rule(get=STAFF, post=STAFF),
    "<url>": MISSING,
    "inventory/product/": LISTED,
    "inventory/product/add/": Rule(get=OPERATORS, post=OPERATORS),
    "inventory/product/<object_id>/history/": LISTED,
    "inventory/product/<object_id>/delete/": NOT_HERE,
    "inventory/product/<object_id>/change/": Rule(get=STAFF, post=OPERATORS),
    "inventory/product/<object_id>/": MOVED,
    **{f"inventory/product/<product_id>/ledger{form}": LISTED for form in ("/", ".csv", ".json")},
    **{
        f"inventory/product/<product_id>/{page}/": Rule(get=OPERATORS, post=OPERATORS)
        for page in ("adjust", "reset", "audit")
    },
    "inventory/order/": LISTED,
    "inventory/order/add/": NOT_HERE,
    "inventory/order/<object_id>/history/": LISTED,
    "inventory/order/<object_id>/delete/": NOT_HERE,
    "inventory/order/<object_id>/change/": SEEN,
    "inventory/order/<object_id>/": MOVED,
    "inventory/order/<reference>/cancel/": Rule(get=OPERATORS, post=OPERATORS),
    "inventory/movement/": LISTED,
    "inventory/movement/add/": NOT_HERE,
    "inventory/movement/<object_id>/history/": LISTED,
    "inventory/movement/<object_id>/delete/": NOT_HERE,
    "inventory/movement/<object_id>/change/": SEEN,
    "inventory/movement/<object_id>/": MOVED,
    "loadtests/loadrun/": LISTED,
    "loadtests/loadrun/add/": NOT_HERE,
    "loadtests/loadrun/<object_id>/history/": LISTED,
    "loadtests/loadrun/<object_id>/delete/": NOT_HERE,
    "loadtests/loadrun/<object_id>/change/": SEEN,
    "loadtests/loadrun/<object_id>/": MOVED,
    "loadtests/loadrun/compare/": MOVED,
    "loadtests/loadrun/<pk>/figures.json": LISTED,
    "loadtests/comparison/": LISTED,
    "loadtests/comparison/add/": Rule(get=LABS, post=LABS),
    "loadtests/comparison/<object_id>/history/": LISTED,
    "loadtests/comparison/<object_id>/delete/": NOT_HERE,
    "loadtests/comparison/<object_id>/change/": SEEN,
    "loadtests/comparison/<object_id>/": MOVED,
    "loadtests/comparison/<pk>/progress/": LISTED,
    "loadtests/comparison/<pk>/cancel/": Rule(get=STAFF, post=LABS, got=NOT_ALLOWED, posted=FOUND),
    **{f"auth/group/{rest}": MADE_BY_ROOT for rest in ("", "add/")},
    **{
        f"auth/{model}/<object_id>/{rest}/": MADE_BY_ROOT
        for model in ("group", "user")
        for rest in ("history", "delete", "change")
    },
    "auth/group/<object_id>/": MOVED,
    "auth/user/": MADE_BY_ROOT,
    "auth/user/add/": MADE_BY_ROOT,
    "auth/user/<id>/password/": MADE_BY_ROOT,
    "auth/user/<object_id>/": MOVED,
}
"""One for each address below /admin/: a new address needs a new rule."""


def addresses() -> list[str]:
    """Every address of the admin, as its parts name it."""
    patterns, _, _ = admin.site.urls
    return [_plain(address) for address in _walk(patterns)]


def _walk(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        here = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, here)
        else:
            yield here


def _plain(address: str) -> str:
    """`<object_id>` for `<path:object_id>`, and for `(?P<object_id>…)`."""
    address = re.sub(r"\(\?P(<\w+>)[^()]*\)", r"\1", address)
    return re.sub(r"<\w+:", "<", address).strip("^$")


@pytest.fixture
def rows(db: None, make_product: MakeProduct, buy: Buy) -> dict[type[Model], Model]:
    """One row of everything that has a page."""
    product = make_product()
    order = Order.objects.get(pk=buy(product).order)
    run = LoadRun.objects.create(
        strategy="optimistic", units=1, buyers=1, opening_available=1, opening_version=1
    )
    comparison = Comparison.objects.create(strategies=["optimistic"], units=1, buyers=1)
    books = [product, order, Movement.objects.latest("id")]
    made = [*books, run, comparison, Group.objects.create(name="other")]
    return {type(row): row for row in [*made, User.objects.create_user("somebody")]}


@pytest.fixture
def visitors(db: None) -> dict[str, User | None]:
    """One of each kind."""
    make_roles(apps)
    found: dict[str, User | None] = {
        ANONYMOUS: None,
        SHOPPER: User.objects.create_user(SHOPPER),
        SUPERUSER: User.objects.create_superuser(SUPERUSER),
    }
    for role in ROLES:
        found[role] = user = User.objects.create_user(role, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
    return found


def path_to(address: str, rows: dict[type[Model], Model]) -> str:
    """The path to a real row."""
    of = next((row for model, row in rows.items() if address.startswith(_home(model))), None)
    values = {"<app_label>": "inventory", "<url>": "nothing/", "<content_type_id>": "999999"}
    path = re.sub(r"<\w+>", lambda part: values.get(part[0], str(of.pk if of else 1)), address)
    return f"/admin/{path}"


def _home(model: type[Model]) -> str:
    return f"{model._meta.app_label}/{model._meta.model_name}/"


@pytest.mark.parametrize("address", addresses())
def test_every_address_has_a_rule(address: str) -> None:
    assert address in RULES, "Say in RULES who may do what here."


OUTSIDE_A_TRANSACTION = {"inventory/product/<product_id>/audit/"}
"""An audit begins one of its own."""


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(a, marks=pytest.mark.django_db(transaction=a in OUTSIDE_A_TRANSACTION))
        for a in addresses()
        if a in RULES
    ],
)
def test_everybody_may_do_what_the_rule_says_and_no_more(
    address: str, rows: dict[type[Model], Model], visitors: dict[str, User | None]
) -> None:
    path = path_to(address, rows)
    resolve(path)
    wrong = []
    for visitor, user in visitors.items():
        for method in ("GET", "POST"):
            client = Client()
            if user is not None:
                client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[-1])
            response = client.generic(method, path)
            expected = _expected(address, visitor, method)
            if response.status_code != expected:
                wrong.append(f"{visitor} {method}: {response.status_code}, not {expected}")
            if visitor not in STAFF and response.status_code == FOUND:
                assert response["Location"].startswith(("/admin/login/", "/admin/"))
    assert wrong == []


def _expected(address: str, visitor: str, method: str) -> int:
    if address == "login/" and method == "GET" and visitor in STAFF:
        return FOUND
    return RULES[address].expected(visitor, method)


def test_no_rule_is_left_of_an_address_that_is_gone() -> None:
    assert set(RULES) <= set(addresses())


def test_a_rule_tells_staff_from_others() -> None:
    rule = replace(SEEN, post=OPERATORS)

    told = {visitor: rule.expected(visitor, "POST") for visitor in VISITORS}

    assert told == {
        ANONYMOUS: FOUND,
        SHOPPER: FOUND,
        VIEWER: FORBIDDEN,
        OPERATOR: OK,
        LAB: FORBIDDEN,
        SUPERUSER: OK,
    }


def test_every_role_sees_every_model_of_ours(visitors: dict[str, User | None]) -> None:
    for model in [*apps.get_app_config("inventory").get_models(), LoadRun, Comparison]:
        for role in ROLES:
            user = visitors[role]
            assert user is not None
            assert user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")


@pytest.mark.django_db
def test_a_role_has_no_more_than_was_said() -> None:
    make_roles(apps)

    beside_seeing = {
        role: set(
            Permission.objects.filter(group__name=role)
            .exclude(codename__startswith="view_")
            .values_list("codename", flat=True)
        )
        for role in ROLES
    }

    assert beside_seeing == {
        VIEWER: set(),
        OPERATOR: {"add_product", "change_product", "correct_stock", "cancel_order"},
        LAB: {"start_run"},
    }


@pytest.mark.django_db(transaction=True)
def test_the_migration_makes_the_roles_again_and_takes_them_back() -> None:
    """From nothing: neither groups, nor permissions, nor the content types they hang on."""
    call_command("migrate", "shop", "0001", verbosity=0)
    assert not Group.objects.filter(name__in=ROLES).exists()
    Permission.objects.all().delete()
    ContentType.objects.all().delete()
    ContentType.objects.clear_cache()

    call_command("migrate", "shop", verbosity=0)
    call_command("migrate", "shop", "0001", verbosity=0)
    call_command("migrate", "shop", verbosity=0)

    operator = Permission.objects.filter(group__name=OPERATOR)
    assert operator.filter(codename="correct_stock").exists()
    assert operator.filter(codename="view_order").exists()
    assert not operator.filter(codename="change_order").exists()
    assert not LogEntry.objects.exists()


@pytest.mark.django_db
def test_what_an_operator_changes_is_in_the_admins_log(
    visitors: dict[str, User | None], rows: dict[type[Model], Model]
) -> None:
    product = rows[Product]
    operator = visitors[OPERATOR]
    assert operator is not None
    client = Client()
    client.force_login(operator, backend=settings.AUTHENTICATION_BACKENDS[-1])
    page = client.get(f"/admin/inventory/product/{product.pk}/change/")
    form = page.context["adminform"].form
    values = {name: form.get_initial_for_field(f, name) or "" for name, f in form.fields.items()}

    client.post(page.request["PATH_INFO"], {**values, "name": "Another lamp", "image": ""})

    [entry] = LogEntry.objects.filter(user=operator)
    assert entry.object_id == str(product.pk)
