"""The words at the shell: what they change, what they refuse, and their exit codes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.utils import timezone
from redis.lock import Lock

from conftest import Buy, MakeProduct
from inventory.adjustments import MAX_UNITS
from inventory.audit import audit, read_books
from inventory.models import Movement, Order, Product, Stock

pytestmark = pytest.mark.django_db(transaction=True)


def stock_of(product_id: int) -> tuple[int, int]:
    return Stock.objects.values_list("available", "version").get(product_id=product_id)


def run(*words: str) -> str:
    """Run a command as typed; what it wrote."""
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def run_to_exit(*words: str) -> tuple[int | str | None, str]:
    """Run a command that ends the process itself; its exit code and what it wrote."""
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(*words, stdout=out)
    return ended.value.code, out.getvalue()


class TestResetStock:
    def test_resets_products_and_says_so(self, make_product: MakeProduct) -> None:
        lamp, kettle = make_product("lamp", units=10), make_product("kettle", units=20)

        said = run("reset_stock", "lamp", "kettle", "--units", "7", "--reason", "new sale")

        written = Movement.objects.get(product=lamp, kind=Movement.Kind.RESET)
        assert said.splitlines() == ["lamp: 7 available", "kettle: 7 available"]
        assert (stock_of(lamp.pk), stock_of(kettle.pk)) == ((7, 2), (7, 2))
        assert (written.delta, written.reason, written.actor) == (-3, "new sale", "reset_stock")
        assert audit(read_books(lamp.pk)) == []

    @pytest.mark.parametrize(
        "words",
        [
            ("unicorn", "--units", "7"),
            ("lamp", "unicorn", "--units", "7"),
            ("unicorn", "lamp", "--units", "7"),
            ("lamp", "--units", "-1"),
            ("lamp", "--units", str(MAX_UNITS + 1)),
            ("lamp", "--units", str(10**30)),
            ("lamp", "--units", "ten"),
            ("lamp", "--units", "1.5"),
            ("lamp", "--units", ""),
            ("lamp",),
            ("--units", "7"),
        ],
    )
    def test_refuses_a_mistake_and_changes_nothing(
        self, make_product: MakeProduct, words: tuple[str, ...]
    ) -> None:
        product = make_product(units=10)

        with pytest.raises(CommandError):
            run("reset_stock", *words)

        assert stock_of(product.pk) == (10, 1)
        assert Movement.objects.count() == 1

    def test_names_the_product_that_is_not_there(self, make_product: MakeProduct) -> None:
        make_product()

        with pytest.raises(CommandError, match=r"“unicorn”.*Nothing was changed"):
            run("reset_stock", "lamp", "unicorn", "--units", "7")

    def test_refuses_while_a_run_is_on(self, make_product: MakeProduct) -> None:
        product = make_product(units=10, run_until=timezone.now() + timedelta(minutes=5))

        with pytest.raises(CommandError, match="A load run holds"):
            run("reset_stock", "lamp", "--units", "7")

        assert stock_of(product.pk) == (10, 1)

    def test_leaves_the_cache_and_the_locks_of_others_alone(
        self, make_product: MakeProduct, mark_in_the_cache: str, held_lock: Lock | None
    ) -> None:
        """A cleared cache would free a lock that a buyer holds."""
        make_product(units=10)

        run("reset_stock", "lamp", "--units", "7")

        assert caches["default"].get(mark_in_the_cache) == "kept"
        assert held_lock is None or held_lock.owned()


@pytest.fixture
def mark_in_the_cache() -> Iterator[str]:
    """Put a key in the default cache."""
    key = f"test-{uuid.uuid4().hex}"
    caches["default"].set(key, "kept", 60)
    yield key
    caches["default"].delete(key)


@pytest.fixture
def held_lock() -> Iterator[Lock | None]:
    """Hold a lock in Redis, where there is one."""
    if "locks" not in settings.CACHES:
        yield None
        return
    redis: Any = caches["locks"]
    lock: Lock = redis.lock(f"test-{uuid.uuid4().hex}", timeout=60)
    assert lock.acquire(blocking=False)
    yield lock
    if lock.owned():
        lock.release()


class TestAuditStock:
    def test_says_clean_and_exits_0_when_the_books_agree(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        buy(make_product("lamp"), quantity=3)
        make_product("kettle", units=0)

        assert run("audit_stock").splitlines() == ["kettle: clean", "lamp: clean"]

    def test_audits_only_what_is_named(self, make_product: MakeProduct) -> None:
        make_product("lamp")
        Stock.objects.filter(product=make_product("kettle")).update(available=99)

        assert run("audit_stock", "lamp") == "lamp: clean\n"

    def test_names_a_tampered_stock_row_and_exits_1(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product("lamp", units=10)
        make_product("kettle")
        buy(product)
        Stock.objects.filter(product=product).update(available=10)

        code, said = run_to_exit("audit_stock")

        assert code == 1
        assert "kettle: clean" in said
        assert "lamp: 1 findings" in said
        assert "available_differs: The stock row has 10 available, the ledger 9." in said

    def test_names_a_write_without_a_movement_and_exits_1(self, make_product: MakeProduct) -> None:
        Stock.objects.filter(product=make_product()).update(version=2)

        code, said = run_to_exit("audit_stock")

        assert code == 1
        assert "writes_differ: The stock row was written 2 times, for 1 movements." in said

    def test_names_a_deleted_movement_and_exits_1(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        product = make_product()
        buy(product)
        buy(product)
        Movement.objects.filter(version=2).delete()

        code, said = run_to_exit("audit_stock", "lamp")

        assert code == 1
        assert "version_gap: Version 1 is followed by 3." in said
        assert "writes_differ" in said
        assert "order_without_sale" in said

    def test_names_an_order_without_a_movement_and_exits_1(self, make_product: MakeProduct) -> None:
        order = Order.objects.create(
            product=make_product(),
            buyer="guest:ada",
            key=uuid.uuid4(),
            quantity=1,
            unit_price=Decimal(1),
            strategy="optimistic",
        )

        code, said = run_to_exit("audit_stock", "lamp")

        assert code == 1
        assert f"order_without_sale: Order {order.reference} took no units." in said

    def test_names_units_that_never_existed_and_exits_1(
        self, make_product: MakeProduct, buy: Buy
    ) -> None:
        """As the control leaves it: one unit, promised twice."""
        product = make_product(units=1)
        buy(product)
        Stock.objects.filter(product=product).update(available=1)
        buy(product)

        code, said = run_to_exit("audit_stock", "lamp")

        assert code == 1
        assert "oversold: 2 units sold of 1: 1 never existed." in said

    def test_writes_json_that_a_program_can_read(self, make_product: MakeProduct) -> None:
        make_product("kettle")
        product = make_product("lamp", units=10)
        assert json.loads(run("audit_stock", "--json")) == {"kettle": [], "lamp": []}

        Stock.objects.filter(product=product).update(available=9)
        code, said = run_to_exit("audit_stock", "--json")

        text = "The stock row has 9 available, the ledger 10."
        assert code == 1
        assert json.loads(said) == {
            "kettle": [],
            "lamp": [{"code": "available_differs", "text": text}],
        }

    def test_refuses_an_unknown_product(self, make_product: MakeProduct) -> None:
        make_product()

        with pytest.raises(CommandError, match="unicorn"):
            run("audit_stock", "lamp", "unicorn")


def everything() -> list[object]:
    """All that is stored, row by row."""
    return [
        *Product.objects.order_by("pk").values(),
        *Stock.objects.order_by("pk").values(),
        *Movement.objects.order_by("pk").values(),
        *Order.objects.order_by("pk").values(),
    ]


class TestSeedDemo:
    def test_seeds_a_shop_with_a_sale_opening_soon_and_a_lab_product(self) -> None:
        run("seed_demo")

        now = timezone.now()
        [coming] = Product.objects.filter(opens_at__gt=now)
        [lab] = Product.objects.filter(is_lab=True)
        assert coming.opens_at is not None
        assert coming.closes_at is not None
        assert coming.opens_at < now + timedelta(hours=1)
        assert coming.closes_at > coming.opens_at
        assert not coming.is_lab
        assert Product.objects.for_sale().filter(opens_at=None, stock__available__gt=0).exists()
        assert (lab.slug, stock_of(lab.pk)) == ("lab", (0, 0))

    def test_leaves_clean_books_that_say_where_the_units_came_from(self) -> None:
        run("seed_demo")

        for product in Product.objects.for_sale():
            first = Movement.objects.get(product=product)
            assert first.kind == Movement.Kind.RESTOCK
            assert stock_of(product.pk) == (first.delta, 1)
            assert first.delta > 0
        for product in Product.objects.all():
            assert audit(read_books(product.pk)) == []

    def test_changes_nothing_when_run_again(self, buy: Buy) -> None:
        run("seed_demo")
        product = Product.objects.get(slug="aurora-lamp")
        buy(product)
        Product.objects.filter(pk=product.pk).update(price=Decimal("99.00"))
        before = everything()

        run("seed_demo")

        assert everything() == before

    def test_completes_what_is_missing(self, make_product: MakeProduct) -> None:
        mine = make_product("night-print", units=3)

        run("seed_demo")

        assert stock_of(mine.pk) == (3, 1)
        assert Product.objects.filter(slug="lab").exists()

    def test_leaves_no_half_made_product_when_interrupted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next seeding would take it for made."""

        def fail(**kwargs: object) -> None:
            raise RuntimeError("power cut")

        with monkeypatch.context() as broken:
            broken.setattr("inventory.adjustments.adjust", fail)
            with pytest.raises(RuntimeError, match="power cut"):
                run("seed_demo")
        assert not Product.objects.exists()
