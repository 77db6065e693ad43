"""
Buyers, as browsers: each gets the page, keeps its cookies, sends token and key.

Alone, every locust user is one new buyer after another, until stopped:

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --product lab

With --buyers N there are N buyers in all and then it ends: as many at a time as
there are users, or, with --within S, each at a moment of its own spread over S
seconds (give it as many users as buyers). Works headless, in the web interface,
with --processes and with master and workers.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import gevent
from gevent.event import Event
from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtests.answers import KEY, MOST_TRIES, TOKEN, TRY_AGAIN_S, body_of, told

LOOK_S = 1.0
"""How long before its purchase a buyer opens the page, when arrivals are spread."""


Recorder = Callable[[dict[str, object]], None]


@dataclass(slots=True)
class Visitor:
    """One buyer with an open product page."""

    number: int
    cookies: str
    token: str
    key: str


class Crowd:
    """The buyers of this process: who is next, when they may buy, when all are through."""

    current: ClassVar[Crowd | None] = None

    def __init__(self, environment: Environment, *, share: int, shares: int) -> None:
        options = _options(environment)
        self.runner = _runner(environment)
        self.within_s: float = options.within
        self.waiting = deque(range(share, options.buyers, shares))
        self.size = len(self.waiting)
        moments = random.Random(options.seed)
        self.moments = sorted(moments.uniform(0, self.within_s) for _ in range(options.buyers))
        self.open_pages: deque[Visitor] = deque()
        self.arrived = self.served = 0
        self.doors = Event()
        if not self.waiting:
            self.doors.set()
        self.opened_at = self.cpu_at_opening_s = 0.0
        self.record: IO[str] | None = None
        if options.record:
            path = options.record if shares == 1 else f"{options.record}.{share}"
            self.record = open(path, "w", buffering=1)  # noqa: SIM115  # open for the whole run

    def arrive(self) -> None:
        """Count one more buyer with an open page; the last one opens the doors."""
        self.arrived += 1
        if self.arrived == self.size:
            self.open_doors()

    def open_doors(self) -> None:
        """Let the buying begin; only once, however often users are spawned."""
        if self.doors.is_set():
            return
        self.opened_at = time.monotonic()
        self.cpu_at_opening_s = time.process_time()
        self.doors.set()

    def leave(self) -> None:
        """Count one more buyer as served; the last one ends this process's share."""
        self.served += 1
        if self.served == self.size:
            wall_s = max(time.monotonic() - self.opened_at, 1e-9)
            cpu_s = time.process_time() - self.cpu_at_opening_s
            self.write({"generator_cpu_percent": round(100 * cpu_s / wall_s, 1)})
            self.runner.send_message("share_done", {})

    def write(self, line: dict[str, object]) -> None:
        """Append to the clients' record, if one is kept."""
        if self.record is not None:
            self.record.write(json.dumps(line) + "\n")


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--product", default="lab", help="Slug of the product to buy.")
    parser.add_argument("--buyers", type=int, default=0, help="Buyers in all (0: no end).")
    parser.add_argument("--within", type=float, default=0, help="Spread the buyers over seconds.")
    parser.add_argument("--seed", type=int, default=1, help="Of the moments of arrival.")
    parser.add_argument("--record", default="", help="File for one JSON line per try.")
    parser.add_argument(
        "--ceiling", action="store_true", help="Get a page that does nothing instead of buying."
    )


@events.init.add_listener
def _gather(environment: Environment, **kwargs: Any) -> None:
    """Give every process its share of the buyers, and end when all are served."""
    if environment.runner is None:
        return
    runner = _runner(environment)
    shares = {"share": 0, "shares": 1, "done": 0}

    def deal(**kwargs: Any) -> None:
        Crowd.current = None
        shares["done"] = 0
        if isinstance(runner, MasterRunner):
            shares["shares"] = _tell_workers_their_shares(runner)
        elif _options(environment).buyers:
            Crowd.current = Crowd(environment, share=shares["share"], shares=shares["shares"])

    def open_doors(**kwargs: Any) -> None:
        if Crowd.current is not None and Crowd.current.within_s:
            Crowd.current.open_doors()

    def end(**kwargs: Any) -> None:
        shares["done"] += 1
        if shares["done"] == shares["shares"]:
            gevent.spawn_later(0.1, runner.stop if environment.web_ui else runner.quit)

    hooks: Any = environment.events
    hooks.test_start.add_listener(deal)
    hooks.spawning_complete.add_listener(open_doors)
    if isinstance(runner, WorkerRunner):
        runner.register_message("share", lambda msg, **kwargs: shares.update(msg.data))
    else:
        runner.register_message("share_done", end)


def _tell_workers_their_shares(master: MasterRunner) -> int:
    workers = list(master.clients.ready)
    if master.target_user_count < len(workers):
        master.environment.process_exit_code = 1
        print(f"Give at least as many users as processes ({len(workers)}).")
        master.quit()
    for number, worker in enumerate(workers):
        message = {"share": number, "shares": len(workers)}
        master.send_message("share", message, client_id=worker.id)
    buyers: int = _options(master.environment).buyers
    return min(len(workers), buyers)


class Buyer(FastHttpUser):
    """A browser, in what matters to the shop."""

    wait_time = between(0.2, 1)
    connection_timeout = 10.0
    network_timeout = 15.0

    @task
    def shop(self) -> None:
        """Buy as this load asks: without end, all at a time, or at a moment of its own."""
        crowd = Crowd.current
        if crowd is None:
            self.buy(self.open_page(0), intended_at=time.monotonic(), record=lambda line: None)
            return
        if crowd.within_s:
            self.buy_at_a_moment(crowd)
        else:
            self.buy_with_the_crowd(crowd)
        raise StopUser

    def buy_with_the_crowd(self, crowd: Crowd) -> None:
        """Open pages until every buyer has one, then buy with one after another."""
        while crowd.waiting:
            crowd.open_pages.append(self.open_page(crowd.waiting.popleft()))
            crowd.arrive()
        crowd.doors.wait()
        while crowd.open_pages:
            visitor = crowd.open_pages.popleft()
            self.buy(visitor, intended_at=time.monotonic(), record=crowd.write)
            crowd.leave()

    def buy_at_a_moment(self, crowd: Crowd) -> None:
        """Open the page a second before this buyer's moment, and buy at it."""
        crowd.doors.wait()
        while crowd.waiting:
            number = crowd.waiting.popleft()
            intended_at = crowd.opened_at + LOOK_S + crowd.moments[number]
            _sleep_until(intended_at - LOOK_S)
            visitor = self.open_page(number)
            _sleep_until(intended_at)
            self.buy(visitor, intended_at=intended_at, record=crowd.write)
            crowd.leave()

    def open_page(self, number: int) -> Visitor:
        """Get the product page as a new visitor and keep what it gives."""
        options = _options(self.environment)
        if options.ceiling:
            return Visitor(number=number, cookies="", token="", key=str(uuid.uuid4()))
        self.client.cookiejar.clear()
        page = self.client.get(f"/products/{options.product}/", name="page")
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.client.cookiejar)
        self.client.cookiejar.clear()
        token, key = TOKEN.search(page.text or ""), KEY.search(page.text or "")
        return Visitor(
            number=number,
            cookies=cookies,
            token=token.group(1) if token else "",
            key=key.group(1) if key else str(uuid.uuid4()),
        )

    def buy(self, visitor: Visitor, *, intended_at: float, record: Recorder) -> None:
        """Buy; while the outcome is unknown, ask again with the same key."""
        for _ in range(MOST_TRIES):
            started_at = time.monotonic()
            answer = self.send(visitor)
            record(
                {
                    "buyer": visitor.number,
                    "key": visitor.key,
                    "quantity": 1,
                    "intended_at": intended_at,
                    "started_at": started_at,
                    "ended_at": time.monotonic(),
                    **answer,
                }
            )
            if answer["outcome"] != "unknown":
                return
            gevent.sleep(TRY_AGAIN_S)

    def send(self, visitor: Visitor) -> dict[str, Any]:
        """Send one purchase and read the answer, as the record has it."""
        options = _options(self.environment)
        if options.ceiling:
            status = self.client.get("/healthz", name="ceiling").status_code
            return {**told(status, None), "outcome": "idle" if status == 200 else "failed"}
        with self.client.post(
            f"/products/{options.product}/buy/",
            name="buy",
            data={"quantity": "1", "key": visitor.key, "csrfmiddlewaretoken": visitor.token},
            headers={
                "Accept": "application/json",
                "Cookie": visitor.cookies,
                "Origin": self.client.base_url,
            },
            catch_response=True,
        ) as response:
            answer = told(response.status_code, response.text)
            if answer["outcome"] in ("busy", "failed", "unknown"):
                lost = getattr(response, "error", None)  # absent where an answer was only cut off
                code = body_of(response.text).get("code", lost)
                response.failure(f"{answer['status']} {code}")
            else:
                response.success()
            if timing := (response.headers or {}).get("Server-Timing"):
                answer["server_timing"] = timing
            return answer


def _options(environment: Environment) -> Any:
    """The command line's options, which locust leaves untyped."""
    return environment.parsed_options


def _runner(environment: Environment) -> Runner:
    assert environment.runner is not None
    return environment.runner


def _sleep_until(moment: float) -> None:
    gevent.sleep(max(0.0, moment - time.monotonic()))
