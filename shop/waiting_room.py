"""
The waiting room before a product's sale: who is in it, in which order, and who is let in.

Places of those there before the start are drawn, later ones are first come first served.
All of it lives in Redis, under one hash tag per product; each look of a visitor moves it
on (lua/look.lua). A token in the visitor's cookie lets him have his place again after
Redis lost it.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.utils import timezone
from django.utils.crypto import salted_hmac
from redis.exceptions import RedisError

from inventory.errors import StockBusy
from inventory.terms import SaleTerms
from shop import admissions, redis_scripts
from shop.errors import SalePaused
from shop.redis_scripts import CircuitBreaker, Crowded, NotAsked

PRESENCE_S = 90
"""Who did not look for so long is passed over; browsers wake a hidden page once a minute."""
PLACE_KEPT_S = 3600
"""Who comes back within this has his place still."""
AWAITED_S = 10
"""After a loss those who were there have so long to come back before anybody is let in."""
KEPT_S = 24 * 3600
MOST_PLACES = 100_000
DRAW_BITS = 50
"""A place drawn is below 2^50, and so before every later one, which is the time in µs."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S, EARLY_PAUSE_S = 2.0, 15.0, 30.0
FIRST_LOOKS_PER_S = 300
"""As many of those there before the start look again in each second after it."""
_breaker = CircuitBreaker(rest_s=1.0, without_it="sales with a waiting room are paused")

EARLY, WAITING, ADMITTED = "early", "waiting", "admitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    How it stands for one visitor: EARLY, WAITING or ADMITTED.

    `number` is how many are there, his number (1 is next), or the seconds he has to buy.
    `mark` is his place, or the nonce of his admission.
    """

    state: str
    number: int
    epoch: str
    mark: str


def look(terms: SaleTerms, *, buyer: str, token: str, units: int) -> Standing:
    """
    Enter the room, or look how it stands, with `units` left to sell.

    Raises SalePaused when Redis does not answer, StockBusy when the room is full.
    """
    if "locks" not in settings.CACHES or not _breaker.may_ask():
        raise SalePaused
    keys, arguments = _asked(terms, buyer, token, units)
    try:
        return _told(redis_scripts.run("look", keys=keys, arguments=arguments))
    except RedisError as error:
        _breaker.failed(error)
        raise SalePaused from error


async def alook(terms: SaleTerms, *, buyer: str, token: str, units: int) -> Standing:
    """See look(). Raises StockBusy too when too many look at once."""
    if "locks" not in settings.CACHES:
        raise SalePaused
    keys, arguments = _asked(terms, buyer, token, units)
    try:
        answer = await redis_scripts.arun("look", keys=keys, arguments=arguments, breaker=_breaker)
        return _told(answer)
    except Crowded as error:
        raise StockBusy from error
    except NotAsked as error:
        raise SalePaused from error
    except RedisError as error:
        _breaker.failed(error)
        raise SalePaused from error


def sign_place(terms: SaleTerms, *, buyer: str, standing: Standing) -> str:
    """Write the token of a place."""
    return signing.dumps([buyer, standing.epoch, standing.mark], salt=_salt("place", terms))


def read_place(terms: SaleTerms, *, buyer: str, token: str) -> tuple[str, str]:
    """Read epoch and place from a token; "" where it is not this buyer's, or old."""
    try:
        owner, epoch, place = signing.loads(token, salt=_salt("place", terms), max_age=PLACE_KEPT_S)
    except signing.BadSignature:
        return "", ""
    return (epoch, place) if owner == buyer else ("", "")


def wait_s(terms: SaleTerms, number: int) -> float:
    """Estimate how long until this number is let in, if units last."""
    return number * 60 / (terms.admitted_per_minute or 1)


def pause_s(terms: SaleTerms, standing: Standing) -> float:
    """Say when to look again: sooner near the front, and not all at once."""
    if standing.state == WAITING:
        pause = min(max(wait_s(terms, standing.number) / 10, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        return pause * random.uniform(0.75, 1.25)
    opens_in_s = 0.0
    if terms.opens_at is not None:
        opens_in_s = max(0.0, (terms.opens_at - timezone.now()).total_seconds())
    spread_s = min(max(3.0, standing.number / FIRST_LOOKS_PER_S), EARLY_PAUSE_S)
    pause = opens_in_s + random.uniform(0, spread_s)
    return min(pause, EARLY_PAUSE_S * random.uniform(0.75, 1.25))


def _asked(
    terms: SaleTerms, buyer: str, token: str, units: int
) -> tuple[list[str], list[str | int]]:
    """The keys and arguments of lua/look.lua."""
    tag = f"queue:{{{terms.product_id}}}"
    keys = [f"{tag}:{name}" for name in ("room", "places", "seen", "away", "left")]
    opens_at_ms = math.ceil(terms.opens_at.timestamp() * 1000) if terms.opens_at else 0
    arguments: list[str | int] = [buyer, _drawn(terms, buyer), uuid.uuid4().hex]
    arguments += read_place(terms, buyer=buyer, token=token)
    arguments += [opens_at_ms, terms.admitted_per_minute or 1, units]
    seconds = (PRESENCE_S, PLACE_KEPT_S, settings.ADMISSION_S, AWAITED_S, KEPT_S)
    arguments += [1000 * duration_s for duration_s in seconds]
    return keys + admissions.keys(terms.product_id), [*arguments, MOST_PLACES]


def _told(answer: Sequence[Any]) -> Standing:
    word, number, epoch, mark = answer
    _breaker.answered()
    if word == b"full":
        raise StockBusy
    state = word.decode()
    if state == ADMITTED:
        number = max(1, number // 1000)
    return Standing(state=state, number=number, epoch=epoch.decode(), mark=mark.decode())


def _drawn(terms: SaleTerms, buyer: str) -> int:
    """
    Draw the place of a buyer who is there before the start.

    The same however often he enters, even after a loss; nobody without the secret key
    knows it, so nobody can enter anew until the draw is good.
    """
    digest = salted_hmac(_salt("draw", terms), buyer, algorithm="sha256").digest()
    return int.from_bytes(digest, "big") >> (8 * len(digest) - DRAW_BITS)


def _salt(purpose: str, terms: SaleTerms) -> str:
    return f"shop.{purpose}.{terms.product_id}.{terms.opens_at}"
