"""From raw facts to the clients' record."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from loadtests.generators.wrk_record import answers_in, attempt_lines, facts
from loadtests.records import read_record

KEYS = [str(uuid.UUID(int=number)) for number in range(3)]
ORDER = str(uuid.UUID(int=100))
SOLD = json.dumps({"order": ORDER, "stock_version": 8})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "1.wrk"
    path.write_text(
        f">\t{KEYS[0]}\t1.000000\n"
        f">\t{KEYS[1]}\t1.100000\n"
        f'<\t{KEYS[1]}\t1.300000\t409\t-\t{{"code": "sold_out"}}\n'
        f"<\t{KEYS[0]}\t1.500000\t201\tlock;dur=2\t{SOLD}\n"
    )
    return path


def append(raw: Path, line: str) -> None:
    raw.write_text(raw.read_text() + line)


def test_an_answer_finds_its_buyer_by_the_key(raw: Path, tmp_path: Path) -> None:
    lines = attempt_lines(facts(raw), KEYS)
    record = tmp_path / "record.jsonl"
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))

    first, second = read_record(record).attempts

    assert (first.buyer, first.outcome, first.status) == (0, "sold", 201)
    assert (first.intended_at, first.started_at, first.ended_at) == (1.0, 1.0, 1.5)
    assert (first.order, first.version) == (uuid.UUID(ORDER), 8)
    assert first.server_timing == "lock;dur=2"
    assert (second.buyer, second.outcome, second.started_at) == (1, "sold_out", 1.1)
    assert second.server_timing == ""


def test_a_buyer_without_an_answer_is_unknown_from_the_last_moment_seen(raw: Path) -> None:
    append(raw, f">\t{KEYS[2]}\t1.600000\n")
    line = attempt_lines(facts(raw), KEYS)[2]
    assert (line["outcome"], line["status"], line["ended_at"]) == ("unknown", 0, 1.6)


def test_a_buyer_who_never_came_has_no_line(raw: Path) -> None:
    assert [line["buyer"] for line in attempt_lines(facts(raw), KEYS)] == [0, 1]


def test_an_answer_that_names_no_key_is_counted_but_believed_of_nobody(raw: Path) -> None:
    append(raw, f">\t{KEYS[2]}\t1.600000\n<\t-\t1.700000\t500\t-\t<html> oops\n")
    assert answers_in(raw) == 3
    assert attempt_lines(facts(raw), KEYS)[2]["outcome"] == "unknown"


def test_a_line_cut_off_is_left_out(raw: Path) -> None:
    append(raw, f"<\t{KEYS[2]}\t1.7000")
    assert answers_in(raw) == 2
    assert len(facts(raw)) == 4


def test_the_page_that_fills_a_new_connection_is_no_answer(raw: Path) -> None:
    append(raw, "<\t-\t1.700000\t200\t-\talive \n")
    assert answers_in(raw) == 2


def test_a_body_may_have_any_sign_in_it(raw: Path) -> None:
    append(
        raw, f'<\t{KEYS[2]}\t1.700000\t409\t-\t{{"code": "sold_out", "detail": "a\u2028b\x85c"}}\n'
    )
    assert facts(raw)[-1].body.endswith('c"}')


def test_nothing_written_is_nothing_seen(tmp_path: Path) -> None:
    missing = tmp_path / "none.wrk"
    assert (facts(missing), answers_in(missing), attempt_lines([], KEYS)) == ([], 0, [])
