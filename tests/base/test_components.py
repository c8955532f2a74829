"""Ids, rows and keys of component tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.components import KINDS, ComponentKey, ComponentTable, component_id, parse_component_id
from nmri3d.errors import AlignmentError, InputError

numbers = st.integers(0, 10_000)
keys = st.one_of(
    st.sampled_from([ComponentKey("embed", -1, -1), ComponentKey("unembed", -1, -1)]),
    st.builds(ComponentKey, st.just("head"), numbers, numbers),
    st.builds(ComponentKey, st.just("neuron"), numbers, numbers),
    st.builds(ComponentKey, st.sampled_from(["mlp", "attn_bias"]), numbers, st.just(-1)),
)
other_kinds = st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True).filter(lambda kind: kind not in (*KINDS, "blocks"))
keys |= st.one_of(
    st.builds(ComponentKey, other_kinds, st.just(-1), st.just(-1)),
    st.builds(ComponentKey, other_kinds, st.just(-1), numbers),
    st.builds(ComponentKey, other_kinds, numbers, numbers),
)


def table() -> ComponentTable:
    return ComponentTable(
        kind=np.array(["embed", "head", "head", "mlp", "head", "head", "mlp", "unembed"]),
        layer=np.array([-1, 0, 0, 0, 1, 1, 1, -1]),
        index=np.array([-1, 0, 1, -1, 0, 1, -1, -1]),
        n_params=np.array([9, 4, 4, 7, 4, 4, 7, 2]),
    )


@given(keys)
def test_an_id_reads_back_as_what_it_was_made_from(key):
    assert parse_component_id(component_id(*key)) == key


@given(numbers, numbers)
def test_the_short_form_of_a_head_means_the_same(layer, head):
    assert parse_component_id(f"blocks.{layer}.attn.h{head}") == parse_component_id(f"blocks.{layer}.attn.head_{head}")


@given(st.text())
def test_any_text_is_read_or_refused_in_words(text):
    try:
        key = parse_component_id(text)
    except InputError as error:
        assert "blocks.3.attn.head_7" in str(error)
    else:
        assert parse_component_id(component_id(*key)) == key


@pytest.mark.parametrize(
    "text",
    ["blocks.01.mlp", "blocks.1.mlp ", "blocks.-1.mlp", "blocks.1.attn.head_", "Embed", "", 3, "blocks.3", "mlp"],
)
def test_what_only_looks_like_an_id_is_refused(text):
    with pytest.raises(InputError, match="not a component id"):
        parse_component_id(text)


@pytest.mark.parametrize("text", ["head.3", "unit.", "unit.07", "unit.1.2.3", "unit.-1", "two words"])
def test_what_only_looks_like_a_parts_id_is_refused(text):
    with pytest.raises(InputError, match="not a component id"):
        parse_component_id(text)


def test_rows_are_found_by_id_kind_and_layer():
    t = table()
    assert t.row("blocks.1.attn.head_0") == t.row("blocks.1.attn.h0") == 4
    assert t.rows("head").tolist() == [1, 2, 4, 5]
    assert t.rows("head", layer=1).tolist() == [4, 5]
    assert t.rows(layer=0).tolist() == [1, 2, 3]
    assert [t.ids[row] for row in t.rows("mlp")] == ["blocks.0.mlp", "blocks.1.mlp"]


def test_a_component_that_the_model_lacks_is_refused_with_its_name():
    with pytest.raises(InputError, match=r"no component 'blocks\.2\.mlp'.*0 to 1"):
        table().row("blocks.2.mlp")


def test_the_only_one_of_its_kind_is_called_by_its_kind_whatever_its_layer():
    t = ComponentTable(np.array(["unit", "unit", "decoder"]), [1, 1, 4], [0, 1, -1], [1, 1, 1])
    assert t.ids == ("unit.1.0", "unit.1.1", "decoder")
    assert t.row("decoder") == 2
    assert t.cortical.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"no component 'unit\.7'; it has 3, from unit\.1\.0 to decoder"):
        t.row("unit.7")


def test_an_attention_bias_has_no_place_on_the_cortex():
    t = ComponentTable(np.array(["embed", "head", "attn_bias"]), [-1, 0, 0], [-1, 0, -1], [1, 1, 1])
    assert t.cortical.tolist() == [0, 1]


def test_equal_tables_are_equal_and_hash_alike_and_others_are_not():
    assert table() == table()
    assert hash(table()) == hash(table())
    other = ComponentTable(table().kind, table().layer, table().index, table().n_params + 1)
    assert table() != other


def test_columns_of_unequal_length_and_repeated_ids_are_refused():
    with pytest.raises(AlignmentError, match="differ in length"):
        ComponentTable(np.array(["embed"]), [-1, -1], [-1], [1])
    with pytest.raises(AlignmentError, match="same id twice"):
        ComponentTable(np.array(["mlp", "mlp"]), [0, 0], [-1, -1], [1, 1])


def test_a_table_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        table().n_params[0] = 1
