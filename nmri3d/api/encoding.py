"""An array as bytes: npy, or Arrow as a table that pandas and polars read.

Convention. npy holds the array as it is, in C order, without its labels. Arrow (the file format, "Feather version 2") holds a
table with labels, in one of two layouts:

wide  an array of two axes whose last is `component`: a row an entry of the first axis, a column a component id
long  every other array: a row a value, the last axis running fastest, and the column `value` at the end

In both the other columns say where a row stands: an axis with labels gives two columns, its name (the label, dictionary-
encoded) and `<name>_index` (int32, counted in the whole array); an axis without labels gives its name alone (int32). The
schema's metadata has `nmri3d` with dims and shape as JSON.

Left out: compression, which readers of npy do not know and a proxy can add.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nmri3d.errors import InputError

NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.file"

MOST_TABLE_ROWS = 2**25
"""A long table is several times its array: larger ones are to be had as npy, or in parts."""


def npy_bytes(array: np.ndarray) -> bytes:
    """The file that `numpy.save` writes; `numpy.load(..., allow_pickle=False)` reads it."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    return file.getvalue()


def arrow_bytes(
    array: np.ndarray,
    dims: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    entries: Sequence[np.ndarray],
) -> bytes:
    """The array as an Arrow file.

    labels   names along an axis, of the whole array, by dim
    entries  by axis: which entries of the whole array these are, int64

    Raises InputError for an array that would be too long a table.
    """
    import pyarrow as pa

    wide = array.ndim == 2 and dims[1] == "component" and "component" in labels
    if not wide and array.size > MOST_TABLE_ROWS:
        raise InputError(
            f"A table of {array.size:,} rows is too large (at most {MOST_TABLE_ROWS:,}); take format=npy, or a part by "
            "layers and positions."
        )
    columns: dict[str, Any] = {}
    axes = range(1) if wide else range(array.ndim)
    for axis in axes:
        shape = array.shape[axis + 1 :] if not wide else ()
        repeats, tiles = int(np.prod(shape)), int(np.prod(array.shape[:axis]))
        index = np.tile(np.repeat(entries[axis].astype(np.int32), repeats), tiles)
        if (names := labels.get(dims[axis])) is None:
            columns[dims[axis]] = pa.array(index)
            continue
        codes = np.tile(np.repeat(np.arange(array.shape[axis], dtype=np.int32), repeats), tiles)
        chosen = pa.array([_storable(names[i]) for i in entries[axis].tolist()], pa.string())
        columns[dims[axis]] = pa.DictionaryArray.from_arrays(pa.array(codes), chosen)
        columns[f"{dims[axis]}_index"] = pa.array(index)
    if wide:
        ids = [labels["component"][i] for i in entries[1].tolist()]
        columns |= {name: pa.array(np.ascontiguousarray(array[:, i])) for i, name in enumerate(ids)}
    else:
        columns["value"] = pa.array(np.ascontiguousarray(array).ravel())
    metadata = {"nmri3d": json.dumps({"dims": list(dims), "shape": list(array.shape)})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _storable(text: str) -> str:
    """A label as UTF-8 can hold it: half a surrogate pair becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
