"""Localisation of attributes: which cells a region holds, hits with ties, chance and the fixed place."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from a3m.metrics.localisation import cells_in_regions, chance, fixed_place, fixed_place_hits, localise

UNKNOWN = [np.nan] * 4


def cells(region: list[float], map_size: tuple[int, int]) -> list[int]:
    """The cells of one region."""
    return np.flatnonzero(cells_in_regions([[region]], map_size)[0, 0]).tolist()


# --- cells --------------------------------------------------------------------------------------------------------------


def test_a_cell_belongs_to_the_region_that_holds_its_centre():
    # 2 rows x 4 columns: centres at x = 1/8 3/8 5/8 7/8, y = 1/4 3/4
    assert cells([0, 0, 1, 1], (2, 4)) == list(range(8))
    assert cells([0.3, 0, 0.7, 0.5], (2, 4)) == [1, 2]
    assert cells([0.3, 0.5, 0.7, 1.0], (2, 4)) == [5, 6]
    assert cells([0.8, 0.1, 1.0, 0.9], (2, 4)) == [3, 7]


def test_a_region_without_a_centre_has_the_cell_of_its_own_centre():
    assert cells([0.45, 0.55, 0.48, 0.6], (2, 4)) == [5]
    assert cells([0.2, 0.0, 0.28, 1.0], (2, 4)) == [4]  # a tall sliver between two columns, its centre (0.24, 0.5)
    assert cells([0.99, 0.99, 1.0, 1.0], (2, 4)) == [7]
    assert cells([1.0, 0.0, 1.0, 1.0], (2, 4)) == []


def test_regions_reach_over_the_edge_or_lie_beyond_it():
    assert cells([-0.5, -0.5, 0.2, 0.3], (2, 4)) == [0]
    assert cells([0.9, 0.9, 3.0, 3.0], (2, 4)) == [7]  # no centre; the visible part's own centre, not (1.95, 1.95)
    assert cells([-0.5, 0.0, -0.1, 1.0], (2, 4)) == []
    assert cells([0.0, 1.1, 1.0, 1.5], (2, 4)) == []
    assert cells(UNKNOWN, (2, 4)) == []


def test_tiles_share_no_cell_and_leave_none():
    edges = np.linspace(0, 1, 6)
    tiles = np.array([[[x0, y0, x1, y1] for y0, y1 in pairwise(edges) for x0, x1 in pairwise(edges)]])
    for map_size in ((5, 5), (7, 11), (15, 10)):
        np.testing.assert_array_equal(cells_in_regions(tiles, map_size).sum(axis=1), 1)


def test_cells_equal_plain_loops():
    rng = np.random.default_rng(0)
    regions = rng.uniform(-0.2, 1.2, (40, 6, 2, 2))
    regions = np.sort(regions, axis=2).reshape(40, 6, 4)
    regions[rng.random((40, 6)) < 0.2] = np.nan
    for height, width in ((12, 6), (7, 7), (1, 1), (2, 3)):
        inside = cells_in_regions(torch.tensor(regions), (height, width))
        assert inside.shape == (40, 6, height * width)
        for n, k in np.ndindex(40, 6):
            x0, y0, x1, y1 = regions[n, k]
            expected = {
                row * width + column
                for row in range(height)
                for column in range(width)
                if x0 <= (column + 0.5) / width < x1 and y0 <= (row + 0.5) / height < y1
            }
            if not expected and x0 < 1 and y0 < 1 and x1 > 0 and y1 > 0:
                x, y = (max(x0, 0) + min(x1, 1)) / 2, (max(y0, 0) + min(y1, 1)) / 2
                expected = {int(y * height) * width + int(x * width)}
            assert set(np.flatnonzero(inside[n, k])) == expected


def test_regions_refuse_bad_input():
    with pytest.raises(ValueError, match="image 0, attribute 1 ends before it begins"):
        cells_in_regions([[[0, 0, 1, 1], [0.5, 0, 0.4, 1]]], (2, 2))
    with pytest.raises(ValueError, match="regions have shape"):
        cells_in_regions([[0, 0, 1, 1]], (2, 2))


# --- hits ---------------------------------------------------------------------------------------------------------------


def test_hits_by_hand_with_ties_by_their_expected_share():
    inside = np.array([[[True, True, False, False]] * 5])
    scores = np.array([[[9, 1, 1, 1], [1, 1, 9, 1], [9, 1, 9, 1], [3, 3, 3, 3], [-1, -5, -2, -1]]], float)
    known = np.ones((1, 5), bool)
    np.testing.assert_array_equal(localise(scores, inside, known), [[1, 0, 0.5, 0.5, 0.5]])
    known[0, 1] = False
    np.testing.assert_array_equal(
        localise(torch.tensor(scores), torch.tensor(inside), known), [[1, np.nan, 0.5, 0.5, 0.5]]
    )


def test_a_constant_map_hits_by_chance():
    rng = np.random.default_rng(0)
    inside = rng.random((20, 3, 15)) < 0.3
    known = inside.any(axis=2)
    np.testing.assert_allclose(localise(np.full(inside.shape, 0.7), inside, known), chance(inside, known))


def test_the_region_itself_as_map_always_hits_and_its_complement_never():
    inside = np.random.default_rng(1).random((20, 3, 15)) < 0.3
    known = inside.any(axis=2)
    assert set(localise(inside * 1.0, inside, known)[known]) == {1.0}
    assert set(localise(~inside * 1.0, inside, known)[known]) == {0.0}


def test_scores_of_unknown_regions_may_be_anything_but_not_of_known_ones():
    inside = np.ones((1, 2, 3), bool)
    scores = np.array([[[1.0, 2.0, 3.0], [np.nan, 1.0, 2.0]]])
    np.testing.assert_array_equal(localise(scores, inside, np.array([[True, False]])), [[1, np.nan]])
    with pytest.raises(ValueError, match="NaN"):
        localise(scores, inside, np.ones((1, 2), bool))


# --- references ---------------------------------------------------------------------------------------------------------


def test_the_fixed_place_lies_in_most_training_regions():
    train = np.zeros((3, 3, 4), bool)
    train[0, 0, [0, 1]] = train[1, 0, [1, 2]] = train[2, 0, [1]] = True  # attribute 0: cell 1, three times
    train[0, 1, [3]] = train[1, 1, [2]] = True  # attribute 1: cells 2 and 3 once each: the lowest
    places = fixed_place(train)
    assert places.tolist() == [1, 2, -1]
    inside = np.zeros((2, 3, 4), bool)
    inside[0, :, :2] = inside[1, :2, 2:] = True
    hits = fixed_place_hits(places, inside, inside.any(axis=2))
    np.testing.assert_array_equal(hits, [[1, 0, np.nan], [0, 1, np.nan]])


def test_shapes_and_types_are_checked():
    inside, known = np.ones((2, 3, 4), bool), np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="scores have shape"):
        localise(np.ones((2, 3, 5)), inside, known)
    with pytest.raises(ValueError, match="expected booleans"):
        chance(inside * 1.0, known)
    with pytest.raises(ValueError, match=r"known \(3, 2\)"):
        chance(inside, known.T)
    with pytest.raises(ValueError, match="one for each of 3 attributes"):
        fixed_place_hits([0, 1], inside, known)
    with pytest.raises(ValueError, match="expected booleans"):
        fixed_place(np.ones((2, 3)))
