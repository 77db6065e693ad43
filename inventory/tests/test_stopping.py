"""A program that is asked to end, at whatever instruction it is."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from django.conf import settings

from inventory.stopping import NOTICED_WITHIN_S, Stop

ASKED_AT_EVERY_INSTRUCTION = """
import signal, sys
from inventory.stopping import Stop

def asked_at(count):
    stop, seen = Stop.on_signals(), 0
    def trace(frame, event, argument):
        nonlocal seen
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == count:
                signal.raise_signal(signal.SIGTERM)
        return trace
    sys.settrace(trace)
    stop.wait(0.01)
    sys.settrace(None)
    return stop.asked

count = 1
while asked_at(count):
    count += 1
print(count)
"""


def test_is_asked_to_end_at_any_instruction_of_its_pause() -> None:
    """With a lock in the pause, one of these would never end."""
    ended = subprocess.run(
        [sys.executable, "-c", ASKED_AT_EVERY_INSTRUCTION],
        cwd=settings.BASE_DIR,
        timeout=30,
        capture_output=True,
        check=True,
    )
    assert int(ended.stdout) > 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pause_ends_with_the_part_in_which_it_was_asked(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    parts: list[float] = []

    def asked_meanwhile(seconds: float) -> None:
        parts.append(seconds)
        signal.raise_signal(number)

    monkeypatch.setattr(time, "sleep", asked_meanwhile)
    try:
        stop = Stop.on_signals()
        stop.wait(60)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

    assert stop.asked
    assert parts == [NOTICED_WITHIN_S]
