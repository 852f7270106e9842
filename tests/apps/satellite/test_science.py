"""Reflectance, masks, composites, grids, shapes and sums, against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.satellite.science.composite import composite, network, selection
from apps.satellite.science.geodesy import areas, hilbert_order, to_degrees
from apps.satellite.science.grid import Raster, anchored, cell_memory, fitting_cell, is_aligned
from apps.satellite.science.overviews import overviews
from apps.satellite.science.reflectance import (
    NODATA,
    difference,
    fill_reflectance,
    normalized_difference,
    qa_valid,
    scl_valid,
    to_reflectance,
)
from apps.satellite.science.resampling import bilinear, nearest, taken
from apps.satellite.science.shapes import (
    TooSpeckled,
    at_border,
    extent,
    joined,
    lattice,
    outlines,
    outlines_in_parts,
)
from apps.satellite.science.zonal import added, zonal_sums

RASTER = Raster(500_000, 5_000_000, 10, 10, 64, 64)


def test_an_offset_is_applied_after_no_data_and_a_dark_pixel_stays_valid() -> None:
    numbers = np.array([[0, 1000, 900, 1001]], np.uint16)

    values, valid = to_reflectance(numbers, 1e-4, -0.1, 0)

    assert values[valid].tolist() == [0, -100, 1]
    assert valid.tolist() == [[False, True, True, True]]


def test_a_saturated_number_is_not_valid() -> None:
    values, valid = to_reflectance(np.array([[65534, 65535]], np.uint16), 1e-4, 0.0, 0)

    assert valid.tolist() == [[True, False]]
    assert values[valid].tolist() == [32767]


def test_the_brightest_and_darkest_values_are_clipped_and_never_become_no_data() -> None:
    values, valid = to_reflectance(np.array([[-32768, 32767]], np.int16), 1e-4, -0.1, None)

    assert values.tolist() == [[-32767, 31767]]
    assert valid.all()


def reflectance_of(number: int, added: int, nodata: float | None, dtype: str) -> int | None:
    """Return what one digital number is by the definition, a pixel at a time."""
    if number == nodata or (dtype == "uint16" and number == 65535):
        return None
    return max(-32767, min(32767, number + added))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("added", [0, -1000, 1000, -32767, 32767, -40_000, 40_000, -99_000])
@pytest.mark.parametrize("nodata", [None, 0.0, 7.0, -1.0, 0.5, float("nan"), 1e9])
def test_reflectance_by_adding_is_what_its_definition_gives(dtype: str, added: int, nodata: float | None) -> None:
    info = np.iinfo(dtype)
    ends = [info.min, info.min + 1, -1, 0, 1, 7, 1000, 31767, 32766, 32767, 32768, info.max - 1, info.max]
    numbers = np.array([[each for each in ends if info.min <= each <= info.max]] * 3, dtype)

    values, valid = to_reflectance(numbers, 1e-4, added * 1e-4, nodata)

    found = [int(value) if good else None for value, good in zip(values[2], valid[2], strict=True)]
    assert found == [reflectance_of(int(number), added, nodata, dtype) for number in numbers[2]]


def test_reflectance_that_is_filled_in_leaves_what_was_not_valid_so() -> None:
    values, valid = np.zeros((2, 2), np.int16), np.array([[True, False], [True, True]])

    fill_reflectance(np.array([[5, 6], [0, 8]], np.uint16), 1e-4, 0.0, 0, values, valid)

    assert valid.tolist() == [[True, False], [False, True]]
    assert values[valid].tolist() == [5, 8]


def test_landsat_is_scaled_before_an_index_and_reflectance_above_one_is_kept() -> None:
    numbers = np.array([[8000, 17000, 50000, 0]], np.uint16)

    values, valid = to_reflectance(numbers, 2.75e-5, -0.2, 0)

    assert values[valid].tolist() == [200, 2675, 11750]
    assert valid.tolist() == [[True, True, True, False]]


def test_floats_that_are_no_numbers_are_not_valid() -> None:
    values, valid = to_reflectance(np.array([[np.nan, np.inf, 0.25]], np.float32), 1.0, 0.0, None)

    assert values[valid].tolist() == [2500]
    assert valid.tolist() == [[False, False, True]]


def test_ignoring_the_offset_would_give_another_index() -> None:
    red, nir = np.array([[1400]], np.uint16), np.array([[3400]], np.uint16)

    with_offset = [to_reflectance(each, 1e-4, -0.1, 0)[0] for each in (nir, red)]
    without = [to_reflectance(each, 1e-4, 0.0, 0)[0] for each in (nir, red)]

    some = np.ones((1, 1), bool)
    assert normalized_difference(*with_offset, some)[0, 0] == 7143
    assert normalized_difference(*without, some)[0, 0] == 4167


def test_classes_of_clouds_and_those_that_are_not_known_are_left_out() -> None:
    classes = np.arange(14, dtype=np.uint8)[None]

    assert np.flatnonzero(scl_valid(classes)[0]).tolist() == [2, 4, 5, 6, 7, 11]
    assert np.flatnonzero(scl_valid(classes, (0, 2, 11))[0]).tolist() == [1, 3, 4, 5, 6, 7, 8, 9, 10]


def test_any_of_the_five_lowest_bits_leaves_a_pixel_of_landsat_out() -> None:
    flags = np.array([[21824, 1, 2, 4, 8, 16, 32, 64]], np.uint16)  # 21824: clear, low confidences

    assert qa_valid(flags).tolist() == [[True, False, False, False, False, False, True, True]]


@pytest.mark.parametrize("stat", ["median", "mean"])
@pytest.mark.parametrize("dates", [1, 2, 3, 6, 7, 16, 17, 40])
def test_a_composite_is_what_numpy_says(stat: str, dates: int) -> None:
    random = np.random.default_rng(dates)
    stack = random.integers(-32767, 32768, (dates, 2, 40, 30)).astype(np.int16)
    valid = random.random((dates, 40, 30)) < 0.5

    made, count = composite(stack, valid, stat)

    some = valid.any(0)
    masked = np.where(valid[:, None], stack.astype(np.float64), np.nan)[:, :, some]
    oracle = np.nanmedian(masked, 0) if stat == "median" else np.nanmean(masked, 0)
    assert (made[:, some] == np.rint(oracle)).all()
    assert (made[:, ~some] == NODATA).all()
    assert (count == valid.sum(0)).all()


@pytest.mark.parametrize("length", range(1, 17))
def test_a_network_sorts_whatever_it_is_given(length: int) -> None:
    values = np.random.default_rng(length).integers(0, 5, (length, 300))
    ordered = values.copy()

    for low, high in network(length):
        ordered[[low, high]] = np.minimum(ordered[low], ordered[high]), np.maximum(ordered[low], ordered[high])

    assert (ordered == np.sort(values, axis=0)).all()


@pytest.mark.parametrize("length", range(1, 17))
def test_the_comparisons_of_a_selection_put_the_wanted_places_right(length: int) -> None:
    values = np.random.default_rng(length).integers(0, 50, (length, 300))
    wanted = ((length - 1) // 2, length // 2)
    ordered = values.copy()

    for low, high, is_low, is_high in selection(length, wanted):
        least, most = np.minimum(ordered[low], ordered[high]), np.maximum(ordered[low], ordered[high])
        ordered[low], ordered[high] = least if is_low else -1, most if is_high else -1

    assert (ordered[list(wanted)] == np.sort(values, axis=0)[list(wanted)]).all()


def test_the_mean_of_the_middle_two_is_exact_at_both_ends_of_what_16_bits_hold() -> None:
    pairs = [(-32767, -32767), (-32767, 32767), (32767, 32767), (32766, 32767), (-32767, -32766), (-3, 0), (1, 2)]
    stack = np.array(pairs, np.int16).T[:, None, None]

    made, _ = composite(stack, np.ones((2, 1, len(pairs)), bool))

    assert made[0, 0].tolist() == [round((first + second) / 2) for first, second in pairs]


def test_change_is_later_minus_earlier_and_nothing_where_one_is_missing() -> None:
    later, earlier = np.array([[5000, NODATA, 100]], np.int16), np.array([[2000, 100, NODATA]], np.int16)

    assert difference(later, earlier).tolist() == [[3000, NODATA, NODATA]]


def test_an_index_of_what_has_no_light_is_no_number() -> None:
    first, second = np.array([[0, -50]], np.int16), np.array([[0, 40]], np.int16)

    assert normalized_difference(first, second, np.ones((1, 2), bool)).tolist() == [[NODATA, NODATA]]


def test_a_grid_has_the_phase_of_its_sources_even_half_a_pixel_of_landsat() -> None:
    sources = [Raster(365_685 + 30 * each, 8_143_815, 30, 30, 100, 100) for each in (0, 7, 400)]

    grid = anchored(32624, sources, 64)

    assert all(is_aligned(each, grid.raster(3, 5)) for each in sources)
    assert (grid.anchor_x, grid.anchor_y) == (15, 15)


def test_a_source_that_lies_half_a_pixel_beside_is_not_aligned() -> None:
    assert not is_aligned(Raster(500_005, 5_000_000, 10, 10, 8, 8), RASTER)
    assert is_aligned(Raster(400_000, 5_100_000, 10, 10, 8, 8), RASTER)


def test_scenes_of_one_tile_give_a_grid_that_begins_at_its_corner() -> None:
    tile = Raster(399_960, 4_200_000, 10, 10, 10980, 10980)

    grid = anchored(32633, [tile, tile], 1024)

    assert grid.raster(0, -1).left == 399_960
    assert grid.raster(0, -1).top == 4_200_000
    assert len(list(grid.cells(tile.bounds))) == 11 * 11


def test_bounds_that_end_at_a_border_have_no_part_in_the_next_cell() -> None:
    grid = anchored(32632, [Raster(0, 640, 10, 10, 64, 64), Raster(640, 640, 10, 10, 64, 64)], 64)

    assert list(grid.cells((640, 0, 1280, 640))) == [(1, 0)]


def test_cells_are_halved_until_one_fits_and_refused_where_none_does() -> None:
    assert fitting_cell(2048, 6, 4, 10**9) == 2048
    assert fitting_cell(2048, 60, 4, 10**9) == 1024
    assert fitting_cell(2048, 6, 4, 210_000_000) == 0
    assert cell_memory(2048, 6, 4) == 210_000_000 + 2048**2 * (6 * 9 + 34)


def test_a_mask_of_larger_pixels_is_expanded_by_its_nearest() -> None:
    coarse = np.arange(16).reshape(4, 4)

    rows, columns = nearest(Raster(500_010, 4_999_990, 10, 10, 6, 6), Raster(500_000, 5_000_000, 20, 20, 4, 4))

    window = coarse[rows.start : rows.stop, columns.start : columns.stop]
    assert taken(window, rows, columns)[0].tolist() == [0, 1, 1, 2, 2, 3]


def test_bilinear_values_lie_between_and_need_all_four_pixels() -> None:
    values = np.array([[0, 100], [200, 300]], np.int16)
    valid = np.array([[True, True], [True, False]])

    made, good = bilinear(values, valid, np.array([0.5, 1.0]), np.array([0.5, 1.0]))

    assert made.tolist() == [[0, 50], [100, 0]]
    assert good.tolist() == [[True, True], [True, False]]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), part=st.floats(0.3, 0.7))
def test_outlines_joined_over_borders_are_those_of_the_whole(seed: int, part: float) -> None:
    inside = np.random.default_rng(seed).random((48, 48)) < part
    pieces = []
    whole = outlines(inside, lattice(RASTER))
    for row in range(0, 48, 16):
        for column in range(0, 48, 16):
            here = Raster(RASTER.left + 10 * column, RASTER.top - 10 * row, 10, 10, 16, 16)
            shapes = outlines(inside[row : row + 16, column : column + 16], lattice(here))
            border = at_border(shapes, here.bounds)
            pieces.append((shapes[border], shapes[~border]))

    made, _ = joined(np.concatenate([near for near, _ in pieces]))
    all_made = np.concatenate([made, *(inner for _, inner in pieces)])

    assert {shapely.normalize(each).wkb for each in all_made} == {shapely.normalize(each).wkb for each in whole}
    assert shapely.is_valid(all_made).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), part=st.floats(0.0, 1.0), pixel=st.sampled_from([10.0, 0.6, 1 / 3]))
def test_outlines_drawn_a_few_at_a_time_are_those_of_the_whole(seed: int, part: float, pixel: float) -> None:
    inside = np.random.default_rng(seed).random((48, 32)) < part
    inside[:, 5:9] |= part > 0.5  # an area of more runs than are drawn at a time
    corners = lattice(Raster(500_000.1, 5_000_000.7, pixel, pixel, 32, 48), (499_000.1, 5_001_000.7))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("apps.satellite.science.shapes.RUNS", 12)
        parts = list(outlines_in_parts(inside, corners, 1 << 30))

    whole, made = outlines(inside, corners), np.concatenate(parts)
    assert len(parts) > 3 or part < 0.1 or part > 0.5
    assert sorted(each.wkb for each in made) == sorted(each.wkb for each in whole)
    assert extent(inside, corners) == (shapely.total_bounds(whole).tolist() if inside.any() else None)


def test_an_area_whose_outline_takes_more_memory_than_there_is_is_refused() -> None:
    inside = np.ones((64, 64), bool)
    inside[1::2, 1::2] = False
    corners = lattice(RASTER)

    with pytest.raises(TooSpeckled, match="the outline of one area takes 2 MB"):
        list(outlines_in_parts(inside, corners, 1_000_000))
    (shapes,) = outlines_in_parts(inside, corners, 2_000_000)

    assert len(shapes[0].interiors) == 31 * 31


def test_an_area_is_that_of_the_ellipsoid_and_not_of_the_plane() -> None:
    middle = shapely.box(500_000, 5_000_000, 501_000, 5_001_000)
    edge = shapely.box(760_000, 5_000_000, 761_000, 5_001_000)

    found = areas(to_degrees(np.array([middle, edge], object), 32632))

    assert found == pytest.approx([1e6 / 0.9996**2, 1e6 / 1.00044**2], rel=2e-5)


def test_a_tile_across_180_degrees_is_cut_there() -> None:
    tile = shapely.box(300_000, 1_900_000, 409_800, 2_009_800)  # T01KAB reaches it, and its neighbours do

    west = to_degrees(shapely.box(99_960, 7_890_240, 209_760, 8_000_040), 32701)

    parts = shapely.get_parts(west)
    assert len(parts) == 2
    assert sorted(each.bounds[0] for each in parts)[0] == -180.0
    assert max(each.bounds[2] for each in parts) == 180.0
    assert max(each.bounds[2] - each.bounds[0] for each in parts) < 1.2
    assert areas(np.array([west], object))[0] == pytest.approx(109_800**2, rel=5e-3)
    assert to_degrees(tile, 32632).geom_type == "Polygon"


def test_what_is_near_is_near_on_the_curve() -> None:
    step = 360 / 65536
    corners = [(-180 + x * step, -90 + y * step / 2) for x in range(8) for y in range(8)]
    boxes = np.array([shapely.box(x + 0.4 * step, y + 0.2 * step, x + 0.6 * step, y + 0.3 * step) for x, y in corners])

    order = hilbert_order(boxes)

    cells = [(at // 8, at % 8) for at in order]
    assert sorted(cells) == [(x, y) for x in range(8) for y in range(8)]
    assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in zip(cells, cells[1:], strict=False))


def test_sums_of_cells_add_up_to_those_of_the_whole_for_zones_that_overlap() -> None:
    random = np.random.default_rng(1)
    image = random.integers(-100, 100, (64, 64)).astype(np.int16)
    image[random.random((64, 64)) < 0.2] = NODATA
    zones = [shapely.box(500_103, 4_999_397, 500_507, 4_999_905), shapely.box(500_000, 4_999_600, 500_400, 5_000_000)]

    whole = zonal_sums({"a": image}, NODATA, zones, RASTER)
    parts: dict[int, dict[str, list[int]]] = {}
    for row in (0, 32):
        for column in (0, 32):
            here = Raster(RASTER.left + 10 * column, RASTER.top - 10 * row, 10, 10, 32, 32)
            for zone, sums in zonal_sums(
                {"a": image[row : row + 32, column : column + 32]}, NODATA, zones, here
            ).items():
                parts[zone] = added(parts[zone], sums) if zone in parts else sums

    assert parts == whole
    inside = image[0:40, 0:40]
    valid = inside[inside != NODATA].astype(int)
    assert whole[1]["a"] == [valid.size, valid.sum(), valid.min(), valid.max()]


def test_the_least_and_greatest_of_two_areas_are_those_of_either() -> None:
    low, high = {"red": [2, 30, 10, 20]}, {"red": [1, 25, 25, 25]}

    assert added(low, high) == added(high, low) == {"red": [3, 55, 10, 25]}


def test_overviews_are_means_of_what_is_valid_and_of_counts_single_pixels() -> None:
    image = np.array([[1, 3, NODATA, NODATA], [NODATA, 6, NODATA, NODATA]] * 2, np.int16)

    (mean,) = overviews(image, NODATA, 2, mean=True)
    (single,) = overviews(image, NODATA, 2, mean=False)

    assert mean.tolist() == [[3, NODATA], [3, NODATA]]
    assert single.tolist() == [[1, NODATA], [1, NODATA]]
