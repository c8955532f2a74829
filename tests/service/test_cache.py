"""What is kept, what falls out, and which options are equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.errors import InputError
from nmri3d.service.cache import ResultCache, option_key


def array_of(n_bytes):
    return np.zeros(n_bytes, dtype=np.uint8)


def test_the_prompt_used_longest_ago_falls_out():
    cache = ResultCache(prompts=2)
    cache.put("a", "scan", "A")
    cache.put("b", "scan", "B")
    assert cache.get("a", "scan") == "A"  # now b is the older one
    cache.put("c", "scan", "C")
    assert cache.get("b", "scan") is None
    assert cache.prompts == ("a", "c")


def test_several_results_of_a_prompt_count_once():
    cache = ResultCache(prompts=1)
    for key in range(5):
        cache.put("a", key, key + 1)
    assert [cache.get("a", key) for key in range(5)] == [1, 2, 3, 4, 5]


def test_results_without_a_prompt_do_not_count_and_do_not_fall_out():
    cache = ResultCache(prompts=2)
    cache.put(None, "T1", "structure")
    for prompt in "abcdef":
        cache.put(prompt, "scan", prompt)
    assert cache.get(None, "T1") == "structure"
    assert cache.prompts == ("e", "f")


def test_bytes_are_bounded_and_the_oldest_goes_first():
    cache = ResultCache(prompts=9, max_bytes=250)
    for prompt in "abc":
        cache.put(prompt, "scan", array_of(100))
    assert cache.prompts == ("b", "c")
    assert cache.nbytes == 200
    cache.put("d", "scan", {"nested": [array_of(1000)]})  # alone too large: kept, all else dropped
    assert cache.prompts == ("d",)


def test_arrays_that_are_shared_cannot_be_written():
    cache = ResultCache()
    values = np.zeros(3)
    cache.put("a", "scan", (values, {"details": np.zeros(2)}))
    shared = cache.get("a", "scan")
    with pytest.raises(ValueError, match="read-only"):
        shared[0][0] = 1
    with pytest.raises(ValueError, match="read-only"):
        shared[1]["details"][0] = 1


options = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def same(a, b):
    """Equal in value and in type, all the way down, where a list may be a tuple."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


@given(options, options)
def test_keys_are_equal_exactly_where_options_are(a, b):
    assert (option_key(a) == option_key(b)) == same(a, b)
    assert hash(option_key(a)) == hash(option_key(a))


def test_numpy_options_are_told_apart():
    assert option_key(np.int64(3)) == option_key(3)
    assert option_key(np.zeros(2)) == option_key(np.zeros(2))
    assert option_key(np.zeros(2)) != option_key(np.zeros((2, 1)))
    assert option_key(np.zeros(2)) != option_key(np.zeros(2, np.float32))
    assert option_key([0, 1]) == option_key(range(2))


def test_what_cannot_be_an_option_is_refused():
    with pytest.raises(InputError, match="cannot be a function"):
        option_key({"aggregation": lambda: 0})
