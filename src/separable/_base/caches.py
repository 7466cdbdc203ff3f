"""Caches of plans, kernels, terms and packed weights, with one budget of bytes.

Functions decorated by `kept` return cached results for equal arguments. Together they keep at most `LIMIT`
bytes in a process; beyond that, the least recently used entries are evicted.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, Generic, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LIMIT: Final = 64 << 20  # bytes

_STALE: Final = 1000  # maximum outdated notes in the heap of last uses before it is rebuilt

# Estimated bytes of an entry beside its key and value, of an opaque object such as a job, of any other object
# such as a number, and of an attribute or item beside its value.
_ENTRY: Final = 400
_UNKNOWN: Final = 2048
_OBJECT: Final = 64
_ITEM: Final = 16


class Remembered(Protocol[P, T_co]):
    """A function with cached results."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Return the result for these hashable arguments."""

    def cache_clear(self) -> None:
        """Remove the cached results of this function."""


_Entries: TypeAlias = "dict[Hashable, _Entry]"


class _Entry:
    __slots__ = ("size", "used", "value")

    def __init__(self, value: Any, size: int, used: int) -> None:
        self.value, self.size, self.used = value, size, used


class _Note(NamedTuple):
    """A lower bound of an entry's last use."""

    used: int
    serial: int  # unique, so that later fields are never compared
    entries: _Entries
    key: Hashable


class Budget:
    """A budget of bytes that several caches share.

    Parameters
    ----------
    limit : int
        Bytes at most.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.bytes = 0
        self._caches: list[_Entries] = []
        self._shortcuts: list[Callable[[], object]] = []
        self._shortcut_bytes = 0
        self._notes: list[_Note] = []  # a heap with at least one note per entry
        self._lock = threading.Lock()
        self.tick = itertools.count().__next__  # logical clock of uses

    def cache(self) -> Cache[Any]:
        """Return a new cache within this budget."""
        entries: _Entries = {}
        self._caches.append(entries)
        return Cache(self, entries)

    def add_shortcut(self, clear: Callable[[], object]) -> None:
        """Call `clear` whenever entries are removed: shortcuts to them must not outlive them."""
        self._shortcuts.append(clear)

    def count_shortcut(self, size: int) -> None:
        """Count `size` bytes of a shortcut, until all of them are cleared."""
        with self._lock:
            self.bytes += size
            self._shortcut_bytes += size
        if self.bytes > self.limit:  # all shortcuts are cleared, which makes room for many
            self._keep_to(self.limit - self.limit // 16)

    def put(self, entries: _Entries, key: Hashable, value: T, size: int) -> T:
        """Store a value of `size` bytes unless too large; return it, or that stored by another thread."""
        with self._lock:
            stored = entries.get(key)
            if stored is not None:
                return cast("T", stored.value)
            if size > self.limit:
                return value
            entry = entries[key] = _Entry(value, size, self.tick())
            heapq.heappush(self._notes, _Note(entry.used, self.tick(), entries, key))
            self.bytes += size
        self._keep_to(self.limit)
        return value

    def drop(self, entries: _Entries, key: Hashable) -> None:
        """Remove one entry, if present."""
        with self._lock:
            entry = entries.pop(key, None)
            if entry is not None:
                self.bytes -= entry.size
            if len(self._notes) > _STALE + 2 * sum(map(len, self._caches)):
                self._note_again()

    def drop_all(self, entries: _Entries) -> None:
        """Remove the entries of one cache."""
        with self._lock:
            gone = entries.copy()  # freed when the lock is
            entries.clear()
            self.bytes -= sum(entry.size for entry in gone.values())
            self._note_again()
        self._clear_shortcuts()

    def clear(self) -> None:
        """Remove all entries."""
        for entries in self._caches:
            self.drop_all(entries)

    def _keep_to(self, limit: int) -> None:
        """Evict the least recently used entries until at most `limit` bytes are kept."""
        if self.bytes <= limit:
            return
        self._clear_shortcuts()
        gone = []  # freed when the lock is
        with self._lock:
            while self.bytes > limit and self._notes:
                note = heapq.heappop(self._notes)
                entry = note.entries.get(note.key)
                if entry is None:
                    continue
                if entry.used > note.used:
                    heapq.heappush(self._notes, note._replace(used=entry.used))
                    continue
                gone.append(note.entries.pop(note.key))
                self.bytes -= entry.size

    def _note_again(self) -> None:
        self._notes = [
            _Note(e.used, self.tick(), entries, key) for entries in self._caches for key, e in entries.items()
        ]
        heapq.heapify(self._notes)

    def _clear_shortcuts(self) -> None:
        for clear in self._shortcuts:
            clear()
        with self._lock:
            self.bytes -= self._shortcut_bytes
            self._shortcut_bytes = 0

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held at the fork."""
        self._lock = threading.Lock()


class Cache(Generic[T]):
    """A thread-safe cache of values by keys, within a budget."""

    def __init__(self, budget: Budget, entries: _Entries) -> None:
        self._budget, self._entries = budget, entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes of all entries."""
        with self._budget._lock:
            return sum(entry.size for entry in self._entries.values())

    def get(self, key: Hashable) -> T | None:
        """Return the value and mark it as used, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = self._budget.tick()
        return cast("T", entry.value)

    def put(self, key: Hashable, value: T, size: int) -> T:
        """Store a value of `size` bytes with its key; return it, or that stored by another thread."""
        return self._budget.put(self._entries, key, value, size + _ENTRY)

    def drop(self, key: Hashable) -> None:
        """Remove a value, if present."""
        self._budget.drop(self._entries, key)

    def clear(self) -> None:
        """Remove all values."""
        self._budget.drop_all(self._entries)


budget: Final = Budget()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=budget.after_fork)


def clear_caches() -> None:
    """Forget what earlier calls left to be found again: plans, kernels, their terms, packed weights.

    All of that takes at most 64 MiB in a process; what was used longest ago goes first. Nothing depends on
    it but time: what is needed again is made again. Plans that you hold stay as they are, and the rates that
    ``separable calibrate`` keeps in SEPARABLE_CACHE_DIR are something else.

    Examples
    --------
    >>> import separable as sp
    >>> sp.clear_caches()
    """
    budget.clear()


def kept(function: Callable[P, T]) -> Remembered[P, T]:
    """Keep what `function` made of its positional arguments, which hash, within the process's budget.

    What it raises is not kept.
    """
    cache = budget.cache()
    entries, tick = cache._entries, budget.tick

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        entry = entries.get(args)
        if entry is not None:
            entry.used = tick()
            return cast("T", entry.value)
        value = function(*args, **kwargs)
        return cast("T", cache.put(args, value, size_of(args, value)))

    call.cache_clear = cache.clear  # type: ignore[attr-defined]
    return cast("Remembered[P, T]", call)


def size_of(*values: Any) -> int:
    """Return the estimated bytes of values, each object counted once.

    An object may say what it holds beside its attributes, out of Python's sight: by `_hidden_bytes`.
    """
    seen: set[int] = set()
    waiting, total = list(values), 0
    while waiting:
        value = waiting.pop()
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        total += _OBJECT + int(getattr(value, "_hidden_bytes", 0))
        if isinstance(value, np.ndarray):
            total += int(value.nbytes)
        elif isinstance(value, (bytes, str)):
            total += len(value)
        elif isinstance(value, (int, float, complex, np.dtype, type)) or (
            callable(value) and not _is_ours(value)
        ):
            continue
        else:
            inside = list(_inside(value))
            total += _ITEM * len(inside) if inside else _UNKNOWN
            waiting += inside
    return total


def _is_ours(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == __name__.partition(".")[0]


def _inside(value: Any) -> Iterator[Any]:
    """Yield the objects that an object refers to: items or attributes."""
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, (tuple, list, set, frozenset)):
        yield from value
    else:
        yield from getattr(value, "__dict__", {}).values()
        for kind in type(value).__mro__:
            for name in getattr(kind, "__slots__", ()):
                if hasattr(value, name):
                    yield getattr(value, name)
