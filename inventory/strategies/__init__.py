"""
The ways of taking a unit, in the order a reader should meet them.

Few buyers at once: `optimistic`. A decision that needs to read the row first:
`pessimistic`. Work beside the database that must not overlap: `redis_lock`. A crowd:
`conditional_update`; the same in one round trip: `stored_procedure`; one transaction
for all who arrive together: `group_commit`. Answer now and commit later:
`redis_counter`. `unguarded` is the lab's control and oversells. docs/strategies.md
says how to choose, with figures, and how to add one.
"""

from django.utils.translation import gettext as _

from inventory.errors import StrategyUnavailable
from inventory.strategies.base import Strategy
from inventory.strategies.conditional_update import ConditionalUpdate
from inventory.strategies.group_commit import GroupCommit
from inventory.strategies.optimistic import Optimistic
from inventory.strategies.pessimistic import Pessimistic
from inventory.strategies.redis_counter import RedisCounter
from inventory.strategies.redis_lock import RedisLock
from inventory.strategies.stored_procedure import StoredProcedure
from inventory.strategies.unguarded import Unguarded

STRATEGIES: dict[str, Strategy] = {
    "optimistic": Optimistic(),
    "pessimistic": Pessimistic(),
    "redis_lock": RedisLock(),
    "conditional_update": ConditionalUpdate(),
    "stored_procedure": StoredProcedure(),
    "group_commit": GroupCommit(),
    "redis_counter": RedisCounter(),
    "unguarded": Unguarded(),
}


def usable(name: str) -> Strategy:
    """
    Look a strategy up by its name.

    Raises StrategyUnavailable when there is none of that name, or it cannot run here.
    """
    strategy = STRATEGIES.get(name)
    if strategy is None:
        raise StrategyUnavailable(strategy=name, reason=_("there is no strategy of that name"))
    reason = strategy.unavailable_reason()
    if reason is not None:
        raise StrategyUnavailable(strategy=name, reason=reason)
    return strategy
