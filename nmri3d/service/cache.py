"""Results of one loaded model: those that need no prompt, and those of the last few prompts.

Convention. A cache lives and dies with the loaded weights and their tokenizer, so within it the prompt's text stands
for fingerprint and token ids, and the rest of a key is what was asked with *all* its options. Arrays are made read-only
before they are kept, since all visitors share them. Two bounds: number of prompts, and bytes.

Left out: the disk.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nmri3d.errors import InputError


class _Kept(NamedTuple):
    value: Any
    nbytes: int


class ResultCache:
    """Least recently used prompts fall out first. Thread-safe.

    prompts    how many prompts are kept; results without a prompt do not count
    max_bytes  bound on the arrays of all results together; the newest result is kept even if it is larger
    """

    def __init__(self, *, prompts: int = 5, max_bytes: int = 256 * 2**20) -> None:
        self._prompts = prompts
        self._max_bytes = max_bytes
        self._groups: OrderedDict[str | None, OrderedDict[Hashable, _Kept]] = OrderedDict()
        self._nbytes = self._hits = self._stored = 0
        self._lock = threading.Lock()

    def get(self, prompt: str | None, key: Hashable) -> Any:
        """The kept result, or None; the prompt becomes the most recent one."""
        with self._lock:
            group = self._groups.get(prompt)
            if group is None or key not in group:
                return None
            self._groups.move_to_end(prompt)
            group.move_to_end(key)
            self._hits += 1
            return group[key].value

    def put(self, prompt: str | None, key: Hashable, value: Any) -> None:
        """Keep a result and make its arrays read-only."""
        arrays = _arrays(value)
        for array in arrays:
            array.setflags(write=False)
        kept = _Kept(value, _nbytes(arrays))
        with self._lock:
            group = self._groups.setdefault(prompt, OrderedDict())
            if key in group:
                self._nbytes -= group[key].nbytes
            group[key] = kept
            self._nbytes += kept.nbytes
            self._stored += 1
            group.move_to_end(key)
            self._groups.move_to_end(prompt)
            while len(self._groups) - (None in self._groups) > self._prompts:
                oldest = self._groups.pop(next(text for text in self._groups if text is not None))
                self._nbytes -= sum(one.nbytes for one in oldest.values())
            self._shrink()

    def _shrink(self) -> None:
        """Drop the oldest results until the bytes fit or one result is left."""
        while self._nbytes > self._max_bytes and sum(map(len, self._groups.values())) > 1:
            oldest = next(iter(self._groups))
            _, dropped = self._groups[oldest].popitem(last=False)
            if not self._groups[oldest]:
                del self._groups[oldest]
            self._nbytes -= dropped.nbytes

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompts of which something is kept, least recently used first."""
        with self._lock:
            return tuple(text for text in self._groups if text is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept."""
        return self._nbytes

    @property
    def hits(self) -> int:
        """How many requests were answered by what was kept."""
        return self._hits

    @property
    def misses(self) -> int:
        """How many results had to be measured."""
        return self._stored


def option_key(value: Any) -> Hashable:
    """A hashable key of an option's value: equal for equal options, and 1, 1.0 and True differ.

    Raises InputError for a value that cannot be an option (a function, an open file, …).
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return (type(value).__name__, value)
    if isinstance(value, np.generic):
        return option_key(value.item())
    if isinstance(value, np.ndarray):
        return ("array", value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, list | tuple | range):
        return ("sequence", *map(option_key, value))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(map(option_key, value)))
    if isinstance(value, Mapping):
        return ("mapping", frozenset((option_key(name), option_key(item)) for name, item in value.items()))
    raise InputError(f"an option of a scan cannot be a {type(value).__name__}; give numbers, texts, or lists of them")


def _arrays(value: Any) -> list[np.ndarray]:
    """The arrays that a result holds: itself, its fields, its lists and its mappings."""
    if isinstance(value, np.ndarray):
        return [value]
    if dataclasses.is_dataclass(value):
        return [array for field in dataclasses.fields(value) for array in _arrays(getattr(value, field.name))]
    if isinstance(value, Mapping):
        return [array for item in value.values() for array in _arrays(item)]
    if isinstance(value, list | tuple):
        return [array for item in value for array in _arrays(item)]
    return []


def _nbytes(arrays: list[np.ndarray]) -> int:
    """Bytes that stay alive with these arrays: of a view, those of the whole array under it; each counted once."""
    owners = {}
    for array in arrays:
        while isinstance(array.base, np.ndarray):
            array = array.base
        owners[id(array)] = array.nbytes
    return sum(owners.values())
