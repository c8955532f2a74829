"""Arrays by address: what comes back as npy and as Arrow, parts of it, ETags, and what happens when the model goes."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from nmri3d.api import errors
from nmri3d.api.arrays import Arrays
from nmri3d.api.calls import Calls
from nmri3d.api.encoding import MOST_TABLE_ROWS, arrow_bytes
from nmri3d.api.routes import arrays as routes
from nmri3d.api.selection import SELECTION_PATTERN, indices
from nmri3d.errors import InputError, NotFoundError
from nmri3d.service import Service
from nmri3d.service.events import ModelUnloaded
from tests.service.fakes import FakeLoader

NPY, ARROW = "application/x-npy", "application/vnd.apache.arrow.file"
TOKENS = ("The", " cat", " The")


class FingerprintLoader(FakeLoader):
    """Hands out models that differ in their fingerprint, as real ones do."""

    def __call__(self, name, **options):
        from dataclasses import replace

        backend = super().__call__(name, **options)
        backend.info = replace(backend.info, fingerprint=name.encode().hex())
        return backend


@pytest.fixture
def service():
    service = Service(loader=FingerprintLoader())
    service.load("fake")
    yield service
    assert service.close()


@pytest.fixture
def arrays(service):
    return Arrays(service)


@pytest.fixture
def client(service, arrays):
    app = FastAPI()
    errors.install(app)
    app.include_router(routes.router(SimpleNamespace(service=service, calls=Calls(service), arrays=arrays)))
    return TestClient(app)


class Planted:
    """An array that counts how often it was made."""

    def __init__(self, array):
        self.array, self.made = array, 0

    def __call__(self, progress):
        progress(0.5, "making")
        self.made += 1
        return self.array


@pytest.fixture
def scan(service, arrays):
    """Float32 [token, component] of the fake model's table, offered; with its planted maker and its link."""
    table = service.backend.components
    planted = Planted(np.arange(3 * len(table), dtype=np.float32).reshape(3, -1) - 4)
    link = arrays.link(
        ("scan", "fMRI"),
        planted,
        dims=("token", "component"),
        shape=planted.array.shape,
        dtype=planted.array.dtype,
        labels={"token": TOKENS, "component": table.ids},
        layers=table.layer,
    )
    return planted, link


def offered(arrays, array, dims, **options):
    return arrays.link(repr(dims), lambda _: array, dims=dims, shape=array.shape, dtype=array.dtype, **options)


def npy(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NPY
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def table_of(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ARROW
    return pa.ipc.open_file(answer.content).read_all()


# -- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4), (0, 3)])
def test_npy_is_the_array_itself(client, arrays, dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 3).astype(dtype)
    link = offered(arrays, np.asfortranarray(array).reshape(shape), tuple("abc"[: len(shape)]))
    got = client.get(link.data_url)
    read = npy(got)
    assert (read.dtype, read.shape) == (array.dtype, shape)
    assert np.array_equal(read, array)
    assert (link.shape, link.dtype) == (list(shape), dtype)
    assert got.headers["nmri3d-shape"] == ",".join(map(str, shape))


def test_nothing_is_clamped_or_made_nice(client, arrays):
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40], dtype=np.float32)
    link = offered(arrays, array, ("token",))
    assert npy(client.get(link.data_url)).tobytes() == array.tobytes()
    values = table_of(client.get(link.data_url, params={"format": "arrow"}))["value"]
    assert values.to_numpy().tobytes() == array.tobytes()
    assert values.null_count == 0


def test_a_scan_as_arrow_is_a_row_a_token_and_a_column_a_component(client, scan, service):
    planted, link = scan
    table = table_of(client.get(link.data_url, params={"format": "arrow"}))
    assert table.column_names == ["token", "token_index", *service.backend.components.ids]
    assert table["token"].to_pylist() == list(TOKENS)
    assert table["token_index"].to_pylist() == [0, 1, 2]
    frame = table.to_pandas()
    read = frame.drop(columns=["token", "token_index"]).to_numpy()
    assert read.dtype == np.float32
    assert np.array_equal(read, planted.array)


def test_any_other_array_as_arrow_is_a_row_a_value_with_its_place(client, arrays):
    array = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    link = offered(arrays, array, ("head", "query", "key"), labels={"query": TOKENS, "key": TOKENS})
    frame = table_of(client.get(link.data_url, params={"format": "arrow"})).to_pandas()
    assert list(frame.columns) == ["head", "query", "query_index", "key", "key_index", "value"]
    assert len(frame) == array.size
    for row in frame.itertuples():
        assert row.value == array[row.head, row.query_index, row.key_index]
        assert (row.query, row.key) == (TOKENS[row.query_index], TOKENS[row.key_index])


def test_a_part_as_arrow_counts_in_the_whole_array(client, scan):
    planted, link = scan
    table = table_of(client.get(link.data_url, params={"format": "arrow", "positions": "-1", "layers": "2"}))
    assert table.column_names == ["token", "token_index", "blocks.2.mlp"]
    assert table.to_pylist() == [{"token": " The", "token_index": 2, "blocks.2.mlp": planted.array[2, 3]}]


def test_a_token_that_is_half_a_character_can_be_stored():
    content = arrow_bytes(np.ones(2), ("token",), {"token": ["\ud83d", "🧠"]}, [np.arange(2)])
    assert pa.ipc.open_file(content).read_all()["token"].to_pylist() == ["\ufffd", "🧠"]


def test_a_table_that_would_be_too_long_is_refused():
    array = np.broadcast_to(np.float32(0), (2, MOST_TABLE_ROWS))
    with pytest.raises(InputError, match="format=npy"):
        arrow_bytes(array, ("a", "b"), {}, [np.arange(2), np.arange(MOST_TABLE_ROWS)])


@pytest.mark.parametrize(
    ("accept", "format", "expected"),
    [
        (None, "auto", NPY),
        ("*/*", "auto", NPY),
        (ARROW, "auto", ARROW),
        (f"{NPY}, {ARROW};q=0.5", "auto", NPY),
        (f"{ARROW}, */*", "auto", ARROW),
        (ARROW, "npy", NPY),
        ("text/csv", "arrow", ARROW),
    ],
)
def test_the_format_is_chosen_by_query_or_accept(client, scan, accept, format, expected):
    answer = client.get(scan[1].data_url, params={"format": format}, headers={"accept": accept} if accept else None)
    assert answer.headers["content-type"] == expected
    assert answer.headers["vary"] == "Accept"


# -- parts -----------------------------------------------------------------------------------------------------------


def test_layers_and_positions_take_parts(client, scan, service):
    planted, link = scan
    answer = client.get(link.data_url, params={"layers": "1:3,-1", "positions": "-1,0"})
    layer = service.backend.components.layer
    assert np.array_equal(npy(answer), planted.array[[0, 2]][:, np.isin(layer, [1, 2, 3])])
    assert answer.headers["nmri3d-dims"] == "token,component"
    assert answer.headers["nmri3d-shape"] == "2,3"


def test_a_layer_axis_counts_its_own_rows_and_keys_stay_whole(client, arrays):
    heatmap = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    link = offered(arrays, heatmap, ("site", "layer", "position"))
    part = npy(client.get(link.data_url, params={"layers": "-1", "positions": "1:"}))
    assert np.array_equal(part, heatmap[:, 4:, 1:])
    pattern = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    link = offered(arrays, pattern, ("head", "query", "key"))
    assert np.array_equal(npy(client.get(link.data_url, params={"positions": "2"})), pattern[:, 2:])


number = st.integers(-12, 12)
bound = st.none() | number
items = st.lists(st.tuples(bound, bound) | number, min_size=1, max_size=4)


@given(items, st.integers(0, 10))
def test_a_selection_is_that_of_numpy_or_refused(parts, length):
    """Independent: numpy's own indexing and slicing, where no bound lies outside and every range holds something."""
    text = ",".join(
        str(part) if isinstance(part, int) else ":".join("" if end is None else str(end) for end in part)
        for part in parts
    )
    axis, expected, refused = np.arange(length), set(), False
    for part in parts:
        if isinstance(part, int):
            try:
                expected.add(int(axis[part]))
            except IndexError:
                refused = True
        else:
            taken = axis[slice(*part)]
            refused |= not len(taken) or any(end is not None and not -length <= end <= length for end in part)
            expected |= set(taken.tolist())
    if refused:
        with pytest.raises(InputError, match=r"^layers"):
            indices(text, length, "layers")
    else:
        assert indices(text, length, "layers").tolist() == sorted(expected)


@given(st.text(alphabet="0123456789:,-. x\n٣", max_size=12))
def test_any_text_is_a_selection_or_refused_in_words(text):
    try:
        chosen = indices(text, 7, "positions")
    except InputError as error:
        assert str(error).startswith("positions")
    else:
        assert 0 <= chosen.min() <= chosen.max() < 7


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"layers": "4"}, "there is no 4; there are 0 to 3"),
        ({"positions": "0:4"}, "there is no 4; there are 0 to 2"),
        ({"positions": "2:1"}, "holds nothing"),
        ({"layers": "a"}, "layers: String should match pattern"),
        ({"layers": ""}, "layers"),
        ({"layers": "1," * 600 + "1"}, "at most 1000"),
        ({"format": "pickle"}, "format: Input should be 'auto', 'npy' or 'arrow'"),
    ],
)
def test_what_is_no_part_is_refused_in_words(client, scan, query, words):
    answer = client.get(scan[1].data_url, params=query)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert client.head(scan[1].data_url, params=query).status_code == 422
    assert scan[0].made == 0


def test_parts_of_what_has_no_such_axis_are_refused(client, arrays):
    link = offered(arrays, np.zeros((2, 3)), ("vertex", "xyz"))
    for name in ("layers", "positions"):
        answer = client.get(link.data_url, params={name: "0"})
        assert answer.status_code == 422
        assert "its axes are vertex, xyz" in answer.json()["detail"]


# -- addresses, ETags ------------------------------------------------------------------------------------------------


def test_who_has_it_already_is_told_so_and_nothing_is_made(client, scan):
    planted, link = scan
    first = client.get(link.data_url)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = client.get(link.data_url, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == first.headers["cache-control"] == "private, max-age=86400"
    assert planted.made == 1
    assert client.get(link.data_url, headers={"if-none-match": '"other"'}).status_code == 200


def test_each_part_and_format_has_its_own_tag(client, scan):
    queries = [{}, {"layers": "0"}, {"layers": "1"}, {"positions": "0"}, {"format": "arrow"}]
    tags = [client.get(scan[1].data_url, params=query).headers["etag"] for query in queries]
    assert len(set(tags)) == len(queries)
    assert client.get(scan[1].data_url, headers={"accept": ARROW}).headers["etag"] == tags[-1]


def test_head_tells_what_get_would_without_making_it(client, scan):
    planted, link = scan
    head = client.head(link.data_url, params={"positions": "1"})
    assert (planted.made, head.content) == (0, b"")
    got = client.get(link.data_url, params={"positions": "1"})
    for name in ("etag", "content-type", "cache-control", "vary", "nmri3d-dims", "nmri3d-shape"):
        assert head.headers[name] == got.headers[name]
    assert "content-length" not in head.headers
    assert client.head(link.data_url, headers={"if-none-match": head.headers["etag"]}).status_code == 200
    assert client.head(link.data_url, headers={"if-none-match": "*"}).status_code == 304


def test_equal_questions_are_one_address_and_others_are_not(arrays):
    def link(key):
        return arrays.link(key, lambda _: np.zeros(1), dims=("token",), shape=(1,), dtype="float32").data_url

    keys = ["a", b"a", 1, 1.0, True, None, ("a", "b"), ("ab",), ("a", ("b",)), ("1",), (1,), "\ud800", {"a": 1}, {1}]
    assert len({link(key) for key in keys}) == len(keys)
    assert link({"x": 1, "y": [2, frozenset({3, 4})]}) == link({"y": (2, frozenset({4, 3})), "x": np.int64(1)})
    assert len({link(key) for key in [{1: 2}, {1, 2}, (1, 2), [[1, 2]]]}) == 4
    assert link(np.arange(3)) == link(np.arange(6)[:3]) != link(np.arange(3.0))
    with pytest.raises(TypeError, match="plain values"):
        link(object())


@pytest.mark.parametrize("address", ["0" * 32, "f" * 32])
def test_an_address_that_nobody_knows_is_not_there(client, scan, address):
    answer = client.get(f"/api/tensor/{address}", headers={"if-none-match": "*"})
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:nmri3d:error:NotFoundError"
    assert "Ask for the scan again" in answer.json()["detail"]


@pytest.mark.parametrize("address", ["attn_0_patterns", "%2e%2e%5cetc", "0" * 31, "A" * 32, "٣" * 32])
def test_what_is_no_address_is_refused(client, address):
    assert client.get(f"/api/tensor/{address}").status_code == 422


def test_the_least_recently_used_falls_out(service):
    arrays = Arrays(service, limit=2)
    a, b = (offered(arrays, np.zeros(1), (dim,)).data_url[-32:] for dim in "ab")
    arrays.get(a)
    offered(arrays, np.zeros(1), ("c",))
    assert arrays.get(a).dims == ("a",)
    with pytest.raises(NotFoundError):
        arrays.get(b)


def test_when_the_model_goes_its_arrays_go(client, scan, service, arrays):
    planted, link = scan
    service.load("other")
    assert client.get(link.data_url).status_code == 404
    assert client.get("/api/tensor").json() == {"count": 0, "arrays": []}
    assert len(arrays) == 0, "a recipe of the old model was kept"
    assert planted.made == 0
    other = offered(arrays, planted.array, ("token", "component"))
    service.load("fake")
    again = offered(arrays, planted.array, ("token", "component"))
    assert other.data_url != again.data_url
    service.unload()
    assert client.get(again.data_url).status_code == 404


def test_a_model_that_is_changed_while_the_array_is_made_is_noticed(client, service, arrays):
    def make(progress):
        service.load("other")
        return np.zeros(3)

    link = arrays.link("k", make, dims=("token",), shape=(3,), dtype="float64")
    answer = client.get(link.data_url)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:nmri3d:error:NotFoundError")


def test_a_result_of_the_model_before_is_not_offered_as_one_of_this(client, service, arrays):
    """A scan ended, the model was changed, and only then its links are made."""
    link = arrays.link("k", lambda _: np.zeros(3), dims=("token",), shape=(3,), dtype="float64", model="before")
    assert client.get(link.data_url).status_code == 404


def test_what_is_offered_is_listed_newest_first(client, scan, arrays):
    _, first = scan
    second = offered(arrays, np.zeros((2, 2), np.int64), ("vertex", "xyz"))
    body = client.get("/api/tensor").json()
    assert body == {"count": 2, "arrays": [second.model_dump(), first.model_dump()]}
    assert client.get("/api/tensor", params={"limit": 1}).json()["arrays"] == [second.model_dump()]
    for limit in (0, 4097, 10**400):
        assert client.get("/api/tensor", params={"limit": limit}).status_code == 422


def test_offers_from_many_threads_keep_the_bound(service):
    arrays = Arrays(service, limit=50)

    def offer(name):
        for i in range(200):
            arrays.link((name, i), lambda _: np.zeros(1), dims=("token",), shape=(1,), dtype="float32")
            arrays.links()

    threads = [threading.Thread(target=offer, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    arrays._on_event(ModelUnloaded("fake"))  # the model is still there: nothing goes
    for thread in threads:
        thread.join()
    assert len(arrays) == 50


def test_an_array_may_be_made_as_a_job(client, scan):
    answer = client.get(scan[1].data_url, headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["location"].startswith("/api/jobs/")


def test_openapi_says_what_comes(client):
    paths = client.get("/openapi.json").json()["paths"]
    get = paths["/api/tensor/{address}"]["get"]
    assert set(get["responses"]["200"]["content"]) == {NPY, ARROW}
    assert {"200", "202", "304", "404", "422", "503"} <= set(get["responses"])
    parameters = {one["name"]: one["schema"] for one in get["parameters"]}
    assert parameters["format"]["enum"] == ["auto", "npy", "arrow"]
    for name in ("layers", "positions"):
        assert (parameters[name]["pattern"], parameters[name]["maxLength"]) == (SELECTION_PATTERN, 1000)
    assert set(parameters) == {"address", "format", "layers", "positions", "If-None-Match"}
    assert not any("anyOf" in schema for schema in parameters.values()), "a query cannot be null"
    assert set(paths["/api/tensor/{address}"]) == {"get", "head"}
