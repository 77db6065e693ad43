"""A run over time: the maths."""

from __future__ import annotations

import uuid

import pytest

from loadtests.moments import MOST_SLICES, over_time, slice_for
from loadtests.records import Attempt


def attempt(outcome: str, ended_at: float, *, key: uuid.UUID | None = None) -> Attempt:
    return Attempt(
        buyer=1,
        key=key or uuid.uuid4(),
        quantity=1,
        intended_at=100.0,
        started_at=100.0,
        ended_at=ended_at,
        status=200,
        outcome=outcome,
    )


def test_counts_each_answer_in_the_slice_it_came_in() -> None:
    seen = over_time(
        [
            attempt("sold", 100.05),
            attempt("sold", 100.09),
            attempt("accepted", 100.15),
            attempt("sold_out", 100.35),
            attempt("limit_reached", 100.36),
            attempt("busy", 100.39),
            attempt("failed", 100.39),
        ]
    )
    assert seen == {
        "slice_s": 0.1,
        "sold": [2, 1, 0, 0],
        "refused": [0, 0, 0, 2],
        "busy": [0, 0, 0, 1],
    }


def test_a_buyer_counts_once_when_the_last_answer_came() -> None:
    key = uuid.uuid4()
    seen = over_time([attempt("unknown", 100.05, key=key), attempt("replayed", 100.25, key=key)])
    assert seen["sold"] == [0, 0, 1]


def test_no_answers_have_no_slices() -> None:
    assert over_time([])["sold"] == []
    assert over_time([attempt("failed", 101)])["sold"] == []


@pytest.mark.parametrize(
    ("duration_s", "slice_s"),
    [(0, 0.1), (12, 0.1), (12.1, 0.2), (120, 1), (600, 5), (7200, 60), (7201, 120), (20000, 180)],
)
def test_slices_grow_with_the_run(duration_s: float, slice_s: float) -> None:
    assert slice_for(duration_s) == slice_s


@pytest.mark.parametrize("duration_s", [0.01, 12, 12.3, 59.99, 60, 777, 7200, 12345])
def test_there_are_never_too_many_slices_and_nobody_is_lost(duration_s: float) -> None:
    ends = [100 + duration_s * n / 997 for n in range(998)]
    seen = over_time([attempt("sold", end) for end in ends])
    assert 0 < len(seen["sold"]) <= MOST_SLICES
    assert sum(seen["sold"]) == 998
