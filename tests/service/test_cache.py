"""What is kept, what falls out, and which options are equal."""

from __future__ import annotations

import threading

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


def test_a_view_counts_as_the_array_that_it_keeps_alive_and_an_array_once():
    cache = ResultCache()
    whole = np.zeros(1000, dtype=np.uint8)
    cache.put("a", "part", whole[:10][::2])
    assert cache.nbytes == 1000
    cache.put("a", "twice", [array_of(100)] * 2)
    assert cache.nbytes == 1100
    cache.put("a", "part", array_of(7))
    assert cache.nbytes == 107


def counted(cache):
    """Bytes of what is kept, counted anew."""
    return sum(kept.value.nbytes for group in cache._groups.values() for kept in group.values())


@given(
    st.lists(
        st.tuples(st.sampled_from([None, *"abcd"]), st.integers(0, 2), st.integers(0, 120), st.booleans()), max_size=30
    )
)
def test_the_running_sum_of_bytes_is_what_is_kept_and_within_the_bound(steps):
    cache = ResultCache(prompts=3, max_bytes=300)
    for prompt, key, size, reads in steps:
        if reads:
            cache.get(prompt, key)
        else:
            cache.put(prompt, key, array_of(size))
        assert cache.nbytes == counted(cache) <= 300
        assert len(cache.prompts) <= 3


def test_hits_and_misses_are_counted():
    cache = ResultCache()
    assert cache.get("a", "scan") is None
    cache.put("a", "scan", array_of(1))
    cache.get("a", "scan")
    cache.get("a", "scan")
    assert (cache.hits, cache.misses) == (2, 1)


def test_from_many_threads_the_last_prompts_stay_and_the_sum_holds():
    cache = ResultCache(prompts=4, max_bytes=2000)
    wrong = []

    def visit(number):
        random = np.random.default_rng(number)
        for _ in range(400):
            prompt, size = f"prompt {random.integers(8)}", int(random.integers(1, 300))
            cache.put(prompt, int(random.integers(3)), array_of(size))
            found = cache.get(prompt, 0)
            if found is not None and found.dtype != np.uint8:
                wrong.append(found)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.nbytes == counted(cache) <= 2000
    assert len(cache.prompts) <= 4
    for i in range(4):
        cache.put(f"last {i}", 0, array_of(1))
    assert cache.prompts == tuple(f"last {i}" for i in range(4))


def test_a_put_costs_no_more_when_much_is_kept():
    """It does not walk what is there: the same work for the thousandth result as for the first."""
    cache = ResultCache()
    walked = []

    class Counting(dict):
        def items(self):
            walked.append(1)
            return super().items()

        def values(self):
            walked.append(1)
            return super().values()

    for i in range(100):
        cache.put("a", i, Counting(x=array_of(1)))
    assert len(walked) == 100


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
