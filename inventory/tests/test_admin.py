"""The operator's desk: sees every count, moves stock only through the ledger."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.signals import pre_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory.adjustments import MAX_UNITS
from inventory.audit import audit, read_books
from inventory.models import Movement, Order, Product, Stock
from inventory.purchases import purchase
from inventory.tests.desk import opened_form, page_of, said, stock_of, text_of

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

pytestmark = pytest.mark.django_db(transaction=True)

PRODUCTS = reverse("admin:inventory_product_changelist")
ADD_PRODUCT = reverse("admin:inventory_product_add")
ADJUSTMENT = {"delta": "5", "kind": "restock", "reason": "a pallet came"}
Untouched = Callable[[Product], None]
RESET = {"units": "3", "reason": "new sale", "confirm": "on"}


def act(client: Client, action: str, *products: Product, **answers: str) -> Answer:
    """Choose an action for products in the list; with answers, apply it."""
    sent: dict[str, Any] = {
        "action": action,
        "_selected_action": [product.pk for product in products],
        **answers,
    }
    if answers:
        sent["apply"] = "yes"
    return client.post(PRODUCTS, sent)


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """Nobody attacks these."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def untouched() -> Untouched:
    """Assert that nothing was written of a product made with 10 units."""

    def check(product: Product) -> None:
        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.filter(product=product).count() == 1
        assert not LogEntry.objects.exists()

    return check


@pytest.fixture
def staff_client(client: Client) -> Client:
    """A member of staff who may look at products and change nothing."""
    user = User.objects.create_user("looker", password="looks", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_product"))
    client.force_login(user)
    return client


class TestProductList:
    def test_shows_count_version_and_strategy(
        self, admin_client: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        buy(make_product(units=4321, strategy="optimistic"))

        shown = text_of(admin_client.get(PRODUCTS))

        assert '<td class="field-available">4320</td>' in shown
        assert '<td class="field-version">2</td>' in shown
        assert '<td class="field-strategy">optimistic</td>' in shown

    def test_asks_the_database_as_often_for_20_products_as_for_2(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as asked:
                assert admin_client.get(PRODUCTS).status_code == 200
            return len(asked)

        for number in range(2):
            make_product(f"product-{number}")
        for_2 = queries()
        for number in range(2, 20):
            make_product(f"product-{number}")

        assert queries() == for_2

    def test_sorts_by_what_is_available(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        many, few = make_product("many", units=20), make_product("few", units=3)

        response = admin_client.get(PRODUCTS, {"o": "4"})

        assert list(response.context["cl"].result_list) == [few, many]

    def test_shows_a_product_that_has_no_stock_row_yet(self, admin_client: Client) -> None:
        product = Product.objects.create(slug="lamp", name="Lamp", price=Decimal(1))

        assert '<td class="field-available">0</td>' in text_of(admin_client.get(PRODUCTS))
        assert admin_client.get(page_of(product)).status_code == 200


class TestProductForm:
    def test_shows_the_counts_and_offers_no_field_for_them(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=4321)
        Stock.objects.update(version=8765)

        response = admin_client.get(page_of(product))

        assert '<div class="readonly">4321</div>' in text_of(response)
        assert '<div class="readonly">8765</div>' in text_of(response)
        assert not {"available", "version", "stock"} & set(
            opened_form(admin_client, page_of(product))
        )

    def test_takes_no_count_that_is_sent_all_the_same(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)
        form = opened_form(admin_client, page_of(product))

        sent = form | {"available": "999", "version": "999", "stock": "999", "name": "Renamed"}
        answer = admin_client.post(page_of(product), sent)

        assert answer.status_code == 302
        assert Product.objects.get().name == "Renamed"
        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1

    def test_a_form_opened_before_50_sales_and_saved_after_them_changes_no_count(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=60)
        form = opened_form(admin_client, page_of(product))

        for _ in range(50):
            purchase(slug="lamp", quantity=1, buyer="guest:ada", key=uuid.uuid4())
        answer = admin_client.post(page_of(product), form | {"name": "Renamed"})

        assert answer.status_code == 302
        assert Product.objects.get().name == "Renamed"
        assert stock_of(product.pk) == (10, 51)
        assert audit(read_books(product.pk)) == []

    def test_a_form_opened_before_a_run_and_saved_during_it_does_not_end_it(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product()
        form = opened_form(admin_client, page_of(product))
        until = held(product)

        answer = admin_client.post(page_of(product), form | {"name": "Renamed"})

        assert answer.status_code == 302
        assert Product.objects.get().name == "Renamed"
        assert Product.objects.get().run_until == until

    def test_a_run_that_begins_while_the_form_is_being_saved_goes_on(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        """Between the reading of the row and its writing: only edited columns are written."""
        product = make_product()
        form = opened_form(admin_client, page_of(product))

        with just_before_a_product_is_written(lambda: held(product)):
            answer = admin_client.post(page_of(product), form | {"name": "Renamed"})

        assert answer.status_code == 302
        assert Product.objects.get().name == "Renamed"
        assert Product.objects.get().run_until is not None

    def test_saves_every_field_that_was_edited(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product()
        edited = {
            "name": "Desk lamp",
            "slug": "desk-lamp",
            "description": "Warm light.",
            "price": "99.50",
            "opens_at_0": "2030-01-01",
            "opens_at_1": "10:00:00",
            "closes_at_0": "2030-01-02",
            "closes_at_1": "10:00:00",
            "strategy": "unguarded",
            "is_lab": "on",
        }

        answer = admin_client.post(page_of(product), edited)

        saved = Product.objects.get()
        assert answer.status_code == 302
        assert (saved.name, saved.slug, saved.description) == (
            "Desk lamp",
            "desk-lamp",
            "Warm light.",
        )
        assert (saved.price, saved.strategy, saved.is_lab) == (Decimal("99.50"), "unguarded", True)
        assert (str(saved.opens_at), str(saved.closes_at)) == (
            "2030-01-01 10:00:00+00:00",
            "2030-01-02 10:00:00+00:00",
        )

    def test_a_stale_form_puts_back_no_setting_that_others_changed(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(price="10.00", strategy="pessimistic", description="Warm.")
        form = opened_form(admin_client, page_of(product))
        Product.objects.update(price="12.00", strategy="optimistic", description="Bright.")

        admin_client.post(page_of(product), {**form, "name": "Renamed"})

        now = Product.objects.get()
        assert (now.name, str(now.price)) == ("Renamed", "12.00")
        assert (now.strategy, now.description) == ("optimistic", "Bright.")

    def test_keeps_an_opening_moment_to_the_microsecond_when_it_was_not_edited(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        opens_at = datetime.fromisoformat("2030-01-01 10:00:00.123456+00:00")
        product = make_product(opens_at=opens_at)
        form = opened_form(admin_client, page_of(product))

        admin_client.post(page_of(product), form | {"name": "Renamed"})

        assert Product.objects.get().opens_at == opens_at

    @pytest.mark.parametrize(
        ("edited", "problem"),
        [
            ({"strategy": "unguarded"}, "The control oversells: only lab products may use it."),
            ({"strategy": "wishful"}, "is not one of the available choices"),
            ({"price": "-1"}, "greater than or equal to 0"),
            (
                {
                    "opens_at_0": "2030-01-02",
                    "opens_at_1": "10:00:00",
                    "closes_at_0": "2030-01-01",
                    "closes_at_1": "10:00:00",
                },
                "The sale must close after it opens.",
            ),
        ],
    )
    def test_says_what_is_wrong_with_the_settings(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        edited: dict[str, str],
        problem: str,
    ) -> None:
        product = make_product()
        form = opened_form(admin_client, page_of(product))

        answer = admin_client.post(page_of(product), form | edited)

        assert answer.status_code == 200
        assert problem in text_of(answer)
        assert Product.objects.get().strategy == "conditional_update"

    def test_a_new_product_gets_its_stock_row(self, admin_client: Client) -> None:
        form = opened_form(admin_client, ADD_PRODUCT)

        sent = form | {"name": "Lamp", "slug": "lamp", "price": "12.50", "available": "999"}
        answer = admin_client.post(ADD_PRODUCT, sent)

        assert answer.status_code == 302
        product = Product.objects.get(slug="lamp")
        assert product.strategy == "conditional_update"
        assert stock_of(product.pk) == (0, 0)
        assert audit(read_books(product.pk)) == []

    def test_products_cannot_be_deleted(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product()
        address = reverse("admin:inventory_product_delete", args=[product.pk])

        assert admin_client.get(address).status_code == 403
        assert admin_client.post(address, {"post": "yes"}).status_code == 403
        act(admin_client, "delete_selected", product, post="yes")

        assert Product.objects.exists()
        assert "delete_selected" not in text_of(admin_client.get(PRODUCTS))


def held(product: Product) -> datetime:
    """Let a run hold the product for a while, past any form."""
    until = (timezone.now() + timedelta(minutes=5)).replace(microsecond=0)
    Product.objects.filter(pk=product.pk).update(run_until=until)
    return until


@contextmanager
def just_before_a_product_is_written(action: Callable[[], object]) -> Iterator[None]:
    def receive(**kwargs: object) -> None:
        action()

    pre_save.connect(receive, sender=Product)
    try:
        yield
    finally:
        pre_save.disconnect(receive, sender=Product)


class TestAdjustStock:
    def test_asks_first_with_the_present_count(
        self, admin_client: Client, make_product: MakeProduct, untouched: Untouched
    ) -> None:
        product = make_product(units=10)
        make_product("kettle")

        page = act(admin_client, "adjust_stock", product)

        assert page.status_code == 200
        assert "Lamp: 10 available now" in text_of(page)
        assert "Kettle" not in text_of(page)
        assert "Restock or correct by a number" in text_of(page)
        assert "errorlist" not in text_of(page)
        untouched(product)

    @pytest.mark.parametrize(
        "answers",
        [
            {"reason": ""},
            {"reason": "   "},
            {"reason": "x" * 201},
            {"delta": ""},
            {"delta": "many"},
            {"delta": "1.5"},
            {"delta": str(MAX_UNITS + 1)},
            {"delta": str(10**30)},
            {"kind": ""},
            {"kind": "sale"},
            {"kind": "reset"},
        ],
    )
    def test_asks_again_when_an_answer_is_missing_or_wrong(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        untouched: Untouched,
        answers: dict[str, str],
    ) -> None:
        product = make_product(units=10)

        page = act(admin_client, "adjust_stock", product, **(ADJUSTMENT | answers))

        assert page.status_code == 200
        assert "errorlist" in text_of(page)
        untouched(product)

    @pytest.mark.parametrize(("kind", "delta"), [("restock", 5), ("correction", -4)])
    def test_writes_one_movement_per_product_and_a_log_entry(
        self,
        admin_client: Client,
        admin_user: User,
        make_product: MakeProduct,
        kind: str,
        delta: int,
    ) -> None:
        lamp, kettle = make_product("lamp", units=10), make_product("kettle", units=20)
        other = make_product("other", units=10)
        answers = {"kind": kind, "delta": str(delta), "reason": "counted twice"}

        answer = act(admin_client, "adjust_stock", lamp, kettle, **answers)

        assert answer.status_code == 302
        assert sorted(said(answer)) == [
            f"success: Kettle: {kind.title()} {delta:+d}: 20 → {20 + delta} (counted twice)",
            f"success: Lamp: {kind.title()} {delta:+d}: 10 → {10 + delta} (counted twice)",
        ]
        assert stock_of(lamp.pk) == (10 + delta, 2)
        assert stock_of(kettle.pk) == (20 + delta, 2)
        assert stock_of(other.pk) == (10, 1)
        for product, before in ((lamp, 10), (kettle, 20)):
            written = Movement.objects.get(product=product, version=2)
            assert (written.kind, written.delta) == (kind, delta)
            assert (written.reason, written.actor) == ("counted twice", f"user:{admin_user.pk}")
            assert audit(read_books(product.pk)) == []
            entry = LogEntry.objects.get(object_id=str(product.pk))
            assert (entry.user_id, entry.action_flag) == (admin_user.pk, CHANGE)
            assert entry.get_change_message() == (
                f"{kind} {delta:+d}: {before} → {before + delta} (counted twice)"
            )

    @pytest.mark.parametrize("delta", ["-11", "0", str(MAX_UNITS)])
    def test_refuses_a_count_that_cannot_be_with_a_message(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        untouched: Untouched,
        delta: str,
    ) -> None:
        product = make_product(units=10)

        answers = {"kind": "correction", "delta": delta, "reason": "counted"}
        answer = act(admin_client, "adjust_stock", product, **answers)

        [message] = said(answer)
        assert message.startswith("error: Lamp: A change of ")
        untouched(product)

    def test_says_for_each_product_whether_it_was_adjusted(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        few, many = make_product("few", units=2), make_product("many", units=20)

        answers = {"kind": "correction", "delta": "-5", "reason": "broken"}
        answer = act(admin_client, "adjust_stock", few, many, **answers)

        refused, done = said(answer)
        assert refused.startswith("error: Few: ")
        assert done.startswith("success: Many: ")
        assert (stock_of(few.pk), stock_of(many.pk)) == ((2, 1), (15, 2))
        assert LogEntry.objects.count() == 1

    def test_counts_the_sales_made_since_the_page_was_opened(
        self, admin_client: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        act(admin_client, "adjust_stock", product)

        buy(product, quantity=4)
        act(admin_client, "adjust_stock", product, **ADJUSTMENT)

        assert stock_of(product.pk) == (11, 3)
        assert audit(read_books(product.pk)) == []


class TestResetStock:
    def test_asks_first_with_the_present_count(
        self, admin_client: Client, make_product: MakeProduct, untouched: Untouched
    ) -> None:
        product = make_product(units=10)

        page = act(admin_client, "reset_stock", product)

        assert page.status_code == 200
        assert "Lamp: 10 available now" in text_of(page)
        assert "Yes, forget the present count" in text_of(page)
        assert "errorlist" not in text_of(page)
        untouched(product)

    @pytest.mark.parametrize("missing", ["reason", "confirm", "units"])
    def test_resets_nothing_without_an_answer(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        untouched: Untouched,
        missing: str,
    ) -> None:
        product = make_product(units=10)
        answers = {name: answer for name, answer in RESET.items() if name != missing}

        page = act(admin_client, "reset_stock", product, **answers)

        assert page.status_code == 200
        assert "This field is required." in text_of(page)
        untouched(product)

    @pytest.mark.parametrize("units", ["-1", str(MAX_UNITS + 1), "ten"])
    def test_resets_nothing_to_an_absurd_number(
        self, admin_client: Client, make_product: MakeProduct, untouched: Untouched, units: str
    ) -> None:
        product = make_product(units=10)

        page = act(admin_client, "reset_stock", product, **(RESET | {"units": units}))

        assert page.status_code == 200
        assert "errorlist" in text_of(page)
        untouched(product)

    def test_writes_one_movement_and_a_log_entry(
        self, admin_client: Client, admin_user: User, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)

        answer = act(admin_client, "reset_stock", product, **RESET)

        written = Movement.objects.get(version=2)
        entry = LogEntry.objects.get()
        assert said(answer) == ["success: Lamp: Reset -7: 10 → 3 (new sale)"]
        assert stock_of(product.pk) == (3, 2)
        assert (written.kind, written.delta, written.available_after) == ("reset", -7, 3)
        assert (written.reason, written.actor) == ("new sale", f"user:{admin_user.pk}")
        assert (entry.user_id, entry.object_id) == (admin_user.pk, str(product.pk))
        assert entry.action_flag == CHANGE
        assert entry.get_change_message() == "reset -7: 10 → 3 (new sale)"
        assert audit(read_books(product.pk)) == []

    def test_is_refused_while_a_run_is_on(
        self, admin_client: Client, make_product: MakeProduct, untouched: Untouched
    ) -> None:
        product = make_product(units=10)
        held(product)

        [message] = said(act(admin_client, "reset_stock", product, **RESET))

        assert message.startswith("error: Lamp: A load run holds “lamp” until ")
        untouched(product)


@pytest.mark.parametrize(
    ("action", "answers"), [("adjust_stock", ADJUSTMENT), ("reset_stock", RESET)]
)
class TestWhoMayMoveStock:
    def test_staff_who_may_only_look_cannot(
        self,
        staff_client: Client,
        make_product: MakeProduct,
        untouched: Untouched,
        action: str,
        answers: dict[str, str],
    ) -> None:
        product = make_product(units=10)

        assert "Lamp" in text_of(staff_client.get(PRODUCTS))
        assert f'value="{action}"' not in text_of(staff_client.get(PRODUCTS))
        asked = act(staff_client, action, product)
        applied = act(staff_client, action, product, **answers)

        assert "available now" not in text_of(asked)
        assert not any(message.startswith("success") for message in said(applied))
        untouched(product)

    def test_staff_who_may_change_products_but_no_stock_cannot(
        self,
        staff_client: Client,
        make_product: MakeProduct,
        untouched: Untouched,
        action: str,
        answers: dict[str, str],
    ) -> None:
        product = make_product(units=10)
        user = User.objects.get(username="looker")
        user.user_permissions.add(Permission.objects.get(codename="change_product"))

        act(staff_client, action, product, **answers)

        untouched(product)

    def test_staff_who_may_correct_stock_can(
        self, staff_client: Client, make_product: MakeProduct, action: str, answers: dict[str, str]
    ) -> None:
        product = make_product(units=10)
        user = User.objects.get(username="looker")
        user.user_permissions.add(Permission.objects.get(codename="correct_stock"))

        act(staff_client, action, product, **answers)

        assert stock_of(product.pk)[1] == 2
        assert Movement.objects.get(version=2).actor == f"user:{user.pk}"

    def test_a_visitor_cannot(
        self,
        client: Client,
        make_product: MakeProduct,
        untouched: Untouched,
        action: str,
        answers: dict[str, str],
    ) -> None:
        product = make_product(units=10)

        answer = act(client, action, product, **answers)

        assert answer.status_code == 302
        assert "login" in answer["Location"]
        untouched(product)


def test_staff_who_may_only_look_cannot_save_a_product(
    staff_client: Client, make_product: MakeProduct
) -> None:
    product = make_product()

    assert staff_client.get(page_of(product)).status_code == 200
    assert staff_client.post(page_of(product), {"name": "Mine"}).status_code == 403
    assert Product.objects.get().name == "Lamp"


@pytest.mark.parametrize("model", [Order, Movement])
class TestHistory:
    def test_can_be_looked_at(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        buy: Buy,
        model: type[Order] | type[Movement],
    ) -> None:
        buy(make_product())
        row = model._default_manager.latest("created_at")

        shown = admin_client.get(listed(model))
        detail = admin_client.get(listed(model, "change", row.pk))

        assert listed(model, "change", row.pk) in text_of(shown)
        assert detail.status_code == 200
        assert "Lamp" in text_of(detail)
        assert 'name="_save"' not in text_of(detail)

    def test_is_for_those_who_may_see_it(
        self, staff_client: Client, make_product: MakeProduct, model: type[Order] | type[Movement]
    ) -> None:
        assert staff_client.get(listed(model)).status_code == 403

    def test_has_nothing_to_add_change_or_delete(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        buy: Buy,
        model: type[Order] | type[Movement],
    ) -> None:
        buy(make_product())
        row = model._default_manager.latest("created_at")
        before = list(model._default_manager.order_by("pk").values())

        for sent in ({}, {"quantity": "9", "delta": "9", "post": "yes"}):
            assert admin_client.post(listed(model, "add"), sent).status_code == 403
            assert admin_client.post(listed(model, "change", row.pk), sent).status_code == 403
            assert admin_client.post(listed(model, "delete", row.pk), sent).status_code == 403
        assert admin_client.get(listed(model, "add")).status_code == 403
        assert admin_client.get(listed(model, "delete", row.pk)).status_code == 403
        admin_client.post(
            listed(model),
            {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"},
        )

        assert list(model._default_manager.order_by("pk").values()) == before

    def test_asks_the_database_as_often_for_20_rows_as_for_2(
        self,
        admin_client: Client,
        make_product: MakeProduct,
        buy: Buy,
        model: type[Order] | type[Movement],
    ) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as asked:
                assert admin_client.get(listed(model)).status_code == 200
            return len(asked)

        product = make_product(units=20)
        buy(product)
        buy(product)
        for_2 = queries()
        for _ in range(18):
            buy(product)

        assert queries() == for_2


def listed(model: type[Order] | type[Movement], page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:inventory_{model._meta.model_name}_{page}", args=args)
