from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import psutil
from django.conf import settings
from django.core.management.base import CommandError

from loadtests import visitors
from loadtests.answers import MOST_TRIES, TRY_AGAIN_S
from loadtests.generators.base import Generator, Load, Progress, no_progress
from loadtests.generators.wrk_record import Fact, answers_in, attempt_lines, facts
from loadtests.processes import child
from loadtests.records import ClientRecord, read_record
from loadtests.visitors import Visitor

SCRIPT = settings.BASE_DIR / "loadtests" / "wrk.lua"
LOOK_AGAIN_S = 0.05
QUIET_S = 12.0
"""Longer than the shop takes for any answer: what is missing then was lost with its connection."""
CEILING_S = 3
ANSWERS_PER_S = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
WRONG_ANSWERS = re.compile(r"^\s*(Non-2xx or 3xx responses|Socket errors): .*$", re.MULTILINE)


class Wrk(Generator):
    """
    Buyers as connections of wrk, one thread of C and a little Lua.

    Costs the machine a few percent of a core. Its visitors open their pages once,
    before the first load, and come back as customers in the later ones, each
    purchase with a key of its own. Only on loopback or a LAN without TLS; buyers
    whose answer was lost ask again when the load is over.
    """

    opens_pages_beforehand = True

    def __init__(self) -> None:
        if not self.installed():
            raise CommandError("wrk is not installed; on Debian: sudo apt-get install wrk")
        self.name = _name()
        self.visitors: list[Visitor] = []

    @staticmethod
    def installed() -> bool:
        """Whether there is a wrk on the PATH."""
        return shutil.which("wrk") is not None

    def prepare(self, load: Load) -> None:
        """See Generator: have as many visitors as buyers."""
        if load.within_s:
            raise CommandError("wrk cannot spread arrivals; take the generator locust.")
        missing = load.buyers - len(self.visitors)
        try:
            self.visitors += visitors.arrive(host=load.host, product=load.product, count=missing)
        except (*visitors.UNREACHABLE, ValueError) as error:
            raise CommandError(f"No visitor got the product page: {error}") from error

    def buy(self, load: Load, progress: Progress = no_progress) -> ClientRecord:
        """See Generator."""
        orders, raw = load.record.with_suffix(".orders"), load.record.with_suffix(".wrk")
        keys = [str(uuid.uuid4()) for _ in range(load.buyers)]
        coming = zip(keys, self.visitors, strict=False)
        orders.write_text("".join(f"{key}\t{v.cookies}\t{v.token}\n" for key, v in coming))
        raw.unlink(missing_ok=True)
        path = f"/products/{load.product}/buy/"
        arguments = ["wrk", "-t", "1", "-c", str(load.users), "-d", f"{int(load.limit_s) + 1}s"]
        arguments += ["--timeout", f"{int(load.limit_s) + 5}s", "-s", str(SCRIPT), load.host]
        arguments += ["--", str(orders), str(raw), path, load.host]
        deadline = time.monotonic() + load.limit_s
        with child(arguments, log=load.record.with_suffix(".wrk.log")) as wrk:
            cpu_s = _watch(wrk, raw, load, deadline, progress)
        lines = attempt_lines(facts(raw), keys)
        lines += self._ask_again(load, lines, deadline)
        cpu_percent = _percent(cpu_s, facts(raw))
        _write(load.record, [*lines, {"generator_cpu_percent": cpu_percent}])
        return read_record(load.record)

    def _ask_again(
        self, load: Load, lines: list[dict[str, object]], deadline: float
    ) -> list[dict[str, object]]:
        """Let every buyer without a definite answer ask again with the same key."""
        unknown = [line for line in lines if line["outcome"] == "unknown"]
        more: list[dict[str, object]] = []
        for _ in range(MOST_TRIES - 1):
            if not unknown or time.monotonic() > deadline:
                break
            time.sleep(TRY_AGAIN_S)
            unknown = [self._again(load, line) for line in unknown]
            more += unknown
            unknown = [line for line in unknown if line["outcome"] == "unknown"]
        return more

    def _again(self, load: Load, line: dict[str, object]) -> dict[str, object]:
        visitor = self.visitors[int(str(line["buyer"]))]
        started_at = time.monotonic()
        answer = visitors.ask(visitor, host=load.host, product=load.product, key=str(line["key"]))
        moments = {"started_at": started_at, "ended_at": time.monotonic()}
        return {**line, **answer, **moments}

    def ceiling_per_s(self, *, host: str, concurrency: int, directory: Path) -> float:
        """See Generator: for 3 s, with as many connections."""
        arguments = ["wrk", "-t", "1", "-c", str(concurrency), "-d", f"{CEILING_S}s"]
        arguments += ["--timeout", "15s", f"{host}/healthz"]
        log = directory / "ceiling.wrk.log"
        with child(arguments, log=log) as wrk:
            wrk.wait(CEILING_S + 30)
        said = log.read_text(errors="replace")
        speed, wrong = ANSWERS_PER_S.search(said), WRONG_ANSWERS.search(said)
        if speed is None or wrong is not None or float(speed.group(1)) == 0:
            why = wrong.group(0).strip() if wrong else said.strip()[-200:]
            raise CommandError(f"The ceiling was not measured: {why}")
        return float(speed.group(1))


def _name() -> str:
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", said.stdout)
    return f"wrk {found.group(0)}" if found else "wrk"


def _watch(
    wrk: subprocess.Popen[bytes], raw: Path, load: Load, deadline: float, progress: Progress
) -> float:
    """
    Wait until all were answered, or the rest cannot be; give wrk's CPU seconds.

    wrk itself never ends before its time, however few requests it has.
    """
    cpu_s, answered, changed_at = 0.0, 0, time.monotonic()
    program = psutil.Process(wrk.pid)
    while time.monotonic() < min(deadline, changed_at + QUIET_S):
        times = program.cpu_times()
        cpu_s = times.user + times.system
        ended = wrk.poll() is not None
        count = answers_in(raw)
        if count > answered:
            answered, changed_at = count, time.monotonic()
        progress(answered, load.buyers)
        if ended or answered >= load.buyers:
            break
        time.sleep(LOOK_AGAIN_S)
    return cpu_s


def _percent(cpu_s: float, seen: list[Fact]) -> float | None:
    moments = [fact.at for fact in seen]
    wall_s = max(moments) - min(moments) if moments else 0.0
    return round(100 * cpu_s / wall_s, 1) if wall_s else None


def _write(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
