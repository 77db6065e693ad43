"""The ledger at the desk: pages by key, kinds and days, files that hold the same."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import adjustments
from inventory.admin import exports
from inventory.admin.key_pages import ROWS_ON_A_PAGE
from inventory.admin.ledger import SAMPLES, _versions_between
from inventory.models import Movement, Product
from inventory.tests.desk import (
    MOST_QUERIES,
    OPERATOR,
    address,
    queries_of,
    said,
    staff,
    text_of,
)
from inventory.tests.test_desk_stock import BEGIN, long_history

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)


@pytest.fixture
def operator(settings: Settings) -> Client:
    """Ada, who is an operator."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return staff("ada", *OPERATOR)[0]


def versions_on(answer: Answer) -> list[int]:
    return [int(v) for v in re.findall(r'<th scope="row">(\d+)</th>', text_of(answer))]


def link(answer: Answer, rel: str) -> str | None:
    found = re.search(rf'href="([^"]*)" rel="{rel}"', text_of(answer))
    return found[1] if found else None


def rows_read() -> int:
    """Rows that this connection has read so far."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _name, count in cursor.fetchall())


def correct(product: Product, *, actor: str = "test", reason: str = "counted") -> Movement:
    return adjustments.adjust(
        product_id=product.pk,
        delta=-1,
        kind=Movement.Kind.CORRECTION,
        reason=reason,
        actor=actor,
    )


class TestPages:
    def test_show_every_movement_once_while_sales_go_on(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        """To the end and back; what is sold meanwhile is newer, and shifts nothing."""
        product = make_product(units=1000)
        long_history(product, sales=2 * ROWS_ON_A_PAGE + 30)
        where = address("product_ledger", product.pk)

        down: list[int] = []
        page: str | None = where
        while page is not None:
            answer = operator.get(page if page == where else where + page)
            down += versions_on(answer)
            page, back = link(answer, "next"), link(answer, "prev")
            buy(product)
        up: list[int] = []
        while back is not None:
            answer = operator.get(where + back)
            up = versions_on(answer) + up
            back = link(answer, "prev")

        assert down == list(range(2 * ROWS_ON_A_PAGE + 31, 0, -1))
        assert up[0] == 2 * ROWS_ON_A_PAGE + 34
        assert set(up) >= set(down[:-31])

    def test_ask_the_database_as_often_at_the_end_as_at_the_beginning(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=1000)
        long_history(product, sales=200)
        where = address("product_ledger", product.pk)

        first = queries_of(operator, where)
        last = queries_of(operator, f"{where}?older_than=40")

        assert first == last <= MOST_QUERIES

    @pytest.mark.mariadb
    def test_begin_in_the_middle_of_an_index_without_reading_up_to_there(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=10_000)
        long_history(product, sales=5_000)
        where = address("product_ledger", product.pk)
        operator.get(where)

        for key in ("?older_than=2500", "?newer_than=2500"):
            before = rows_read()
            assert len(versions_on(operator.get(where + key))) == ROWS_ON_A_PAGE
            assert rows_read() - before < 3 * ROWS_ON_A_PAGE, key

    @pytest.mark.parametrize("key", ["", "x", "1,2", "-", "1.5", "9" * 5000])
    def test_that_are_none_lead_to_the_first_with_a_message(
        self, operator: Client, make_product: MakeProduct, key: str
    ) -> None:
        product = make_product()
        where = address("product_ledger", product.pk)
        for name in ("older_than", "newer_than"):
            answer = operator.get(where, {name: key})
            assert answer.status_code == 200
            assert versions_on(answer) == [1]
            assert said(answer) == ["warning: There is no such page. This is the first one."]

    @pytest.mark.parametrize("key", ["-5", str(10**30), "0"])
    def test_beyond_all_are_empty_or_the_first(
        self, operator: Client, make_product: MakeProduct, key: str
    ) -> None:
        product = make_product()
        where = address("product_ledger", product.pk)
        assert operator.get(where, {"older_than": key}).status_code == 200
        assert versions_on(operator.get(where, {"newer_than": key})) == [1]


class TestWho:
    def test_users_are_named_in_one_query(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=100)
        where = address("product_ledger", product.pk)
        users = [User.objects.create_user(f"user-{n}") for n in range(9)]
        correct(product, actor=f"user:{users[0].pk}")
        for_1 = queries_of(operator, where)
        for user in users:
            correct(product, actor=f"user:{user.pk}")
        correct(product, actor="user:999999999")
        correct(product, actor=f"user:{10**40}")
        correct(product, actor="user:x")

        page = text_of(operator.get(where))

        assert queries_of(operator, where) == for_1
        for name in ("user-0", "user-8", "user:999999999", f"user:{10**40}", "user:x"):
            assert f"<td>{name}</td>" in page

    def test_an_order_is_linked(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product()
        receipt = buy(product)

        page = text_of(operator.get(address("product_ledger", product.pk)))

        assert f'href="{address("order_change", receipt.order)}"' in page


class TestSelection:
    def test_answers_who_changed_the_stock_on_a_day(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        """A history of ten days with one correction a day."""
        product = make_product(units=10_000)
        long_history(product, sales=2400, step=timedelta(minutes=6))
        for day in range(10):
            noon = BEGIN + day * DAY + timedelta(hours=12)
            sale = Movement.objects.filter(product=product, created_at=noon)
            assert sale.update(kind="correction", reason=f"day {day}", actor="user:7") == 1

        chosen = {"kind": "correction", "since": "2030-01-04", "until": "2030-01-05"}
        answer = operator.get(address("product_ledger", product.pk), chosen)
        whole_day = operator.get(
            address("product_ledger_json", product.pk),
            {"since": "2030-01-04", "until": "2030-01-04"},
        )

        assert re.findall(r"<td>(day \d)</td>", text_of(answer)) == ["day 4", "day 3"]
        rows = json.loads(b"".join(whole_day.streaming_content))
        begin = BEGIN + 3 * DAY
        expected = [begin + n * timedelta(minutes=6) for n in range(240)]
        assert [datetime.fromisoformat(row["created_at"]) for row in rows] == expected

    def test_of_a_day_reads_little_beside_it(self, make_product: MakeProduct) -> None:
        product = make_product(units=10_000)
        long_history(product, sales=5_000)

        product = Product.objects.select_related("stock").get(pk=product.pk)
        first, last = _versions_between(product, BEGIN + DAY, BEGIN + 2 * DAY)

        assert 1440 - 2 - 2 * 5_000 / SAMPLES <= first <= 1441
        assert 2880 <= last <= 2884 + 2 * 5_000 / SAMPLES

    def test_asks_the_database_seldom(self, operator: Client, make_product: MakeProduct) -> None:
        product = make_product(units=10_000)
        long_history(product, sales=1_000)
        chosen = "?kind=sale&since=2030-01-01&until=2030-01-02"

        assert queries_of(operator, address("product_ledger", product.pk) + chosen) <= MOST_QUERIES

    @pytest.mark.parametrize(
        "chosen",
        [
            {"kind": "theft"},
            {"since": "yesterday"},
            {"since": "0001-01-01"},
            {"until": "9999-12-31"},
            {"since": "2030-01-02", "until": "2030-01-01"},
        ],
    )
    @pytest.mark.parametrize("name", ["ledger", "ledger_csv", "ledger_json"])
    def test_that_is_none_is_refused_and_kept(
        self, operator: Client, make_product: MakeProduct, chosen: dict[str, str], name: str
    ) -> None:
        product = make_product()

        answer = operator.get(address(f"product_{name}", product.pk), chosen)

        assert answer.status_code == 400
        assert "errorlist" in text_of(answer)
        assert versions_on(answer) == []

    def test_the_pages_keep_it(self, operator: Client, make_product: MakeProduct) -> None:
        product = make_product(units=1000)
        long_history(product, sales=120)
        where = address("product_ledger", product.pk)

        second = link(operator.get(where, {"kind": "sale"}), "next")

        assert second is not None
        assert versions_on(operator.get(where + second))[0] == 121 - ROWS_ON_A_PAGE
        assert "kind=sale" in second


class TestExport:
    def rows(self, client: Client, product: Product, **chosen: str) -> list[dict[str, str]]:
        answer = client.get(address("product_ledger_csv", product.pk), chosen)
        assert answer["Content-Type"] == "text/csv; charset=utf-8"
        assert answer["Content-Disposition"] == 'attachment; filename="ledger-lamp.csv"'
        text = b"".join(answer.streaming_content).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))

    def test_neutralises_formulas_and_leaves_numbers(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(units=100)
        evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("x")', "harmless = fine"]
        for reason in evil:
            correct(product, reason=reason, actor=reason)

        rows = self.rows(operator, product, kind="correction")

        told = [f"'{reason}" for reason in evil[:-1]] + evil[-1:]
        assert [row["reason"] for row in rows] == told
        assert [row["actor"] for row in rows] == told
        assert {row["delta"] for row in rows} == {"-1"}

    def test_holds_the_whole_selection_in_order_however_many_chunks(
        self, operator: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exports, "CHUNK", 7)
        product = make_product(units=100)
        long_history(product, sales=28)

        rows = self.rows(operator, product)
        sales = self.rows(operator, product, kind="sale")

        assert [int(row["version"]) for row in rows] == list(range(1, 30))
        assert [int(row["version"]) for row in sales] == list(range(2, 30))
        assert rows[0]["kind"] == "restock"
        assert rows[1]["created_at"] == (BEGIN + timedelta(minutes=1)).isoformat()

    def test_as_json_is_the_same(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=100)
        receipt = buy(product)
        ada = User.objects.get(username="ada")
        correct(product, actor=f"user:{ada.pk}", reason="=1+1")

        answer = operator.get(address("product_ledger_json", product.pk))
        rows: list[dict[str, Any]] = json.loads(b"".join(answer.streaming_content))

        assert [row["version"] for row in rows] == [1, 2, 3]
        assert rows[1]["order"] == str(receipt.order)
        assert (rows[2]["reason"], rows[2]["delta"]) == ("=1+1", -1)
        assert (rows[2]["actor"], rows[2]["actor_name"]) == (f"user:{ada.pk}", "ada")

    def test_of_nothing_is_empty(self, operator: Client, make_product: MakeProduct) -> None:
        product = make_product(units=0)

        answer = operator.get(address("product_ledger_json", product.pk))

        assert json.loads(b"".join(answer.streaming_content)) == []
        assert self.rows(operator, product) == []

    def test_ends_although_sales_go_on(
        self,
        operator: Client,
        make_product: MakeProduct,
        buy: Buy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A sale for every chunk: what is sold after it began is not in it."""
        monkeypatch.setattr(exports, "CHUNK", 1)
        product = make_product(units=100)
        buy(product)
        buy(product)

        answer = operator.get(address("product_ledger_csv", product.pk))
        parts = []
        for part in answer.streaming_content:
            parts.append(part)
            buy(product)

        assert len(parts) == 1 + 3

    def test_begins_before_it_has_read_all(
        self, operator: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exports, "CHUNK", 10)
        product = make_product(units=100)
        long_history(product, sales=90)
        answer = operator.get(address("product_ledger_csv", product.pk))
        assert answer.streaming
        content = iter(answer.streaming_content)

        next(content)
        next(content)
        Movement.objects.filter(product=product, version__gt=10).delete()

        assert list(content) == []


@pytest.mark.parametrize("name", ["ledger", "ledger_csv", "ledger_json"])
def test_the_ledger_is_for_those_who_may_see_movements(
    make_product: MakeProduct, name: str
) -> None:
    where = address(f"product_{name}", make_product().pk)
    looker, _user = staff("looker", "view_product")

    assert looker.get(where).status_code == 403
    assert Client().get(where).status_code == 302


class TestAllProducts:
    def test_shows_the_latest_writes_wherever_they_were(
        self, operator: Client, make_product: MakeProduct
    ) -> None:
        lamp, kettle = make_product("lamp"), make_product("kettle")
        correct(lamp)

        page = text_of(operator.get(address("movement_changelist")))

        products = re.findall(r'<th scope="row"><a href="[^"]*">(\w+)</a>', page)
        assert products == ["Lamp", "Kettle", "Lamp"]
        assert address("product_ledger", kettle.pk) in page

    def test_is_paged_by_key(self, operator: Client, make_product: MakeProduct) -> None:
        product = make_product(units=1000)
        long_history(product, sales=60)
        where = address("movement_changelist")

        second = link(operator.get(where), "next")

        assert second is not None
        rest = re.findall(r'<th scope="row">', text_of(operator.get(where + second)))
        assert len(rest) == 61 - ROWS_ON_A_PAGE
        assert queries_of(operator, where + second) <= MOST_QUERIES
