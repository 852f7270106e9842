"""Formulas dealt out by their hash come back share by share, and what is damaged is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps._frame.stored import Stored, sha256
from apps.metabolomics.shards import pack_shards, read_shards, shard_of
from core import InputError
from core.storage import process_storage

ADDRESS = "memory://shards"
FORMULAS = [f"C{carbon}H{2 * carbon + 2}O{oxygen}" for carbon in range(2, 30) for oxygen in range(2, 9)]


def array(formulas: list[str]) -> Any:
    return pa.array(formulas, pa.large_string())


def written(data: bytes) -> Stored:
    process_storage(ADDRESS).put("formulas", data)
    return Stored(ADDRESS, "formulas", len(data), sha256(data))


@settings(deadline=None)
@given(st.lists(st.sampled_from(FORMULAS), min_size=1, unique=True), st.integers(1, 40), st.data())
def test_ranges_of_shards_give_each_formula_once_in_the_order_of_its_shard(
    formulas: list[str], shards: int, data: st.DataObject
) -> None:
    content, sizes = pack_shards(array(formulas), shards)
    edges = sorted({0, shards, *data.draw(st.lists(st.integers(0, shards)))})
    found, places = written(content), [0, *sizes.cumsum().tolist()]

    shares = [
        read_shards(found, places[low], places[high]).to_pylist() if places[low] < places[high] else []
        for low, high in pairwise(edges)
    ]

    own = dict(zip(formulas, shard_of(array(formulas), shards).tolist(), strict=True))
    expected = [
        sorted((each for each in formulas if low <= own[each] < high), key=own.__getitem__)
        for low, high in pairwise(edges)
    ]
    assert shares == expected
    assert len(content) == places[-1]


def test_part_of_an_array_is_dealt_out_as_an_array_of_its_own() -> None:
    data, sizes = pack_shards(array(FORMULAS).slice(5, 20), 8)

    expected, own_sizes = pack_shards(array(FORMULAS[5:25]), 8)
    assert data == expected
    assert sizes.tolist() == own_sizes.tolist()


def test_formulas_are_dealt_out_evenly() -> None:
    counts = [shard_of(array(FORMULAS), 8).tolist().count(shard) for shard in range(8)]

    assert min(counts) > len(FORMULAS) / 8 / 2
    assert max(counts) < len(FORMULAS) / 8 * 2


@pytest.mark.parametrize("byte", [0, 4, 8, 20, -1])
def test_a_changed_byte_is_told(byte: int) -> None:
    data, _ = pack_shards(array(FORMULAS[:9]), 2)
    damaged = bytearray(data)
    damaged[byte] ^= 1

    with pytest.raises(InputError, match="formulas is damaged"):
        read_shards(written(bytes(damaged)), 0, len(damaged))


@pytest.mark.parametrize("missing", [1, 5, 12])
def test_an_object_that_ends_too_soon_is_told(missing: int) -> None:
    data, _ = pack_shards(array(FORMULAS[:9]), 1)

    with pytest.raises(InputError, match="formulas is damaged"):
        read_shards(written(data[:-missing]), 0, len(data))
