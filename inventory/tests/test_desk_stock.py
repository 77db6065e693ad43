"""A product's own page at the desk: its history, changes by hand, settings and audit."""

from __future__ import annotations

import itertools
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import adjustments
from inventory.adjustments import MAX_UNITS, Seen
from inventory.admin import auditing
from inventory.admin.history import LATEST, NO_SALES, OF_EACH_KIND, SAMPLES, history_of
from inventory.audit import audit, read_books
from inventory.errors import AdjustmentRefused, StockMoved
from inventory.models import Movement, Product, Stock
from inventory.tests.desk import (
    MOST_QUERIES,
    OPERATOR,
    address,
    form_in,
    opened_form,
    page_of,
    queries_of,
    said,
    staff,
    stock_of,
    text_of,
)
from inventory.tests.races import Crowd

pytestmark = pytest.mark.django_db(transaction=True)

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
CHANGE = {"delta": "-3", "kind": "correction", "reason": "three were broken"}
RESET = {"units": "4", "reason": "counted again"}


@pytest.fixture
def operator(settings: Settings) -> Client:
    """Ada, who is an operator."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return staff("ada", *OPERATOR)[0]


def long_history(product: Product, *, sales: int, step: timedelta = timedelta(minutes=1)) -> None:
    """Write a ledger as `sales` single units sold after the first movement would have left it."""
    first = Movement.objects.get(product=product)
    Movement.objects.filter(pk=first.pk).update(created_at=BEGIN)
    Movement.objects.bulk_create(
        Movement(
            product=product,
            version=1 + number,
            kind=Movement.Kind.SALE,
            delta=-1,
            available_after=first.available_after - number,
            actor="guest:somebody",
            created_at=BEGIN + number * step,
        )
        for number in range(1, sales + 1)
    )
    Stock.objects.filter(product=product).update(
        available=first.available_after - sales, version=1 + sales
    )


def chart_in(page: str) -> dict[str, Any]:
    """The data that a page's chart is drawn from."""
    found = re.search(r'id="stock-history-data" type="application/json">(.*?)</script>', page)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


class TestProductPage:
    def test_says_how_many_are_left_and_why(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        ada = User.objects.get(username="ada")
        adjustments.adjust(
            product_id=product.pk,
            delta=5,
            kind=Movement.Kind.RESTOCK,
            reason="a pallet came",
            actor=f"user:{ada.pk}",
        )
        buy(product, quantity=2)
        buy(product)

        page = " ".join(text_of(operator.get(page_of(product))).split())

        assert '<dd class="figure">12</dd>' in page
        assert "The last change by hand: Restock by ada on" in page
        assert "left 15 units." in page
        assert "<q>a pallet came</q>" in page
        assert "Since then 2 sales and returns changed it by -3." in page

    def test_draws_every_movement_of_a_short_history_and_marks_those_that_are_no_sales(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        buy(product)
        buy(product)

        chart = chart_in(text_of(operator.get(page_of(product))))

        [series] = chart["series"]
        assert (chart["kind"], chart["times"]) == ("steps", True)
        assert series["values"] == [10, 9, 8]
        assert series["marks"] == ["Restock +10: for the test", "", ""]

    def test_reads_a_bounded_part_of_a_long_history(self, make_product: MakeProduct) -> None:
        product = make_product(units=50_000)
        long_history(product, sales=5_000)
        middle = Movement.objects.filter(product=product, version=2_345)
        middle.update(kind=Movement.Kind.CORRECTION, reason="counted")

        history = history_of(Product.objects.get(pk=product.pk))

        [series] = history.chart.series
        most = SAMPLES + LATEST + OF_EACH_KIND * len(NO_SALES)
        assert 150 <= len(series.values) <= most <= 300
        assert list(series.values[-LATEST:]) == [50_000 - n for n in range(4_951, 5_001)]
        assert "Correction -1: counted" in (series.marks or [])
        assert f"{len(series.values)} of 5001 movements" in history.chart.summary
        left = [value for value in series.values if value is not None]
        gaps = [a - b for a, b in itertools.pairwise(left)]
        assert max(gaps) <= 5_000 / SAMPLES + 1

    def test_asks_the_database_seldom(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=100)
        for _ in range(3):
            buy(product)
        for name in ("product_ledger", "product_adjust", "product_reset", "product_audit"):
            assert queries_of(operator, address(name, product.pk)) <= MOST_QUERIES
        assert queries_of(operator, page_of(product)) <= MOST_QUERIES + 4 * on_sqlite()

    def test_has_no_history_for_who_may_not_see_movements(
        self, settings: Settings, make_product: MakeProduct
    ) -> None:
        product = make_product()
        client, _user = staff("looker", "view_product")

        page = text_of(client.get(page_of(product)))

        assert "stock-history" not in page
        assert address("product_ledger", product.pk) not in page
        assert address("product_adjust", product.pk) not in page

    def test_of_a_product_without_a_stock_row_can_be_opened(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=0)
        Stock.objects.all().delete()

        for name in ("ledger", "adjust", "reset", "audit"):
            assert operator.get(address(f"product_{name}", product.pk)).status_code == 200
        assert "Nothing to draw yet." in text_of(operator.get(page_of(product)))

    @pytest.mark.parametrize("name", ["ledger", "ledger_csv", "adjust", "reset", "audit"])
    @pytest.mark.parametrize("product_id", [4711, 10**30])
    def test_of_no_product_is_not_found(self, operator: Client, name: str, product_id: int) -> None:
        assert operator.get(address(f"product_{name}", product_id)).status_code == 404


def on_sqlite() -> bool:
    """Whether each kind of movement is asked for apart, as SQLite needs it."""
    return connection.vendor == "sqlite"


@pytest.mark.parametrize(("name", "answers"), [("adjust", CHANGE), ("reset", RESET)])
class TestChange:
    def confirmed(
        self, client: Client, product: Product, name: str, answers: dict[str, str]
    ) -> dict[str, str]:
        """Open the page, answer, and read the page that shows before and after."""
        where = address(f"product_{name}", product.pk)
        form = opened_form(client, where) | answers
        return form_in(client.post(where, form)) | {"apply": "yes"}

    def test_shows_before_and_after_and_changes_nothing_yet(
        self, operator: Client, make_product: MakeProduct, name: str, answers: dict[str, str]
    ) -> None:
        product = make_product(units=10)
        where = address(f"product_{name}", product.pk)

        page = text_of(operator.post(where, opened_form(operator, where) | answers))

        after = {"adjust": 7, "reset": 4}[name]
        cells = re.findall(r"<td>([-+\d]+)</td>", page)
        assert cells == ["10", f"{after - 10:+d}", str(after)]
        assert stock_of(product.pk) == (10, 1)

    def test_writes_one_movement_and_a_log_entry_when_confirmed(
        self, operator: Client, make_product: MakeProduct, name: str, answers: dict[str, str]
    ) -> None:
        product = make_product(units=10)
        where = address(f"product_{name}", product.pk)

        answer = operator.post(where, self.confirmed(operator, product, name, answers))

        after = {"adjust": 7, "reset": 4}[name]
        ada = User.objects.get(username="ada")
        movement = Movement.objects.get(product=product, version=2)
        entry = LogEntry.objects.get()
        assert answer.status_code == 302
        assert stock_of(product.pk) == (after, 2)
        assert (movement.reason, movement.actor) == (answers["reason"], f"user:{ada.pk}")
        assert f"10 → {after} ({answers['reason']})" in entry.get_change_message()
        assert f"10 → {after} ({answers['reason']})" in said(answer)[0]
        assert (entry.user_id, entry.object_id) == (ada.pk, str(product.pk))
        assert audit(read_books(product.pk)) == []

    def test_is_refused_and_asked_again_with_new_numbers_when_the_stock_moved(
        self,
        operator: Client,
        make_product: MakeProduct,
        buy: Buy,
        name: str,
        answers: dict[str, str],
    ) -> None:
        product = make_product(units=10)
        where = address(f"product_{name}", product.pk)
        confirm = self.confirmed(operator, product, name, answers)
        buy(product, quantity=2)

        refused = operator.post(where, confirm)

        assert refused.status_code == 200
        assert "error: The stock moved since you looked. Nothing was changed." in said(refused)
        assert "The stock was written 1 time since you looked." in text_of(refused)
        assert "<td>8</td>" in text_of(refused)
        assert stock_of(product.pk) == (8, 2)
        assert not LogEntry.objects.exists()

        again = form_in(refused) | {"apply": "yes"}
        assert operator.post(where, again).status_code == 302
        assert stock_of(product.pk) == ({"adjust": 5, "reset": 4}[name], 3)

    def test_pressed_twice_changes_the_stock_once(
        self, operator: Client, make_product: MakeProduct, name: str, answers: dict[str, str]
    ) -> None:
        product = make_product(units=10)
        where = address(f"product_{name}", product.pk)
        confirm = self.confirmed(operator, product, name, answers)

        operator.post(where, confirm)
        second = operator.post(where, confirm)

        assert second.status_code == 200
        assert stock_of(product.pk)[1] == 2

    @pytest.mark.parametrize("seen", ["", "x", "-1", str(10**30)])
    def test_without_the_version_that_was_seen_nothing_is_changed(
        self,
        operator: Client,
        make_product: MakeProduct,
        name: str,
        answers: dict[str, str],
        seen: str,
    ) -> None:
        product = make_product(units=10)

        sent = answers | {"apply": "yes", "seen_version": seen}
        page = operator.post(address(f"product_{name}", product.pk), sent)

        assert "This page does not say what it showed." in text_of(page)
        assert f'value="{answers["reason"]}"' in text_of(page)
        assert stock_of(product.pk) == (10, 1)

    def test_is_for_those_who_may_correct_stock(
        self, make_product: MakeProduct, name: str, answers: dict[str, str]
    ) -> None:
        product = make_product(units=10)
        where = address(f"product_{name}", product.pk)
        viewer, _user = staff("looker", *(p for p in OPERATOR if p != "correct_stock"))
        sent = answers | {"apply": "yes", "seen_version": "1"}

        assert viewer.get(where).status_code == 403
        assert viewer.post(where, sent).status_code == 403
        assert Client().post(where, sent).status_code == 302
        assert Client(enforce_csrf_checks=True).post(where, sent).status_code in (302, 403)
        assert stock_of(product.pk) == (10, 1)

    def test_back_keeps_what_was_typed(
        self, operator: Client, make_product: MakeProduct, name: str, answers: dict[str, str]
    ) -> None:
        product = make_product(units=10)
        confirm = self.confirmed(operator, product, name, answers)
        del confirm["apply"]

        page = operator.post(address(f"product_{name}", product.pk), confirm | {"back": "Back"})

        assert form_in(page).items() >= answers.items()
        assert stock_of(product.pk) == (10, 1)


class TestRefusedChange:
    @pytest.mark.parametrize(
        "answers",
        [
            {"delta": "-11"},
            {"delta": "0"},
            {"delta": str(MAX_UNITS)},
            {"delta": str(10**30)},
            {"delta": "many"},
            {"delta": ""},
            {"kind": "sale"},
            {"kind": ""},
            {"reason": " "},
            {"reason": "x" * 201},
        ],
    )
    @pytest.mark.parametrize("button", ["check", "apply"])
    def test_an_impossible_adjustment_is_refused_and_what_was_typed_is_kept(
        self, operator: Client, make_product: MakeProduct, answers: dict[str, str], button: str
    ) -> None:
        product = make_product(units=10)
        where = address("product_adjust", product.pk)
        sent = opened_form(operator, where) | CHANGE | answers

        page = operator.post(where, sent | {button: "yes"})

        assert page.status_code == 200
        if not (answers == {"delta": "0"} and button == "check"):
            assert "errorlist" in text_of(page)
            assert form_in(page)["delta"] == sent["delta"].strip()
        assert stock_of(product.pk) == (10, 1)

    @pytest.mark.parametrize("units", ["-1", str(MAX_UNITS + 1), "ten", ""])
    def test_a_reset_to_an_absurd_number_is_refused(
        self, operator: Client, make_product: MakeProduct, units: str
    ) -> None:
        product = make_product(units=10)
        where = address("product_reset", product.pk)

        page = operator.post(
            where, opened_form(operator, where) | RESET | {"units": units, "apply": "yes"}
        )

        assert "errorlist" in text_of(page)
        assert stock_of(product.pk) == (10, 1)

    def test_a_reset_while_a_run_is_on_is_refused(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)
        Product.objects.update(run_until=datetime.now(UTC) + timedelta(minutes=5))
        where = address("product_reset", product.pk)

        page = operator.post(where, opened_form(operator, where) | RESET | {"apply": "yes"})

        assert "A load run holds “lamp” until" in text_of(page)
        assert stock_of(product.pk) == (10, 1)


class TestWhateverIsSoldMeanwhile:
    SENT = CHANGE | {"sales_may_follow": "on", "apply": "yes"}

    def test_is_written_although_units_were_sold(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        where = address("product_adjust", product.pk)
        form = opened_form(operator, where)
        buy(product)

        assert operator.post(where, form | self.SENT).status_code == 302

        assert stock_of(product.pk) == (6, 3)
        assert "9 → 6" in LogEntry.objects.get().get_change_message()

    def test_pressed_twice_changes_the_stock_once(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        where = address("product_adjust", product.pk)
        sent = opened_form(operator, where) | self.SENT
        buy(product)

        operator.post(where, sent)
        second = operator.post(where, sent)

        assert "It was not made twice." in text_of(second)
        assert stock_of(product.pk) == (6, 3)
        assert LogEntry.objects.count() == 1

    @pytest.mark.mariadb
    def test_sent_eight_times_at_once_changes_the_stock_once(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=100)

        def change(_number: int) -> None:
            adjustments.adjust(
                product_id=product.pk,
                delta=-3,
                kind=Movement.Kind.CORRECTION,
                reason="broken",
                actor="user:1",
                seen=Seen(version=1, sales_may_follow=True),
            )

        with Crowd(8) as crowd:
            outcomes = crowd.race(change)

        assert outcomes == {"sold": 1, "AdjustmentRefused": 7}
        assert stock_of(product.pk) == (97, 2)

    @pytest.mark.mariadb
    def test_during_a_sale_every_unit_is_accounted_for(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        """Strict changes fail while the stock moves, patient ones do not; the books agree."""
        product = make_product(units=500)
        moving = threading.Barrier(5)

        def act(number: int) -> None:
            for turn in range(10):
                moving.wait(30)
                if number:
                    buy(product)
                    continue
                with pytest.raises(StockMoved):
                    change(product, -1, f"strict {turn}", Seen(version=0))
                change(product, 2, f"patient {turn}", Seen(version=1, sales_may_follow=True))

        with Crowd(5) as crowd:
            assert crowd.race(act) == {"sold": 5}

        assert stock_of(product.pk) == (500 - 40 + 20, 1 + 40 + 10)
        assert audit(read_books(product.pk)) == []


def change(product: Product, delta: int, reason: str, seen: Seen) -> Movement:
    return adjustments.adjust(
        product_id=product.pk,
        delta=delta,
        kind=Movement.Kind.CORRECTION,
        reason=reason,
        actor="user:1",
        seen=seen,
    )


class TestSeen:
    def test_a_strict_change_and_a_reset_need_the_version_that_was_seen(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        buy(product)

        with pytest.raises(StockMoved) as moved:
            change(product, 1, "late", Seen(version=1))
        with pytest.raises(StockMoved):
            adjustments.reset(
                slugs=["lamp"], units=3, reason="late", actor="x", seen=Seen(version=1)
            )
        assert (moved.value.seen_version, moved.value.version) == (1, 2)
        assert stock_of(product.pk) == (9, 2)

        movement = change(product, 1, "in time", Seen(version=2))
        assert (movement.version, movement.available_after) == (3, 10)

    def test_too_few_units_are_told_apart_from_a_stock_that_moved(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10)

        with pytest.raises(AdjustmentRefused) as refused:
            change(product, -11, "too many", Seen(version=1))

        assert not isinstance(refused.value, StockMoved)


class TestSettings:
    def save(self, client: Client, product: Product, **edited: str) -> str:
        form = opened_form(client, page_of(product))
        return text_of(client.post(page_of(product), form | edited, follow=True))

    def test_a_new_strategy_is_recorded_with_the_old_one(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(strategy="optimistic", price="10.00")

        self.save(operator, product, strategy="pessimistic", price="12.00")

        told = LogEntry.objects.get().get_change_message()
        assert told == "price: 10.00 → 12.00; strategy: optimistic → pessimistic"
        page = text_of(operator.get(address("product_history", product.pk)))
        assert "strategy: optimistic → pessimistic" in page

    def test_what_a_change_of_strategy_means_is_said_beside_it(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        page = text_of(operator.get(page_of(make_product())))

        assert "Safe to change during a sale" in page

    def test_a_strategy_that_cannot_run_here_is_refused_with_its_reason(
        self, operator: Client, make_product: MakeProduct, settings: Settings
    ) -> None:
        product = make_product(strategy="optimistic")
        settings.CACHES = {"default": settings.CACHES["default"]}

        page = self.save(operator, product, strategy="redis_counter")

        assert "“redis_counter” cannot sell here: it needs Redis" in page
        assert Product.objects.get().strategy == "optimistic"

    def test_a_product_whose_strategy_stopped_running_can_still_be_edited(
        self, operator: Client, make_product: MakeProduct, settings: Settings
    ) -> None:
        product = make_product(strategy="redis_counter")
        settings.CACHES = {"default": settings.CACHES["default"]}

        self.save(operator, product, name="Renamed")

        assert Product.objects.get().name == "Renamed"

    def test_the_control_is_for_lab_products(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product()

        page = self.save(operator, product, strategy="unguarded")

        assert "The control oversells: only lab products may use it." in page
        assert Product.objects.get().strategy == "conditional_update"


class TestAudit:
    def test_only_looks_when_the_page_is_opened(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product()

        page = text_of(operator.get(address("product_audit", product.pk)))

        assert "Here all movements (1) and their orders are compared." in page
        assert "The books" not in page

    def test_says_that_the_books_agree_and_what_was_compared(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product()
        buy(product)

        page = text_of(operator.post(address("product_audit", product.pk)))

        assert "The books agree" in page
        assert re.search(r"Compared: 2 movements, 1 orders, in \d+\.\d\d s\.", page)

    def test_lists_what_does_not_fit(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10)
        buy(product)
        Stock.objects.update(available=77)

        page = text_of(operator.post(address("product_audit", product.pk)))

        assert "The books do not agree" in page
        assert "available_differs: The stock row has 77 available, the ledger 9." in page

    def test_of_a_long_history_compares_the_end_and_says_so(
        self,
        operator: Client,
        make_product: MakeProduct,
        buy: Buy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(auditing, "MOST_MOVEMENTS", 5)
        product = make_product(units=100)
        for _ in range(20):
            buy(product)

        page = text_of(operator.post(address("product_audit", product.pk)))

        assert "Here the last 5 of 21 movements" in page
        assert "what was there at version 16 is taken as right" in page
        assert "Compared: 5 movements, 5 orders" in page
        assert "The books agree" in page
        Stock.objects.update(available=77)
        assert "do not agree" in text_of(operator.post(address("product_audit", product.pk)))

    def test_is_for_those_who_may_correct_stock(self, make_product: MakeProduct) -> None:
        product = make_product()
        viewer, _user = staff("looker", "view_product", "view_movement", "view_order")

        assert viewer.get(address("product_audit", product.pk)).status_code == 403
        assert viewer.post(address("product_audit", product.pk)).status_code == 403
