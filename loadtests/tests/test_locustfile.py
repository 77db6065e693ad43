"""How a buyer reads an answer (in a process of its own: importing locust patches this one)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.conf import settings

ANSWERS = [
    (201, {"order": "x"}, "sold"),
    (200, {"order": "x"}, "replayed"),
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


@pytest.fixture(scope="module")
def outcomes() -> list[str]:
    """What the locustfile makes of every answer."""
    program = (
        "import json, sys; from loadtests.locustfile import _outcome;"
        "print(json.dumps([_outcome(s, b) for s, b, _ in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(ANSWERS),
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    read: list[str] = json.loads(done.stdout.splitlines()[-1])
    return read


@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=lambda n: str(ANSWERS[n]))
def test_an_answer_is_read_as_what_it_means(outcomes: list[str], number: int) -> None:
    assert outcomes[number] == ANSWERS[number][2]
