"""How a buyer reads an answer."""

from __future__ import annotations

import pytest

from loadtests.answers import body_of, outcome_of, told

ANSWERS = [
    (201, {"order": "x"}, "sold"),
    (200, {"order": "x"}, "replayed"),
    (202, {"order": "x"}, "accepted"),
    (202, {}, "unknown"),
    (201, {}, "unknown"),  # the headers came, the body was cut off
    (409, {"code": "sold_out"}, "sold_out"),
    (409, {"code": "not_open"}, "not_open"),
    (409, {}, "unknown"),
    (503, {"code": "busy"}, "busy"),
    (503, {"code": "outcome_unknown"}, "unknown"),
    (503, {"code": "unavailable"}, "failed"),
    (500, {}, "unknown"),
    (0, {}, "unknown"),
    (400, {"code": "invalid"}, "failed"),
    (403, {"code": "csrf"}, "failed"),
    (422, {"code": "key_reused"}, "failed"),
]


@pytest.mark.parametrize(("status", "body", "outcome"), ANSWERS)
def test_an_answer_is_read_as_what_it_means(
    status: int, body: dict[str, str], outcome: str
) -> None:
    assert outcome_of(status, body) == outcome


@pytest.mark.parametrize("text", [None, "", "<html>", "[1]", '{"order": '])
def test_what_is_no_json_object_is_read_as_an_empty_one(text: str | None) -> None:
    assert body_of(text) == {}


def test_the_record_keeps_order_and_version_as_told() -> None:
    assert told(201, '{"order": "x", "stock_version": 7}') == {
        "status": 201,
        "outcome": "sold",
        "order": "x",
        "version": 7,
    }
