"""The waiting room itself: the draw, the order, who is let in, and what a loss of Redis costs."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import connection
from django.utils import timezone
from django_redis import get_redis_connection
from pytest_django import Settings

from conftest import MakeProduct
from inventory.errors import StockBusy
from inventory.terms import SaleTerms, read_terms
from inventory.tests.servers import OwnRedis
from shop import admissions, redis_scripts, waiting_room
from shop.errors import SalePaused
from shop.waiting_room import ADMITTED, EARLY, WAITING, Standing

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]

A_MINUTE, EACH_S = 6, 10
"""So slow that nobody is let in while a test looks about, unless it lets time pass."""
MANY = 1_000_000


@pytest.fixture
def terms(make_product: MakeProduct) -> SaleTerms:
    """A sale that is on, whose waiting room lets in one buyer every ten seconds."""
    return read_terms(make_product(admitted_per_minute=A_MINUTE).slug)


@pytest.fixture
def before(terms: SaleTerms) -> SaleTerms:
    """The same sale an hour before its start."""
    return replace(terms, opens_at=timezone.now() + timedelta(hours=1))


def look(terms: SaleTerms, buyer: str, *, token: str = "", units: int = MANY) -> Standing:
    return waiting_room.look(terms, buyer=buyer, token=token, units=units)


def token_of(terms: SaleTerms, buyer: str, standing: Standing) -> str:
    return waiting_room.sign_place(terms, buyer=buyer, standing=standing)


def key_of(terms: SaleTerms, name: str) -> str:
    return f"queue:{{{terms.product_id}}}:{name}"


def age(terms: SaleTerms, seconds: float) -> None:
    """Let so much time pass for the room: all that it noted is so much longer ago."""
    redis, ms = get_redis_connection("locks"), round(1000 * seconds)
    for name in ("seen", "left", "live"):
        for member, _ in redis.zscan_iter(key_of(terms, name)):
            redis.zincrby(key_of(terms, name), -ms, member)
    for field in ("counted_at", "resumes_at"):
        if redis.hexists(key_of(terms, "room"), field):
            redis.hincrby(key_of(terms, "room"), field, -ms)


def wipe(terms: SaleTerms) -> None:
    """Lose everything, as a Redis does that starts anew."""
    redis = get_redis_connection("locks")
    for key in redis.scan_iter(f"queue:{{{terms.product_id}}}*"):
        redis.delete(key)


def in_order(terms: SaleTerms) -> list[str]:
    found = get_redis_connection("locks").zrange(key_of(terms, "places"), 0, -1)
    return [buyer.decode() for buyer in found]


def all_wait(terms: SaleTerms, *buyers: str) -> None:
    """Have these buyers wait in this order, and nobody let in for now."""
    look(terms, "first-of-all")
    for buyer in buyers:
        assert look(terms, buyer).state == WAITING


# The draw


def test_places_are_drawn_fairly_whenever_before_the_start_one_came(
    terms: SaleTerms, settings: Settings
) -> None:
    """In 8 sales of 200 each quarter of the arrivals gets its share of the first 50 places."""
    settings.SECRET_KEY = "seed of the draws"
    shares = [0, 0, 0, 0]
    for sale in range(8):
        opens_at = datetime(2100, 1, 1 + sale, tzinfo=UTC)
        drawn = replace(terms, product_id=10**9 + sale, opens_at=opens_at)
        for number in range(200):
            look(drawn, f"guest:{number}")
        for winner in in_order(drawn)[:50]:
            shares[int(winner.removeprefix("guest:")) // 50] += 1

    assert sum(shares) == 400
    assert all(70 <= share <= 130 for share in shares), shares


def test_another_sale_is_another_draw(terms: SaleTerms) -> None:
    orders = []
    for sale in (1, 2):
        drawn = replace(terms, product_id=10**9, opens_at=datetime(2100, 1, sale, tzinfo=UTC))
        for number in range(30):
            look(drawn, f"guest:{number}")
        orders.append(in_order(drawn))
        wipe(drawn)

    assert orders[0] != orders[1]


def test_entering_again_does_not_draw_again(before: SaleTerms) -> None:
    for number in range(20):
        look(before, f"guest:{number}")
    drawn = in_order(before)

    for number in reversed(range(20)):
        look(before, f"guest:{number}")
    assert in_order(before) == drawn

    wipe(before)
    for number in reversed(range(20)):
        look(before, f"guest:{number}")
    assert in_order(before) == drawn, "not even after a loss"


def test_a_visitor_cannot_read_the_draw_from_the_token(before: SaleTerms) -> None:
    """Or he would come as somebody else until it is good."""
    standing = look(before, "guest:1")

    assert (standing.state, standing.mark) == (EARLY, "early")


def test_tells_early_visitors_how_many_they_are(before: SaleTerms) -> None:
    assert [look(before, f"guest:{number}").number for number in range(3)] == [1, 2, 3]


def test_nobody_is_let_in_before_the_start(before: SaleTerms) -> None:
    buyers = [f"guest:{number}" for number in range(5)]
    states = [look(before, buyer).state for buyer in buyers]
    age(before, 60)

    states += [look(before, buyer).state for buyer in buyers]

    assert states == [EARLY] * 10
    assert len(in_order(before)) == 5


def test_whoever_was_there_at_the_start_is_before_all_who_came_later(
    before: SaleTerms, terms: SaleTerms
) -> None:
    for number in range(10):
        look(before, f"early:{number}")

    latecomers = [look(terms, f"late:{number}") for number in range(5)]

    assert [standing.number for standing in latecomers] == [10, 11, 12, 13, 14]
    assert in_order(terms)[-5:] == [f"late:{number}" for number in range(5)]


def test_later_ones_are_first_come_first_served(terms: SaleTerms) -> None:
    arrivals = [f"guest:{number}" for number in range(30)]
    all_wait(terms, *arrivals)

    served = []
    for _ in arrivals:
        age(terms, EACH_S)
        for buyer in arrivals:
            if buyer not in served and look(terms, buyer).state == ADMITTED:
                served.append(buyer)

    assert served == arrivals


def test_comes_last_even_when_the_clock_was_set_back(terms: SaleTerms) -> None:
    all_wait(terms, "guest:1")
    redis, later_us = get_redis_connection("locks"), round((time.time() + 3600) * 1_000_000)
    redis.zadd(key_of(terms, "places"), {"guest:1": later_us})
    redis.hset(key_of(terms, "room"), "last", later_us)

    look(terms, "guest:2")
    look(terms, "guest:3")

    assert in_order(terms) == ["guest:1", "guest:2", "guest:3"]


def test_one_buyer_in_50_threads_has_one_place(terms: SaleTerms) -> None:
    all_wait(terms, "guest:before")
    barrier, standings = threading.Barrier(50), []

    def enter() -> None:
        barrier.wait()
        standings.append(look(terms, "guest:1"))

    threads = [threading.Thread(target=enter) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()

    assert len({standing.mark for standing in standings if standing.state == WAITING}) == 1
    assert in_order(terms).count("guest:1") <= 1
    assert len(standings) == 50


# Who is let in


def test_lets_in_at_the_set_rate(make_product: MakeProduct) -> None:
    terms = read_terms(make_product(admitted_per_minute=60).slug)
    buyers = [f"guest:{number}" for number in range(200)]
    for buyer in buyers:
        look(terms, buyer)
    already = get_redis_connection("locks").zcard(key_of(terms, "live"))

    inside = []
    for _ in range(60):
        age(terms, 1)
        look(terms, buyers[-1])
        inside.append(get_redis_connection("locks").zcard(key_of(terms, "live")) - already)

    assert inside == list(range(1, 61)), "one a second, whoever asks"


def test_a_quiet_minute_saves_up_no_more_than_a_second(make_product: MakeProduct) -> None:
    terms = read_terms(make_product(admitted_per_minute=600).slug)
    buyers = [f"guest:{number}" for number in range(60)]
    states = [look(terms, buyer).state for buyer in buyers]
    age(terms, 60)

    states += [look(terms, buyer).state for buyer in buyers]

    assert 20 <= states.count(ADMITTED) - 10 <= 23, "10 at once, 10 still in, 10 after the minute"


def test_a_slow_rate_waits_for_its_whole_time(make_product: MakeProduct) -> None:
    terms = read_terms(make_product(admitted_per_minute=2).slug)
    all_wait(terms, "guest:1")

    age(terms, 29)
    assert look(terms, "guest:1").state == WAITING
    age(terms, EACH_S)
    assert look(terms, "guest:1").state == ADMITTED


def test_lets_in_no_more_than_there_are_units_left(make_product: MakeProduct) -> None:
    terms = read_terms(make_product(admitted_per_minute=60_000).slug)

    standings = [look(terms, f"guest:{number}", units=3).state for number in range(10)]

    assert standings == [ADMITTED] * 3 + [WAITING] * 7


def test_an_admission_that_expires_frees_its_place(
    make_product: MakeProduct, settings: Settings
) -> None:
    terms = read_terms(make_product(admitted_per_minute=60_000).slug)
    look(terms, "guest:1", units=1)
    assert look(terms, "guest:2", units=1).state == WAITING

    age(terms, settings.ADMISSION_S - 60)
    assert look(terms, "guest:2", units=1).state == WAITING
    age(terms, 60)
    assert look(terms, "guest:2", units=1).state == ADMITTED
    assert look(terms, "guest:1", units=1).state == WAITING, "and comes to the end"


def test_a_unit_sold_is_promised_until_it_is_seen_to_be_sold(make_product: MakeProduct) -> None:
    terms = read_terms(make_product(admitted_per_minute=60_000).slug)
    admission = look(terms, "guest:1", units=1)
    keys, claim = admissions.keys(terms.product_id), ["guest:1", admission.mark, "k"]
    assert redis_scripts.run("claim", keys=keys, arguments=claim)
    redis_scripts.run("close", keys=keys, arguments=[*claim, 1, admissions.PROMISED_FOR_MS])

    assert look(terms, "guest:2", units=1).state == WAITING, "the last count is of before it"
    age(terms, admissions.PROMISED_FOR_MS / 1000)
    assert look(terms, "guest:2", units=1).state == ADMITTED


def test_who_left_is_passed_over_and_has_his_place_when_he_comes_back(terms: SaleTerms) -> None:
    all_wait(terms, "guest:gone", "guest:2", "guest:3", "guest:4")
    age(terms, waiting_room.PRESENCE_S)

    assert [look(terms, f"guest:{number}").state for number in (2, 3, 4)] == [
        ADMITTED,
        WAITING,
        WAITING,
    ]
    assert look(terms, "guest:3").number == 1, "nobody waits for who is gone"
    assert look(terms, "guest:gone").number == 1
    assert look(terms, "guest:3").number == 2


def test_nobody_waits_for_who_is_gone_in_the_middle(terms: SaleTerms) -> None:
    all_wait(terms, "guest:1", "guest:gone", "guest:3")
    age(terms, waiting_room.PRESENCE_S)

    assert look(terms, "guest:1").state == ADMITTED
    assert look(terms, "guest:3").number == 1


def test_nobody_is_let_in_who_is_gone(terms: SaleTerms) -> None:
    """However many left at once, so that not all are swept away yet."""
    all_wait(terms, *[f"guest:{number}" for number in range(300)])
    age(terms, waiting_room.PRESENCE_S)

    assert look(terms, "guest:299").state == ADMITTED


def test_a_place_is_given_up_in_the_end(terms: SaleTerms) -> None:
    all_wait(terms, "guest:1", "guest:2", "guest:3")
    age(terms, waiting_room.PRESENCE_S)
    look(terms, "guest:1")
    away = partial(get_redis_connection("locks").hkeys, key_of(terms, "away"))
    assert away() == [b"guest:2", b"guest:3"]

    age(terms, waiting_room.PLACE_KEPT_S - 1)
    look(terms, "guest:3")
    age(terms, 1)
    look(terms, "guest:4")

    assert away() == []


def test_has_only_so_many_places(terms: SaleTerms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "MOST_PLACES", 3)
    all_wait(terms, "guest:1", "guest:2", "guest:3")

    with pytest.raises(StockBusy):
        look(terms, "guest:4")

    assert look(terms, "guest:2").state == WAITING


def test_nothing_stays_in_redis_for_good(terms: SaleTerms, before: SaleTerms) -> None:
    all_wait(terms, "guest:1", "guest:2")
    age(terms, waiting_room.PRESENCE_S)
    look(terms, "guest:3")
    look(terms, "guest:4")
    redis = get_redis_connection("locks")

    keys = list(redis.scan_iter(f"queue:{{{terms.product_id}}}*"))

    assert len(keys) == 7
    assert all(0 < redis.ttl(key) <= waiting_room.KEPT_S for key in keys)


def test_the_last_admission_used_does_not_stay_in_redis_for_good(terms: SaleTerms) -> None:
    admission = look(terms, "guest:1")
    keys, claim = admissions.keys(terms.product_id), ["guest:1", admission.mark, "k"]
    redis_scripts.run("claim", keys=keys, arguments=claim)

    redis_scripts.run("close", keys=keys, arguments=[*claim, 1, admissions.PROMISED_FOR_MS])

    redis = get_redis_connection("locks")
    for key in redis.scan_iter(f"queue:{{{terms.product_id}}}*"):
        assert 0 < redis.ttl(key) <= waiting_room.KEPT_S, key


# What a loss of Redis costs


def test_after_a_loss_everybody_has_his_place_again(terms: SaleTerms) -> None:
    buyers = [f"guest:{number}" for number in range(10)]
    all_wait(terms, *buyers)
    tokens = {buyer: token_of(terms, buyer, look(terms, buyer)) for buyer in buyers}
    wipe(terms)

    for buyer in reversed(buyers):
        assert look(terms, buyer, token=tokens[buyer]).state == WAITING, "nobody is let in yet"
    newcomer = look(terms, "guest:new")

    assert newcomer.number == 11
    assert in_order(terms) == [*buyers, "guest:new"]
    age(terms, waiting_room.AWAITED_S)
    assert look(terms, "guest:0").state == ADMITTED
    assert look(terms, "guest:1").state == WAITING


def test_after_a_loss_the_draw_stands(terms: SaleTerms) -> None:
    """For those who come back only after the start too."""
    buyers = [f"guest:{number}" for number in range(10)]
    early = Standing(state=EARLY, number=1, epoch="0" * 32, mark="early")
    late = replace(early, state=WAITING, mark=str(2**50))

    look(terms, "guest:late", token=token_of(terms, "guest:late", late))
    for buyer in buyers:
        look(terms, buyer, token=token_of(terms, buyer, early))

    drawn = sorted(buyers, key=lambda buyer: waiting_room._drawn(terms, buyer))
    assert in_order(terms) == [*drawn, "guest:late"]


def test_a_token_is_no_way_back_to_the_front(terms: SaleTerms) -> None:
    """While Redis knows the room, its word counts: a place used up is gone."""
    all_wait(terms, "guest:1", "guest:2", "guest:3")
    token = token_of(terms, "guest:1", look(terms, "guest:1"))
    age(terms, EACH_S)
    assert look(terms, "guest:1", token=token).state == ADMITTED
    redis = get_redis_connection("locks")
    redis.hdel(key_of(terms, "admissions"), "guest:1")
    redis.zrem(key_of(terms, "live"), "guest:1")

    assert look(terms, "guest:1", token=token).number == 3


def test_the_token_of_another_buyer_or_product_or_sale_or_hour_counts_nothing(
    terms: SaleTerms, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Standing(state=WAITING, number=1, epoch="0" * 32, mark="1")
    mine = token_of(terms, "guest:1", lost)
    others: list[tuple[SaleTerms, str, str]] = [
        (terms, "guest:2", mine),
        (replace(terms, product_id=terms.product_id + 1), "guest:1", mine),
        (replace(terms, opens_at=timezone.now()), "guest:1", mine),
        (terms, "guest:1", mine[:-1] + ("A" if mine[-1] != "A" else "B")),
        (terms, "guest:1", ""),
    ]
    assert waiting_room.read_place(terms, buyer="guest:1", token=mine) == ("0" * 32, "1")
    for asked, buyer, token in others:
        assert waiting_room.read_place(asked, buyer=buyer, token=token) == ("", "")

    later = time.time() + waiting_room.PLACE_KEPT_S + 2
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    assert waiting_room.read_place(terms, buyer="guest:1", token=mine) == ("", "")


def test_an_admission_is_lost_with_redis_but_not_the_place(terms: SaleTerms) -> None:
    all_wait(terms, "guest:1", "guest:2")
    tokens = [token_of(terms, f"guest:{n}", look(terms, f"guest:{n}")) for n in (1, 2)]
    age(terms, EACH_S)
    assert look(terms, "guest:1").state == ADMITTED
    wipe(terms)

    look(terms, "guest:2", token=tokens[1])

    assert look(terms, "guest:1", token=tokens[0]).number == 1


def test_says_paused_while_redis_is_down_and_never_lets_all_in(
    make_product: MakeProduct, own_redis: OwnRedis
) -> None:
    terms = read_terms(make_product(admitted_per_minute=60).slug)
    buyers = [f"guest:{number}" for number in range(20)]
    all_wait(terms, *buyers)
    tokens = {buyer: token_of(terms, buyer, look(terms, buyer)) for buyer in buyers}

    own_redis.kill()
    for buyer in buyers:
        with pytest.raises(SalePaused):
            look(terms, buyer, token=tokens[buyer])
    own_redis.start()
    waiting_room._breaker.answered()

    states = [look(terms, buyer, token=tokens[buyer]).state for buyer in buyers]
    assert states == [WAITING] * 20
    assert in_order(terms) == buyers


def test_a_hanging_redis_costs_one_visitor_half_a_second(
    make_product: MakeProduct, own_redis: OwnRedis
) -> None:
    terms = read_terms(make_product(admitted_per_minute=60).slug)
    look(terms, "guest:1")
    own_redis.hang()

    begun = time.monotonic()
    for _ in range(10):
        with pytest.raises(SalePaused):
            look(terms, "guest:1")
    took = time.monotonic() - begun
    own_redis.go_on()

    assert 0.4 < took < 1.4


def test_is_paused_without_redis(terms: SaleTerms, settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"]}

    with pytest.raises(SalePaused):
        look(terms, "guest:1")


# When to look again


def test_looks_sooner_near_the_front_and_never_all_at_once(terms: SaleTerms) -> None:
    def pauses(number: int) -> list[float]:
        standing = Standing(state=WAITING, number=number, epoch="", mark="")
        return [waiting_room.pause_s(terms, standing) for _ in range(50)]

    assert 1.4 < min(pauses(1)) < max(pauses(1)) < 2.6
    assert 11 < min(pauses(10_000)) < max(pauses(10_000)) < 19 < waiting_room.PRESENCE_S
    assert len(set(pauses(1))) > 25


def test_early_visitors_look_within_seconds_of_the_start(terms: SaleTerms) -> None:
    early = Standing(state=EARLY, number=1, epoch="", mark="")
    soon = replace(terms, opens_at=timezone.now() + timedelta(seconds=5))
    later = replace(terms, opens_at=timezone.now() + timedelta(hours=5))

    assert all(4.5 < waiting_room.pause_s(soon, early) < 8.1 for _ in range(50))
    assert all(22 < waiting_room.pause_s(later, early) < 38 for _ in range(50))


def test_a_crowd_does_not_look_all_at_once_at_the_start(terms: SaleTerms) -> None:
    crowd = Standing(state=EARLY, number=6000, epoch="", mark="")
    soon = replace(terms, opens_at=timezone.now() + timedelta(seconds=1))

    pauses = [waiting_room.pause_s(soon, crowd) for _ in range(200)]

    assert min(pauses) < 4 < 16 < max(pauses) < 21.1


def test_the_room_of_a_product_is_in_one_slot(make_product: MakeProduct) -> None:
    product = make_product(admitted_per_minute=60)
    terms = read_terms(product.slug)
    keys, _ = waiting_room._asked(terms, "guest:1", "", 1)

    assert all(f"{{{product.pk}}}" in key for key in keys)
    assert len(keys) == len(set(keys)) == 7
