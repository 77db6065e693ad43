"""The oracle works: every known mistake is caught, and no correct strategy is accused."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import django.db
import pytest
from django.db import connection

from conftest import MakeProduct, drain
from inventory import ledger
from inventory.audit import Finding, Snapshot, read_books
from inventory.errors import InventoryError
from inventory.ledger import PurchaseRequest, Receipt
from inventory.models import Product, Stock
from inventory.strategies import STRATEGIES
from loadtests.outcomes import judge
from loadtests.records import Attempt
from loadtests.tests.broken import BROKEN, Sell

pytestmark = pytest.mark.django_db(transaction=True)
BUYERS = 2


def run_two_rivals(product: Product, sell: Sell) -> list[Finding]:
    """Let two buyers race through `sell`, record what they saw, and judge the books."""
    stock = Stock.objects.get(product=product)
    opening = Snapshot(available=stock.available, version=stock.version)
    barrier = threading.Barrier(BUYERS, timeout=10)
    with ThreadPoolExecutor(BUYERS) as pool:
        buying = [pool.submit(attempt, product, sell, n, barrier.wait) for n in range(BUYERS)]
        attempts = [future.result() for future in buying]
    books = read_books(product.pk, since=opening)
    return judge(books=books, attempts=attempts, buyers=BUYERS, strategy=product.strategy)


def attempt(product: Product, sell: Sell, number: int, meet: Callable[[], object]) -> Attempt:
    key = uuid.uuid4()
    request = PurchaseRequest(
        product_id=product.pk,
        quantity=1,
        buyer=f"guest:{number}",
        key=key,
        unit_price=product.price,
        strategy=product.strategy,
    )
    started_at = time.monotonic()
    order, version, outcome = None, None, "sold"
    try:
        receipt = sell(request, meet)
        order, version = receipt.order, receipt.stock_version
    except InventoryError:
        outcome = "sold_out"
    except django.db.Error:
        outcome = "unknown"
    finally:
        connection.close()
    return Attempt(
        buyer=number,
        key=key,
        quantity=1,
        intended_at=started_at,
        started_at=started_at,
        ended_at=time.monotonic(),
        status=201 if outcome == "sold" else 409,
        outcome=outcome,
        order=order,
        version=version,
    )


@pytest.mark.parametrize("sell", BROKEN, ids=lambda sell: sell.__name__)
def test_every_known_mistake_is_caught(make_product: MakeProduct, sell: Sell) -> None:
    units = 1 if BROKEN[sell] == "oversold" else 5
    product = make_product(units=units)

    findings = run_two_rivals(product, sell)

    assert BROKEN[sell] in {finding.code for finding in findings}, findings


def test_no_correct_strategy_is_accused(make_product: MakeProduct, strategy: str) -> None:
    product = make_product(units=1, strategy=strategy)

    def sell(request: PurchaseRequest, meet: Callable[[], object]) -> Receipt:
        meet()
        receipt = STRATEGIES[strategy].sell(request)
        if receipt.status != ledger.ACCEPTED:
            return receipt
        drain(product)
        sold = ledger.receipt_of(reference=receipt.order, buyer=request.buyer)
        assert sold is not None
        return sold

    assert run_two_rivals(product, sell) == []
