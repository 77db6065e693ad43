"""
The counter in Redis that stands before a product's stock row.

It accepts purchases, one script each, and queues them in a stream; consumers
commit them (inventory/consumer.py). The database stays the judge: a wrong
counter costs an accepted buyer a refusal, it never sells a unit twice. While
nothing is on its way, `left` here is `available` there; `heal` makes it so,
under a new epoch. All keys of a product carry one hash tag.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import RedisError, ResponseError

from inventory import locks

logger = logging.getLogger(__name__)

TICKET_TTL_S = 24 * 3600
CONSUMERS = "consumers"
ANY_BYTES = "surrogateescape"
"""What reads any bytes as text, and writes them back as they were."""
NAMESPACE = uuid.UUID("6b1f6f0e-6d0c-5f4e-9d0a-6a6c0e0f6d11")
TICKET = re.compile(r"(\d+) (pending|sold_out|limit_reached|key_reused|order:[\w-]{36}) (.+)")
SCRIPTS = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted purchase on its way to the database."""

    id: str
    epoch: str
    reference: uuid.UUID
    buyer: str
    key: uuid.UUID
    quantity: int
    unit_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of an entry: what its ticket says (nothing when sold), do its units return."""

    entry: Entry
    state: str = ""
    units_return: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A place in the queue: `pending`, a refusal's code, or `order:<reference>` of another."""

    quantity: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What the counter's fields say, as text; empty where there is nothing."""

    left: str = ""
    pending: str = ""
    epoch: str = ""

    def agrees_with(self, available: int) -> bool:
        """Whether it needs no healing, given that no purchase is on its way."""
        return (self.left, self.pending) == (str(available), "0") and self.epoch != ""


def reference_for(*, product_id: int, buyer: str, key: uuid.UUID) -> uuid.UUID:
    """Name the order that a purchase will become, the same each time it is asked for."""
    return uuid.uuid5(NAMESPACE, f"{product_id} {buyer} {key}")


def accept(
    *,
    product_id: int,
    quantity: int,
    buyer: str,
    key: uuid.UUID,
    unit_price: Decimal,
    limit: int | None,
) -> tuple[str, int]:
    """
    Take units from the counter and queue the purchase; lua/accept.lua says what it answers.

    Raises RedisError; whether the purchase was queued is unknown then.
    """
    keys, arguments = _asked(product_id, quantity, buyer, key, unit_price, limit)
    try:
        word, number = _run("accept", keys=keys, arguments=arguments)
    except ResponseError:
        logger.exception("The counter of product %s cannot be read", product_id)
        return "missing", 0
    return word.decode(), number


async def aaccept(
    *,
    product_id: int,
    quantity: int,
    buyer: str,
    key: uuid.UUID,
    unit_price: Decimal,
    limit: int | None,
) -> tuple[str, int]:
    """See accept()."""
    keys, arguments = _asked(product_id, quantity, buyer, key, unit_price, limit)
    try:
        script = locks.aredis().register_script(_source("accept"))
        word, number = await script(keys=keys, args=arguments)
    except ResponseError:
        logger.exception("The counter of product %s cannot be read", product_id)
        return "missing", 0
    return word.decode(), number


def find_ticket(*, product_id: int, reference: uuid.UUID, buyer: str) -> Ticket | None:
    """
    Find the buyer's ticket; None when there is none, or it is another's.

    Raises RedisError, also for what cannot be read: its purchase may be on its way.
    """
    if "locks" not in settings.CACHES:
        return None
    found = _redis().get(_ticket(product_id, reference))
    if found is None:
        return None
    text = TICKET.fullmatch(found.decode(errors="replace"))
    if text is None:
        raise RedisError(f"The ticket {reference} cannot be read")
    quantity, state, owner = text.groups()
    return Ticket(quantity=int(quantity), state=state) if owner == buyer else None


def settle(product_id: int, settlements: Sequence[Settlement]) -> None:
    """Take entries off the queue, once each however often it is asked for."""
    if not settlements:
        return
    arguments: list[str | int] = [CONSUMERS, TICKET_TTL_S]
    tickets = []
    for settlement in settlements:
        entry = settlement.entry
        tickets.append(_ticket(product_id, entry.reference))
        arguments += [entry.id, entry.epoch, entry.quantity, entry.buyer]
        arguments += [settlement.state, int(settlement.units_return)]
    _run("settle", keys=[*keys_of(product_id), *tickets], arguments=arguments)


def count(product_id: int) -> Count:
    """Read the counter as it is; what is no counter reads as nothing."""
    try:
        fields = _redis().hmget(keys_of(product_id)[0], "left", "pending", "epoch")
    except ResponseError:
        return Count()
    left, pending, epoch = (field.decode(errors=ANY_BYTES) if field else "" for field in fields)
    return Count(left=left, pending=pending, epoch=epoch)


def heal(product_id: int, *, seen: Count, available: int, version: int) -> bool:
    """
    Set the counter to what the database has available, under a new epoch.

    `version` is that stock row's; `seen` was read before it was. False, and nothing
    changes, when the counter has moved since or purchases are on their way.
    """
    as_seen = [text.encode(errors=ANY_BYTES) for text in (seen.left, seen.pending, seen.epoch)]
    arguments = [*as_seen, available, version, uuid.uuid4().hex]
    return bool(_run("heal", keys=keys_of(product_id), arguments=arguments))


def shift(product_id: int, units: int, *, version: int, bought_by: str = "") -> None:
    """
    Let the counter follow what wrote that version of the stock row; a miss is healed later.

    `bought_by` is the buyer who gives units back that were bought through the counter.
    """
    if "locks" not in settings.CACHES:
        return
    try:
        _run("shift", keys=keys_of(product_id)[:2], arguments=[units, version, bought_by])
    except RedisError as error:
        logger.warning("The counter of product %s missed %+d units: %s", product_id, units, error)


def on_their_way(product_id: int) -> int:
    """How many accepted purchases of a product no consumer has settled yet."""
    try:
        length: int = _redis().xlen(keys_of(product_id)[2])
    except ResponseError:
        return 0
    return length


def units_pending(product_id: int) -> int:
    """How many accepted units are not settled yet; 0 where the counter cannot tell."""
    if "locks" not in settings.CACHES:
        return 0
    try:
        pending = count(product_id).pending
    except RedisError:
        return 0
    return int(pending) if pending.isdecimal() else 0


def take_entries(product_id: int, *, consumer: str, most: int) -> list[Entry]:
    """Take new entries off the stream for this consumer, the oldest first."""
    stream = keys_of(product_id)[2]
    found = _redis().xreadgroup(CONSUMERS, consumer, {stream: ">"}, count=most)
    lines = [line for stream_lines in _values(found) for line in stream_lines]
    return _entries(product_id, lines)


def take_over(product_id: int, *, consumer: str, idle_ms: int, most: int) -> list[Entry]:
    """Take entries that another consumer took `idle_ms` ago and never settled."""
    stream = keys_of(product_id)[2]
    answer = _redis().xautoclaim(stream, CONSUMERS, consumer, idle_ms, count=most)
    return _entries(product_id, answer[1])


def open_queue(product_id: int) -> None:
    """Make the stream and its consumer group where they are missing."""
    _run("open", keys=keys_of(product_id)[2:], arguments=[CONSUMERS])


def _values(found: Any) -> Iterable[Any]:
    """The lines of each stream read: a mapping in RESP3, pairs in RESP2."""
    if isinstance(found, dict):
        return [lines[0] if lines else [] for lines in found.values()]
    return [lines for _, lines in found or []]


def _entries(product_id: int, lines: Iterable[Any]) -> list[Entry]:
    """Read entries; one that cannot be read is taken off the stream, with an alarm."""
    entries = []
    for line_id, fields in lines:
        try:
            text = {name.decode(): value.decode() for name, value in (fields or {}).items()}
            entries.append(_entry(line_id.decode(), text))
        except (KeyError, ValueError, InvalidOperation):
            logger.exception(
                "Entry %s of product %s is no purchase: %s", line_id, product_id, fields
            )
            stream = keys_of(product_id)[2]
            _redis().pipeline().xack(stream, CONSUMERS, line_id).xdel(stream, line_id).execute()
    return entries


def _entry(line_id: str, text: dict[str, str]) -> Entry:
    if int(text["quantity"]) < 1:
        raise ValueError("a purchase is of one unit at least")
    return Entry(
        id=line_id,
        epoch=text["epoch"],
        reference=uuid.UUID(text["reference"]),
        buyer=text["buyer"],
        key=uuid.UUID(text["key"]),
        quantity=int(text["quantity"]),
        unit_price=Decimal(text["unit_price"]),
    )


def _asked(
    product_id: int,
    quantity: int,
    buyer: str,
    key: uuid.UUID,
    unit_price: Decimal,
    limit: int | None,
) -> tuple[list[str], list[str]]:
    """The keys and arguments of lua/accept.lua."""
    reference = reference_for(product_id=product_id, buyer=buyer, key=key)
    arguments = [quantity, buyer, key.hex, reference.hex, unit_price, limit or "", TICKET_TTL_S]
    keys = [*keys_of(product_id), _ticket(product_id, reference)]
    return keys, [str(argument) for argument in arguments]


def keys_of(product_id: int) -> list[str]:
    """Name a product's counter, its units by buyer, and its stream."""
    tag = f"counter:{{{product_id}}}"
    return [tag, f"{tag}:bought", f"{tag}:stream"]


def _ticket(product_id: int, reference: uuid.UUID) -> str:
    return f"counter:{{{product_id}}}:ticket:{reference.hex}"


def _run(script: str, *, keys: list[str], arguments: Sequence[object]) -> Any:
    return _script(script)(keys=keys, args=arguments, client=_redis())


def _redis() -> Any:
    return get_redis_connection("locks")


@cache
def _script(name: str) -> Any:
    return _redis().register_script(_source(name))


@cache
def _source(name: str) -> str:
    return (SCRIPTS / f"{name}.lua").read_text()
