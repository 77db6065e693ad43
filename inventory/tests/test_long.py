"""Before a release: so many contended sales that a rare mistake would show."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from django.db import connection

from conftest import MakeProduct, drain
from inventory import counter
from inventory.audit import audit, read_books
from inventory.consumer import Consumer
from inventory.tests.races import race_in_processes
from inventory.tests.test_races import sell

pytestmark = [
    pytest.mark.long,
    pytest.mark.mariadb,
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
]

COMMITS = 100_000
PROCESSES, THREADS, TIMES = 2, 16, 100


def test_100_000_contended_sales_leave_the_books_clean(
    strategy: str, make_product: MakeProduct
) -> None:
    """Buyers go straight to the strategy, past the process's queue, until nothing is left."""
    product = make_product(units=COMMITS, strategy=strategy)
    counter.open_queue(product.pk)
    over = threading.Event()

    def commit_meanwhile() -> None:
        consumer = Consumer("meanwhile")
        while not over.is_set():
            consumer.commit_new(product) or over.wait(0.02)
        connection.close()

    committing = threading.Thread(target=commit_meanwhile)
    committing.start()
    outcomes: Counter[str] = Counter()
    while not outcomes["SoldOut"]:
        outcomes += race_in_processes(PROCESSES, THREADS, lambda n: sell(product), times=TIMES)
        print(f"{strategy}: {dict(outcomes)}", flush=True)
    over.set()
    committing.join()
    drain(product)

    assert outcomes["sold"] == COMMITS
    assert set(outcomes) <= {"sold", "SoldOut", "StockBusy"}
    books = read_books(product.pk)
    assert audit(books) == []
    assert len(books.orders) == COMMITS
    assert books.stock.available == 0
