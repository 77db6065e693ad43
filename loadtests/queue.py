"""
Comparisons asked for, and whose turn it is: one at a time, by the database.

Each change of status is a guarded UPDATE whose row count decides; that only one runs is
a unique column. Who dies while playing is found by a heartbeat that stopped.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import IntegrityError, transaction

from inventory.clock import DatabaseNow
from inventory.errors import InventoryError
from inventory.models import Product
from inventory.stopping import Stop
from loadtests.comparisons import compare, sorted_out
from loadtests.generators import GENERATORS
from loadtests.heartbeats import Heart
from loadtests.models import Comparison, LoadRun
from loadtests.processes import server
from loadtests.runs import LAB_SLUG, RUNS_DIR
from loadtests.scenarios import Scenario

COMMAND = "command"
"""Who asked for what was started at the shell."""
LINES_OF_A_LOG = 15
LONGEST_LOG = 20_000
Status = Comparison.Status


class CalledOff(CommandError):
    """The comparison was cancelled at the desk, or taken for lost."""


def claim_next() -> Comparison | None:
    """Take the comparison that waits longest, unless another one runs."""
    write_off_lost()
    waiting = Comparison.objects.filter(status=Status.QUEUED).order_by("pk")
    if Comparison.objects.filter(playing=True).exists():
        return None
    comparison = waiting.first()
    if comparison is None or not _begin(comparison):
        return None
    comparison.refresh_from_db()
    return comparison


def begin_now(
    scenario: Scenario, *, strategies: list[str], rounds: int, generator: str
) -> Comparison:
    """
    Keep a comparison that is played at once, by a command.

    Raises CommandError while another one runs.
    """
    write_off_lost()
    with transaction.atomic():
        comparison = Comparison.objects.create(
            strategies=strategies,
            server=scenario.server,
            units=scenario.units,
            buyers=scenario.buyers,
            concurrency=scenario.concurrency,
            within_s=scenario.within_s,
            rounds=rounds,
            generator=generator,
            asked_by=COMMAND,
        )
        if not _begin(comparison):
            raise CommandError("Another comparison runs: wait for it, or cancel it.")
    return comparison


def cancel(comparison: Comparison) -> bool:
    """Take a waiting comparison back, or have its player end it; False when it is over."""
    same = Comparison.objects.filter(pk=comparison.pk)
    if same.filter(status=Status.QUEUED).update(
        status=Status.CANCELLED, finished_at=DatabaseNow(), cancel_asked=True
    ):
        return True
    return bool(same.filter(status=Status.RUNNING).update(cancel_asked=True))


def write_off_lost() -> None:
    """End what nobody plays any longer, and let the lab product go if its run held it."""
    for pk in Comparison.objects.lost().values_list("pk", flat=True):
        with transaction.atomic():
            lost = Comparison.objects.lost().filter(pk=pk)
            if not lost.update(status=Status.LOST, playing=None, finished_at=DatabaseNow()):
                continue
            runs = LoadRun.objects.filter(comparison=pk, status=LoadRun.Status.RUNNING)
            if runs.update(status=LoadRun.Status.ABORTED, finished_at=DatabaseNow()):
                Product.objects.filter(slug=LAB_SLUG, is_lab=True).update(run_until=None)


def play(comparison: Comparison, *, worker: str, stop: Stop) -> None:
    """
    Play a claimed comparison on a server of its own, and keep how it ended.

    Not one of a worker that was asked to end while it claimed it: that ends at once.
    Raises what ended it: CalledOff, CommandError, InventoryError, KeyboardInterrupt.
    """
    with kept(comparison, worker=worker) as heart:
        if stop.asked:
            raise KeyboardInterrupt
        able, unavailable = sorted_out(comparison.strategies)
        if not able:
            raise CommandError(f"None of the strategies can run here: {unavailable}")
        RUNS_DIR.mkdir(parents=True, exist_ok=True)
        with server(log=RUNS_DIR / "server.log", kind=comparison.server) as host:
            compare(
                Scenario.of(comparison),
                names=comparison.strategies,
                rounds=comparison.rounds,
                host=host,
                server_started_here=True,
                announce=heart.alone,
                generator=GENERATORS[comparison.generator](),
                comparison=comparison,
            )


@contextmanager
def kept(comparison: Comparison, *, worker: str = "") -> Iterator[Heart]:
    """Beat for a comparison while it is played, and write down how it ended."""
    heart, begun_at = Heart(comparison, worker=worker), time.time()
    heart.start()
    try:
        try:
            yield heart
        finally:
            heart.stop()
    except KeyboardInterrupt as error:
        stopped = "" if heart.called_off else "Interrupted: whoever played it was stopped."
        _end(heart, Status.CANCELLED, stopped)
        if heart.called_off:
            raise CalledOff("Cancelled at the desk: nothing is left running.") from error
        raise
    except BaseException as error:
        _end(heart, Status.FAILED, f"{_said(error)}\n{_ends_of_logs(begun_at)}")
        raise
    _end(heart, Status.DONE, "")


def _begin(comparison: Comparison) -> bool:
    """Give a waiting comparison the one turn; the row count and the unique column decide."""
    waiting = Comparison.objects.filter(pk=comparison.pk, status=Status.QUEUED)
    work = len(comparison.strategies) * comparison.rounds * comparison.buyers
    try:
        with transaction.atomic():
            return bool(
                waiting.update(
                    status=Status.RUNNING,
                    playing=True,
                    started_at=DatabaseNow(),
                    beat_at=DatabaseNow(),
                    step="server",
                    of=work,
                )
            )
    except IntegrityError:
        return False


def _end(heart: Heart, status: Status, log: str) -> None:
    mine = Comparison.objects.filter(pk=heart.pk, status=Status.RUNNING)
    mine.update(
        status=status,
        playing=None,
        finished_at=DatabaseNow(),
        done=heart.done,
        log=log.strip()[-LONGEST_LOG:],
    )


def _said(error: BaseException) -> str:
    """An error that explains itself is its sentence; any other one its traceback."""
    if isinstance(error, CommandError | InventoryError):
        return str(error)
    return "".join(traceback.format_exception(error))


def _ends_of_logs(since: float) -> str:
    """The last lines of what the programs said that were started since then."""
    logs = sorted(RUNS_DIR.glob("*.log"), key=lambda path: path.stat().st_mtime)
    parts = []
    for log in (log for log in logs if log.stat().st_mtime >= since):
        lines = log.read_text(errors="replace").splitlines()[-LINES_OF_A_LOG:]
        if lines:
            parts.append("\n".join([f"── {log.name}", *lines]))
    return "\n".join(parts)
