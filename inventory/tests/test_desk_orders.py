"""Orders at the desk: found by reference and buyer, told in full, cancelled once."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from conftest import Buy, MakeProduct
from inventory import holds
from inventory.admin.key_pages import ROWS_ON_A_PAGE
from inventory.audit import audit, read_books
from inventory.clock import MinutesFromNow
from inventory.models import Movement, Order, Payment, Product
from inventory.tests.desk import (
    MOST_QUERIES,
    OPERATOR,
    address,
    form_in,
    queries_of,
    said,
    staff,
    stock_of,
    text_of,
)
from inventory.tests.races import Crowd

pytestmark = pytest.mark.django_db(transaction=True)
LIST = address("order_changelist")
REASON = {"reason": "a call to the hotline"}


@pytest.fixture
def operator(settings: Settings) -> Client:
    """Ada, who is an operator."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return staff("ada", *OPERATOR)[0]


def shown(client: Client, where: str = LIST, **asked: str) -> list[uuid.UUID]:
    """The references in a list, in its order."""
    answer = client.get(where, asked)
    assert answer.status_code == 200, text_of(answer)
    found = re.findall(r'<th scope="row"><a href="[^"]*">([0-9a-f-]{36})</a>', text_of(answer))
    return [uuid.UUID(reference) for reference in found]


def link(client: Client, where: str, rel: str) -> str | None:
    found = re.search(rf'href="([^"]*)" rel="{rel}"', text_of(client.get(where)))
    return LIST + found[1] if found else None


def bought(buy: Buy, product: Product, *, buyer: str = "guest:bob", quantity: int = 1) -> Order:
    return Order.objects.get(pk=buy(product, buyer=buyer, quantity=quantity).order)


def let_time_pass(order: Order) -> None:
    """Let the time to pay an order be over."""
    Order.objects.filter(pk=order.pk).update(expires_at=MinutesFromNow(-1))


def pay(order: Order, amount: Decimal | None = None) -> Payment:
    return holds.pay(
        reference=order.pk,
        provider="bank",
        provider_reference=uuid.uuid4().hex,
        amount=order.total if amount is None else amount,
    )


def cancel(client: Client, order: Order) -> list[str]:
    answer = client.post(address("order_cancel", order.pk), REASON)
    assert answer.status_code == 302
    return said(answer)


class TestSearch:
    def test_finds_by_reference_by_member_and_by_the_beginning_of_a_guest(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=100)
        member = User.objects.create_user("eve@example.org")
        guest = uuid.uuid4()
        hers = bought(buy, product, buyer=f"user:{member.pk}")
        his = bought(buy, product, buyer=f"guest:{guest}")
        bought(buy, product, buyer="guest:zzz")
        bought(buy, product, buyer=f"user:{member.pk}0")

        assert shown(operator, q=str(hers.pk)) == [hers.pk]
        assert shown(operator, q=hers.pk.hex.upper()) == [hers.pk]
        assert shown(operator, q=f"user:{member.pk}") == [hers.pk]
        assert shown(operator, q="eve@example.org") == [hers.pk]
        assert shown(operator, q=f"guest:{guest}") == [his.pk]
        assert shown(operator, q=f"guest:{str(guest)[:9]}") == [his.pk]
        assert shown(operator, q=" eve@example.org ") == [hers.pk]

    @pytest.mark.parametrize(
        "text",
        ["nobody", "%", "_", "guest:%", "guest:_", "user:%", "user:", "\\", "'", "x" * 150, "🜁"],
    )
    def test_of_nothing_finds_nothing(
        self, operator: Client, make_product: MakeProduct, buy: Buy, text: str
    ) -> None:
        bought(buy, make_product())

        assert shown(operator, q=text) == []

    @pytest.mark.parametrize(
        "asked",
        [
            {"q": "x" * 151},
            {"q": "a\x00b"},
            {"status": "lost"},
            {"product": "x"},
            {"product": "4711"},
            {"product": "9" * 40},
        ],
    )
    def test_that_cannot_be_is_refused_and_kept(
        self, operator: Client, make_product: MakeProduct, buy: Buy, asked: dict[str, str]
    ) -> None:
        bought(buy, make_product())

        answer = operator.get(LIST, asked)

        assert answer.status_code == 400
        assert "errorlist" in text_of(answer)

    def test_by_product_and_by_state_as_the_database_clock_has_it(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        lamp = make_product("lamp", units=100, hold_minutes=10)
        kettle = make_product("kettle", units=100)
        held, paid, cancelled, overdue, expired = (bought(buy, lamp) for _ in range(5))
        confirmed = bought(buy, kettle)
        pay(paid)
        holds.cancel(reference=cancelled.pk, buyer="guest:bob")
        let_time_pass(expired)
        holds.release_expired()
        let_time_pass(overdue)

        everything = {
            "held": held,
            "paid": paid,
            "cancelled": cancelled,
            "overdue": overdue,
            "expired": expired,
            "confirmed": confirmed,
        }
        for status, order in everything.items():
            assert shown(operator, status=status) == [order.pk], status
            assert queries_of(operator, f"{LIST}?status={status}") <= MOST_QUERIES
        assert shown(operator, product=str(kettle.pk)) == [confirmed.pk]
        assert len(shown(operator, product=str(lamp.pk))) == 5
        assert shown(operator, product=str(lamp.pk), status="confirmed") == []
        page = text_of(operator.get(LIST, {"status": "overdue"}))
        assert "Expired</span> (units not given back yet)" in page

    def test_asks_the_database_seldom(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=100)
        for number in range(9):
            user = User.objects.create_user(f"user-{number}")
            bought(buy, product, buyer=f"user:{user.pk}")
        order = Order.objects.all()[0]

        for asked in ("", "?q=user-3", f"?q={order.pk}", f"?product={product.pk}"):
            assert queries_of(operator, LIST + asked) <= MOST_QUERIES, asked
        assert queries_of(operator, address("order_change", order.pk)) <= MOST_QUERIES
        assert queries_of(operator, address("order_cancel", order.pk)) <= MOST_QUERIES


class TestPages:
    @pytest.mark.parametrize("asked", ["", "product", "status", "buyer"])
    def test_show_every_order_once_while_sales_go_on(
        self, operator: Client, make_product: MakeProduct, buy: Buy, asked: str
    ) -> None:
        product = make_product(units=1000)
        orders = [
            Order(
                product=product,
                buyer=f"guest:{number % 7}",
                key=uuid.uuid4(),
                quantity=1,
                unit_price=1,
                strategy="optimistic",
                created_at=timezone.now(),
            )
            for number in range(2 * ROWS_ON_A_PAGE + 30)
        ]
        for order in orders[:40]:
            order.created_at = orders[0].created_at
        Order.objects.bulk_create(orders)
        first = {
            "": LIST,
            "product": f"{LIST}?product={product.pk}",
            "status": f"{LIST}?status=confirmed",
            "buyer": f"{LIST}?q=guest:",
        }[asked]

        down: list[uuid.UUID] = []
        page: str | None = first
        last = first
        while page is not None:
            last = page
            down += shown(operator, page)
            page = link(operator, page, "next")
            bought(buy, product, buyer="guest:!")
        up = shown(operator, last)
        back = link(operator, last, "prev")
        while back is not None:
            up = shown(operator, back) + up
            back = link(operator, back, "prev")

        assert len(down) == len(set(down))
        assert set(down) == {order.pk for order in orders}
        assert set(up) >= set(down)

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "x",
            "2030-01-01T00:00:00+00:00",
            "2030-01-01T00:00:00+00:00,x",
            "0001-01-01T00:00:00+14:00,6b1f6f0e-6d0c-5f4e-9d0a-6a6c0e0f6d11",
            ",",
        ],
    )
    def test_that_are_none_lead_to_the_first_with_a_message(
        self, operator: Client, make_product: MakeProduct, buy: Buy, key: str
    ) -> None:
        order = bought(buy, make_product())
        for name in ("older_than", "newer_than"):
            assert shown(operator, **{name: key}) == [order.pk]


class TestOrderPage:
    def test_tells_all_that_happened_in_its_order(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10, hold_minutes=10)
        order = bought(buy, product, quantity=2)
        pay(order)
        cancel(operator, order)

        page = " ".join(text_of(operator.get(address("order_change", order.pk))).split())

        told = ["Ordered", "Sale", "Payment: Refund due", "Cancellation"]
        timeline = page.partition('class="timeline"')[2]
        assert re.findall(r"<strong>([^<]*)</strong>", timeline) == told
        assert "-2 → 8 · version 2" in page
        assert "+2 → 10 · version 3 · ada · <q>a call to the hotline</q>" in page
        assert "A refund is due: € 25.00 (bank" in page
        assert address("order_cancel", order.pk) not in page

    def test_tells_until_when_an_order_is_held_and_that_its_time_is_over(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        order = bought(buy, make_product(hold_minutes=10))
        where = address("order_change", order.pk)

        assert "Held until then, unless it is paid" in text_of(operator.get(where))
        let_time_pass(order)
        page = text_of(operator.get(where))
        assert "The time to pay was over; its units wait to be given back" in page
        assert "Expired</span> (units not given back yet)" in page
        holds.release_expired()
        page = text_of(operator.get(where))
        assert "(units not given back yet)" not in page
        assert "<strong>Expiry</strong>" in page

    def test_can_be_edited_by_nobody(
        self, admin_client: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        order = bought(buy, make_product())
        before = Order.objects.values().get()

        sent = {"status": "paid", "quantity": "9"}
        assert admin_client.post(address("order_change", order.pk), sent).status_code == 403
        assert Order.objects.values().get() == before

    @pytest.mark.parametrize("reference", ["x", "4711", str(uuid.UUID(int=1)), "%00", "9" * 50])
    def test_of_no_order_is_not_found(self, operator: Client, reference: str) -> None:
        assert operator.get(f"{LIST}{reference}/change/").status_code == 404


class TestCancel:
    @pytest.mark.parametrize("state", ["confirmed", "held", "paid"])
    def test_gives_the_units_back_once_and_is_recorded(
        self, operator: Client, make_product: MakeProduct, buy: Buy, state: str
    ) -> None:
        product = make_product(units=10, hold_minutes=None if state == "confirmed" else 10)
        order = bought(buy, product, quantity=3)
        if state == "paid":
            pay(order)
        ada = User.objects.get(username="ada")

        first, second = cancel(operator, order), cancel(operator, order)

        movement = Movement.objects.get(kind="cancellation")
        entry = LogEntry.objects.get()
        assert first == ["success: The order is cancelled; 3 units are on sale again."]
        assert second[-1].startswith("error: This order was cancelled already.")
        assert stock_of(product.pk) == (10, 3)
        assert (movement.reason, movement.actor) == (REASON["reason"], f"user:{ada.pk}")
        assert (entry.object_id, entry.user_id) == (str(order.pk), ada.pk)
        assert entry.get_change_message() == f"{state} → cancelled: {REASON['reason']}"
        assert audit(read_books(product.pk)) == []

    def test_says_before_what_is_to_be_refunded(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        order = bought(buy, make_product(hold_minutes=10))
        pay(order)

        page = text_of(operator.get(address("order_cancel", order.pk)))

        assert "What was paid is to be refunded afterwards: € 12.50 (bank" in page
        assert Order.objects.get().status == "paid"

    @pytest.mark.parametrize("reason", ["", "   ", "x" * 201, None])
    def test_needs_a_reason_and_keeps_what_was_typed(
        self, operator: Client, make_product: MakeProduct, buy: Buy, reason: str | None
    ) -> None:
        product = make_product()
        order = bought(buy, product)

        sent = {} if reason is None else {"reason": reason}
        page = operator.post(address("order_cancel", order.pk), sent)

        assert page.status_code == 200
        assert "errorlist" in text_of(page)
        assert form_in(page)["reason"] == (reason or "")
        assert Order.objects.get().status == "confirmed"

    def test_of_an_expired_order_says_that_its_units_are_back(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=10, hold_minutes=10)
        order = bought(buy, product)
        let_time_pass(order)
        holds.release_expired()

        assert cancel(operator, order)[0].startswith("error: This order expired before")
        page = text_of(operator.get(address("order_cancel", order.pk)))
        assert "This order expired before you cancelled it." in page
        assert stock_of(product.pk) == (10, 3)

    def test_is_for_those_who_may(self, make_product: MakeProduct, buy: Buy) -> None:
        order = bought(buy, make_product())
        where = address("order_cancel", order.pk)
        viewer, _user = staff("looker", *(p for p in OPERATOR if p != "cancel_order"))

        assert where not in text_of(viewer.get(address("order_change", order.pk)))
        assert viewer.get(where).status_code == 403
        assert viewer.post(where, REASON).status_code == 403
        assert Client().post(where, REASON).status_code == 302
        assert Order.objects.get().status == "confirmed"

    def test_needs_the_forms_token(
        self, make_product: MakeProduct, buy: Buy, admin_user: User
    ) -> None:
        order = bought(buy, make_product())
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user, backend="django.contrib.auth.backends.ModelBackend")

        assert client.post(address("order_cancel", order.pk), REASON).status_code == 403
        assert Order.objects.get().status == "confirmed"

    def test_of_no_order_is_not_found(self, operator: Client) -> None:
        assert operator.post(address("order_cancel", uuid.uuid4()), REASON).status_code == 404


@pytest.mark.mariadb
class TestRaces:
    ORDERS = 10

    def test_two_operators_cancel_at_once(
        self, make_product: MakeProduct, buy: Buy, settings: Settings
    ) -> None:
        product = make_product(units=100, hold_minutes=10)
        orders = [bought(buy, product, quantity=2) for _ in range(self.ORDERS)]
        operators = [staff(f"operator-{n}", *OPERATOR)[0] for n in range(2)]
        told: list[list[str]] = [[], []]

        def cancel_all(number: int) -> None:
            for order in orders:
                told[number] += cancel(operators[number], order)[-1:]

        with Crowd(2) as crowd:
            assert crowd.race(cancel_all) == {"sold": 2}

        for answers in zip(*told, strict=True):
            assert sorted(answer.split(":")[0] for answer in answers) == ["error", "success"]
        assert Movement.objects.filter(kind="cancellation").count() == self.ORDERS
        assert LogEntry.objects.count() == self.ORDERS
        assert stock_of(product.pk) == (100, 1 + 2 * self.ORDERS)
        assert audit(read_books(product.pk)) == []

    def test_an_operator_cancels_while_the_order_expires(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product(units=100, hold_minutes=10)
        orders = [bought(buy, product) for _ in range(self.ORDERS)]
        Order.objects.update(expires_at=MinutesFromNow(-1))
        told: list[str] = []

        def act(number: int) -> None:
            if number:
                holds.release_expired()
                return
            for order in reversed(orders):
                told.extend(cancel(operator, order)[-1:])

        with Crowd(2) as crowd:
            assert crowd.race(act) == {"sold": 2}

        kinds = dict(Movement.objects.exclude(kind="sale").values_list("order_id", "kind"))
        for order, answer in zip(reversed(orders), told, strict=True):
            expected = {"success": "cancellation", "error": "expiry"}[answer.split(":")[0]]
            assert kinds[order.pk] == expected
        assert stock_of(product.pk) == (100, 1 + 2 * self.ORDERS)
        assert audit(read_books(product.pk)) == []

    def test_an_operator_cancels_while_the_buyer_pays(
        self, operator: Client, make_product: MakeProduct, buy: Buy
    ) -> None:
        """However it goes, what was paid for a cancelled order is to be refunded."""
        product = make_product(units=100, hold_minutes=10)
        orders = [bought(buy, product) for _ in range(self.ORDERS)]

        def act(number: int) -> None:
            for order in orders:
                if number:
                    pay(order)
                else:
                    cancel(operator, order)

        with Crowd(2) as crowd:
            assert crowd.race(act) == {"sold": 2}

        assert Order.objects.filter(status="cancelled").count() == self.ORDERS
        assert Payment.objects.filter(status="refund_due").count() == self.ORDERS
        assert stock_of(product.pk) == (100, 1 + 2 * self.ORDERS)
        assert audit(read_books(product.pk)) == []
