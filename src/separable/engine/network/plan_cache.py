"""The plans of a network: one for each shape of its inputs, the latest ones kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from ..program.lower import target
from ..program.weights import WeightStore
from .plan import NetworkPlan

__all__ = ["MOST_BYTES", "MOST_PLANS", "PlanCache", "Shapes", "Values"]

Shapes = tuple[tuple[int, ...], ...]  # of the inputs, in order
Values = tuple[tuple[str, str, tuple[int, ...], bytes], ...]  # that a plan is made for: name, dtype, shape

# What is kept at most: the plan used last always is, whatever it takes.
MOST_PLANS: Final = 16
MOST_BYTES: Final = 2**30


class PlanCache:
    """Plans by shapes and deciding values, and the instruction set; the oldest ones go.

    Parameters
    ----------
    make : callable
        Returns the plan of some shapes and values; it is called by one thread at a time.
    store : WeightStore
        Of the weights that all plans share.
    most : int, optional
        Plans that are kept.
    """

    def __init__(
        self, make: Callable[[Shapes, Values], NetworkPlan], store: WeightStore, most: int = MOST_PLANS
    ) -> None:
        self._make, self._store, self._most = make, store, most
        self._plans: OrderedDict[Hashable, NetworkPlan] = OrderedDict()
        self._weights: dict[Hashable, frozenset[tuple[object, ...]]] = {}
        self._lookup, self._making = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        return len(self._plans)

    def get(self, shapes: Shapes, values: Values = ()) -> NetworkPlan:
        """Return the plan of some shapes and values, made now if need be."""
        key = (target(), shapes, values)
        plan = self._find(key)
        if plan is not None:
            return plan
        with self._making:
            plan = self._find(key)  # another thread may have made it meanwhile
            if plan is None:
                self._store.asked()
                plan = self._make(shapes, values)
                self._weights[key] = self._store.asked()
                self._keep(key, plan)
        return plan

    def latest(self) -> NetworkPlan | None:
        """Return the plan that was used last, if there is one."""
        with self._lookup:
            return next(reversed(self._plans.values()), None)

    def _find(self, key: Hashable) -> NetworkPlan | None:
        with self._lookup:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
            return plan

    def _keep(self, key: Hashable, plan: NetworkPlan) -> None:
        with self._lookup:
            self._plans[key] = plan
            total = sum(plan.memory_bytes for plan in self._plans.values())
            gone: set[tuple[object, ...]] = set()
            while len(self._plans) > 1 and (len(self._plans) > self._most or total > MOST_BYTES):
                oldest, evicted = self._plans.popitem(last=False)
                total -= evicted.memory_bytes
                gone |= self._weights.pop(oldest)
        if not self._weights[key].issuperset(gone):
            self._store.keep(frozenset().union(*self._weights.values()))
