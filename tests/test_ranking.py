"""Rankings: numbers computed by hand, plain loops against the blocked code, and the protocol's rules one by one."""

import tracemalloc

import numpy as np
import pytest
import torch

from a3m.metrics import ranking
from a3m.metrics.ranking import recall_at_k, retrieve, score_reid, score_reid_distances


def angles(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane: with a query at 0, the gallery is ranked by the angle."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def plain_reid(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras, distance):
    """The protocol in loops, walking down each ranking as Market-1501's compute_AP does -> rows (rect, trap, first)."""
    rows = []
    for q in range(len(query)):
        kept = []
        for g in range(len(gallery)):
            same = gallery_ids[g] == query_ids[q]
            if gallery_ids[g] == -1 or (same and gallery_cameras[g] == query_cameras[q]):
                continue
            if distance == "cosine":
                lengths = np.sqrt((query[q] ** 2).sum()) * np.sqrt((gallery[g] ** 2).sum())
                d = 1 - (query[q] * gallery[g]).sum() / lengths if lengths else 1.0
            else:
                d = ((query[q] - gallery[g]) ** 2).sum()
            kept.append((round(float(d), 9), same))  # equal up to rounding is equal; False sorts before True
        ranking_ = [same for _, same in sorted(kept)]
        matches = sum(ranking_)
        if matches == 0:
            rows.append((np.nan, np.nan, 0))
            continue
        rectangular = trapezoid = 0.0
        found, old_recall, old_precision, first = 0, 0.0, 1.0, 0
        for position, same in enumerate(ranking_, 1):
            found += same
            recall, precision = found / matches, found / position
            if same:
                rectangular += precision / matches
                first = first or position
            trapezoid += (recall - old_recall) * (old_precision + precision) / 2
            old_recall, old_precision = recall, precision
        rows.append((rectangular, trapezoid, first))
    return np.array(rows)


def random_case(seed: int, values: int, queries: int = 23, images: int = 61, dimensions: int = 3) -> tuple:
    """Small integers as coordinates: many equal vectors, and many different ones at equal distances."""
    rng = np.random.default_rng(seed)
    query, gallery = (rng.integers(0, values, (n, dimensions)).astype(float) for n in (queries, images))
    ids = rng.integers(1, 9, queries), rng.integers(-1, 8, images)
    return query, gallery, *ids, rng.integers(1, 4, queries), rng.integers(1, 4, images)


# --- numbers by hand ----------------------------------------------------------------------------------------------------


def test_both_average_precisions_of_one_ranking_by_hand():
    # Matches at ranks 1, 3, 4: rectangular (1 + 2/3 + 3/4) / 3,
    # trapezoid ((1 + 1)/2 + (1/2 + 2/3)/2 + (2/3 + 3/4)/2) / 3
    gallery = angles(10, 20, 30, 40, 50)
    call = angles(0), gallery, [5], [5, 7, 5, 5, 9], [1], [2, 2, 2, 3, 2]
    scores = score_reid(*call)
    assert scores.map == scores.map_rectangular == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert scores.map_trapezoid == pytest.approx((1 + 7 / 12 + 17 / 24) / 3)
    asked = score_reid(*call, average_precision="trapezoid")
    assert asked.map == asked.map_trapezoid == scores.map_trapezoid
    np.testing.assert_array_equal(asked.average_precision, asked.average_precision_trapezoid)
    np.testing.assert_array_equal(scores.average_precision, scores.average_precision_rectangular)
    assert scores.rank == {1: 1.0, 5: 1.0, 10: 1.0, 20: 1.0}
    assert (scores.first_match.tolist(), scores.nearest.tolist()) == ([1], [0])


def test_first_match_at_rank_two_by_hand():
    # One match at rank 2: rectangular 1/2; trapezoid (0 + 1/2) / 2, the precision at rank 1 being 0
    scores = score_reid(angles(0), angles(10, 20, 30), [5], [6, 5, 7], [1], [2, 2, 2], ranks=(1, 2, 50))
    assert (scores.map_rectangular, scores.map_trapezoid) == (0.5, 0.25)
    assert scores.rank == {1: 0.0, 2: 1.0, 50: 1.0}
    assert (scores.first_match.tolist(), scores.nearest.tolist()) == ([2], [0])


def test_euclidean_and_cosine_rank_differently():
    call = [[1.0, 0.0]], [[9.0, 0.0], [1.0, 0.5]], [5], [5, 6], [1], [2, 2]
    assert score_reid(*call, distance="cosine").map == 1.0
    assert score_reid(*call, distance="euclidean").map == 0.5


# --- protocol -----------------------------------------------------------------------------------------------------------


def test_same_identity_in_the_same_camera_is_left_out():
    scores = score_reid(angles(0), angles(0, 10, 20), [5], [5, 6, 5], [1], [1, 1, 2])
    assert scores.first_match.tolist() == [2]  # 6 before 5; the copy in the query's own camera does not count
    assert scores.nearest.tolist() == [1]


def test_distractors_stay_in_the_gallery_and_junk_does_not():
    with_distractor = score_reid(angles(0), angles(10, 20), [5], [0, 5], [1], [2, 2])
    with_junk = score_reid(angles(0), angles(10, 20), [5], [-1, 5], [1], [2, 2])
    assert (with_distractor.map, with_distractor.nearest.tolist()) == (0.5, [0])
    assert (with_junk.map, with_junk.nearest.tolist()) == (1.0, [1])  # an index into the gallery as given


def test_a_query_without_a_match_is_skipped_and_counted():
    # The second query's only match is in its own camera; the third's identity is absent.
    scores = score_reid(angles(0, 10, 20), angles(0, 10), [5, 6, 8], [5, 6], [1, 1, 1], [2, 1])
    assert (scores.queries, scores.skipped, scores.map, scores.rank[1]) == (1, 2, 1.0, 1.0)
    np.testing.assert_array_equal(scores.average_precision, [1, np.nan, np.nan])
    np.testing.assert_array_equal(scores.average_precision_trapezoid, [1, np.nan, np.nan])
    assert scores.first_match.tolist() == [1, 0, 0]
    assert scores.nearest.tolist() == [0, 0, 1]


def test_when_every_query_is_skipped_shares_are_undefined():
    scores = score_reid(angles(0), angles(0), [5], [5], [1], [1])
    assert (scores.queries, scores.skipped, scores.nearest.tolist()) == (0, 1, [-1])
    assert np.isnan([scores.map, scores.map_trapezoid, *scores.rank.values()]).all()


# --- ties ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_wrong_image_at_the_same_distance_ranks_first(distance):
    # Mirror images of each other, at the same distance from the query, in both orders
    for ids, wrong in (([5, 6], 1), ([6, 5], 0)):
        scores = score_reid([[3.0, 0.0]], [[1.0, 0.7], [1.0, -0.7]], [5], ids, [1], [2, 2], distance=distance)
        assert (scores.first_match.tolist(), scores.nearest.tolist()) == ([2], [wrong])


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_collapsed_network_gets_the_worst_score_wherever_its_vectors_lie(distance, kind):
    rng = np.random.default_rng(0)
    vector = rng.random((1, 2048)).astype(kind)
    gallery_ids = rng.permutation(np.repeat([5, 6], [40, 963]))
    scores = score_reid(
        np.repeat(vector, 301, 0), np.repeat(vector, 1003, 0), np.full(301, 5), gallery_ids,
        np.ones(301, int), np.full(1003, 2), distance=distance,
    )  # fmt: skip
    assert set(scores.first_match) == {964}
    assert scores.map == pytest.approx(np.mean(np.arange(1, 41) / (963 + np.arange(1, 41))))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_copies_tie_in_every_place_and_block(monkeypatch, distance, rows):
    # Every gallery vector is there twice, once as a match and once as a stranger, at random places: each match of a query
    # ranks after its stranger, so the best match is never first.
    monkeypatch.setattr(ranking, "BLOCK_BYTES", rows * 8 * 400)
    rng = np.random.default_rng(rows)
    vectors = rng.standard_normal((200, 777)).astype(np.float32)
    place = rng.permutation(400)
    gallery, ids = np.concatenate([vectors, vectors])[place], np.repeat([5, 0], 200)[place]
    query = np.concatenate([vectors[:30], rng.standard_normal((31, 777)).astype(np.float32)])
    zeros = np.zeros(61, int)
    scores = score_reid(query, gallery, zeros + 5, ids, zeros, np.ones(400, int), distance=distance)
    assert set(scores.first_match) == {2}
    np.testing.assert_allclose(scores.average_precision_rectangular, 0.5)


# --- plain loops against blocked code -----------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("values", [2, 3, 6, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_plain_loops_with_many_ties(monkeypatch, distance, values, seed):
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * 61 * 4)  # 23 queries in six blocks
    case = random_case(seed, values)
    expected = plain_reid(*case, distance)
    scores = score_reid(*case, distance=distance, ranks=range(1, 12))
    np.testing.assert_allclose(scores.average_precision_rectangular, expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(scores.average_precision_trapezoid, expected[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(scores.first_match, expected[:, 2])
    scored = expected[:, 2] > 0
    assert (scores.queries, scores.skipped) == (scored.sum(), (~scored).sum())
    assert scores.map_trapezoid == pytest.approx(expected[scored, 1].mean())
    assert scores.rank == {k: pytest.approx((expected[scored, 2] <= k).mean()) for k in range(1, 12)}


def test_the_nearest_image_is_right_exactly_when_the_first_match_is_at_rank_one():
    for seed in range(5):
        query, gallery, query_ids, gallery_ids, *cameras = random_case(seed, values=3)
        scores = score_reid(query, gallery, query_ids, gallery_ids, *cameras)
        np.testing.assert_array_equal(gallery_ids[scores.nearest] == query_ids, scores.first_match == 1)


# --- properties ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_gallery_order_does_not_matter(distance):
    query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras = random_case(3, values=3)
    order = np.random.default_rng(0).permutation(len(gallery))
    one = score_reid(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras, distance=distance)
    two = score_reid(
        query, gallery[order], query_ids, gallery_ids[order], query_cameras, gallery_cameras[order], distance=distance
    )
    assert (one.rank, one.map, one.map_trapezoid) == (two.rank, two.map, two.map_trapezoid)
    np.testing.assert_array_equal(one.first_match, two.first_match)


def test_a_perfect_embedding_scores_one():
    ids = np.arange(1, 41)
    rng = np.random.default_rng(0)
    gallery_ids, cameras = np.repeat(ids, 3), np.tile([1, 2, 3], 40)
    one_hot = np.eye(40)
    query, gallery = one_hot + 0.01 * rng.random((40, 40)), one_hot[gallery_ids - 1] + 0.01 * rng.random((120, 40))
    for distance in ("cosine", "euclidean"):
        scores = score_reid(query, gallery, ids, gallery_ids, np.ones(40, int), cameras, distance=distance)
        assert (scores.map_rectangular, scores.map_trapezoid, scores.rank[1]) == (1, 1, 1)


def test_cosine_does_not_see_the_lengths_of_vectors_nor_euclidean_a_common_shift_and_scale():
    query, gallery, *rest = random_case(4, values=4)
    query, gallery = query + 1, gallery + 1  # no zeros: these have no direction
    lengths = np.random.default_rng(0).uniform(1e-3, 1e3, len(gallery))[:, None]
    stretched = score_reid(query * 7, gallery * lengths, *rest)
    plain = score_reid(query, gallery, *rest)
    np.testing.assert_array_equal(stretched.average_precision, plain.average_precision)
    huge = 2.0**600  # its square is infinite
    moved = score_reid((query + 1000) * huge, (gallery + 1000) * huge, *rest, distance="euclidean")
    plain = score_reid(query, gallery, *rest, distance="euclidean")
    np.testing.assert_array_equal(moved.average_precision, plain.average_precision)


def test_a_vector_of_zeros_is_at_cosine_distance_one():
    scores = score_reid([[1.0, 0.0]], [[0.0, 0.0], [0.1, 1.0], [-1.0, 0.0]], [5], [5, 6, 7], [1], [2, 2, 2])
    assert scores.first_match.tolist() == [2]  # between 84 degrees and 180


def test_tensors_of_any_float_and_arrays_give_the_same():
    query, gallery, *rest = random_case(5, values=5)
    expected = score_reid(query, gallery, *rest).average_precision
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int16):
        tensors = [torch.tensor(query).to(dtype), torch.tensor(gallery).to(dtype), *map(torch.tensor, rest)]
        np.testing.assert_array_equal(score_reid(*tensors).average_precision, expected)
    needs_gradient = torch.tensor(query, requires_grad=True)
    np.testing.assert_array_equal(score_reid(needs_gradient, gallery, *rest).average_precision, expected)


def test_inputs_are_not_changed_and_small_integers_do_not_overflow():
    query, gallery, *rest = random_case(6, values=5)
    before = query.copy(), gallery.copy()
    small = [array.astype(np.int8) for array in rest]
    assert score_reid(query, gallery, *small).map == score_reid(query, gallery, *rest).map
    np.testing.assert_array_equal(query, before[0])
    np.testing.assert_array_equal(gallery, before[1])


# --- bad input ----------------------------------------------------------------------------------------------------------

GOOD = {
    "query": np.eye(2), "gallery": np.eye(2), "query_ids": [1, 2], "gallery_ids": [1, 2],
    "query_cameras": [1, 1], "gallery_cameras": [2, 2],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": [[0, np.nan], [1, 0]]}, "query holds NaN or infinity in 1 of 2 rows, first in row 0"),
        ({"gallery": [[0, 1], [np.inf, 0]]}, "gallery holds NaN or infinity in 1 of 2 rows, first in row 1"),
        ({"gallery": np.empty((0, 2))}, "gallery has shape"),
        ({"query": np.empty((0, 2))}, "query has shape"),
        ({"query": np.empty((2, 0))}, "query has shape"),
        ({"query": np.zeros(2)}, "query has shape"),
        ({"query": [["a", "b"], ["c", "d"]]}, "expected real numbers"),
        ({"gallery": np.eye(3)[:2]}, "query has 2 dimensions, gallery 3"),
        ({"query_ids": [1]}, "query_ids has shape"),
        ({"gallery_cameras": [[2, 2]]}, "gallery_cameras has shape"),
        ({"gallery_ids": [1.0, 2.0]}, "gallery_ids holds float64: expected integers"),
        ({"query_ids": [0, 1]}, "query_ids holds 0"),
        ({"query_ids": [-1, 1]}, "query_ids holds -1"),
        ({"gallery_ids": [-2, 1]}, "gallery_ids holds -2"),
        ({"gallery_ids": [-1, -1]}, "nothing but junk"),
        ({"average_precision": "interpolated"}, "'rectangular' or 'trapezoid'"),
        ({"distance": "manhattan"}, "'cosine' or 'euclidean'"),
        ({"ranks": (0, 1)}, "ranks"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    score_reid(**GOOD)
    with pytest.raises(ValueError, match=message):
        score_reid(**(GOOD | change))


# --- from a matrix of distances -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [2, 6, 1000])
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32])
def test_a_matrix_of_the_same_distances_scores_the_same(monkeypatch, values, kind):
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * 61 * 4)
    query, gallery, *people = random_case(7, values)
    distances = ((query[:, None] - gallery[None]) ** 2).sum(axis=2)
    assert (people[1] == -1).any()  # junk, so that the places of the rest have moved
    matrix = torch.tensor(distances, dtype=kind) if isinstance(kind, torch.dtype) else distances.astype(kind)
    expected = score_reid(query, gallery, *people, distance="euclidean")
    scores = score_reid_distances(matrix, *people)
    assert scores.rank == expected.rank
    for name in ("average_precision_rectangular", "average_precision_trapezoid", "first_match", "nearest"):
        np.testing.assert_array_equal(getattr(scores, name), getattr(expected, name))
    asked = score_reid_distances(matrix, *people, average_precision="trapezoid", ranks=(3,))
    assert (asked.map, list(asked.rank)) == (expected.map_trapezoid, [3])


def test_ties_in_a_matrix_count_against_the_model_up_to_its_rounding():
    call = [5], [6, 5, 7], [1], [2, 2, 2]
    for match, first in ((0.3, 2), (0.3 - 1e-7, 2), (0.3 + 1e-7, 2), (0.3 - 1e-5, 1), (0.3 + 1e-5, 2)):
        distances = np.array([[0.3, match, 1.0]], np.float32)
        assert score_reid_distances(distances, *call).first_match.tolist() == [first]
    assert score_reid_distances([[-0.5, -0.7, 0.0]], *call).first_match.tolist() == [1]


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        ([[0, np.nan], [1, 0]], "NaN or infinity, first in row 0"),
        ([[0, 1], [0, np.inf]], "NaN or infinity, first in row 1"),
        ([0, 1], "shape"),
        (np.empty((2, 0)), "shape"),
        ([["a", "b"], ["c", "d"]], "real numbers"),
        ([[0, 1, 2], [0, 1, 2]], "gallery_ids has shape"),
        ([[0, 1]], "query_ids has shape"),
    ],
)
def test_a_bad_matrix_is_refused(distances, message):
    people = {name: values for name, values in GOOD.items() if name not in ("query", "gallery")}
    score_reid_distances([[0, 1], [1, 0]], **people)
    with pytest.raises(ValueError, match=message):
        score_reid_distances(distances, **people)


# --- recall@K -----------------------------------------------------------------------------------------------------------


def plain_recall(embeddings, labels, ks):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    hits = dict.fromkeys(ks, 0)
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        order = sorted((round(-float(unit[i] @ unit[j]), 9), bool(labels[i] == labels[j])) for j in others)
        for k in ks:
            hits[k] += any(same for _, same in order[:k])
    return {k: hits[k] / len(unit) for k in ks}


def test_recall_by_hand():
    # First of its own class: of 0 degrees second (12, 30), of 30 second (12, 0), of 12 third (0, 30, 90), of 90 second (30, 12)
    recall = recall_at_k(angles(0, 30, 12, 90), [1, 1, 2, 2], ks=(1, 2, 3))
    assert recall == {1: 0.0, 2: 0.75, 3: 1.0}


@pytest.mark.parametrize("values", [2, 4, 1000])
def test_recall_equals_plain_loops_with_many_ties(monkeypatch, values):
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * 70 * 9)
    rng = np.random.default_rng(values)
    embeddings, labels = 1 + rng.integers(0, values, (70, 3)), rng.integers(0, 12, 70)
    ks = (1, 2, 4, 8, 69)
    assert recall_at_k(embeddings, labels, ks) == pytest.approx(plain_recall(embeddings, labels, ks))
    assert recall_at_k(torch.tensor(embeddings), torch.tensor(labels), ks) == recall_at_k(embeddings, labels, ks)


@pytest.mark.parametrize("values", [2, 4, 1000])
def test_first_match_and_nearest_of_each_image_by_plain_loops(monkeypatch, values):
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * 70 * 9)
    rng = np.random.default_rng(values)
    embeddings, labels = 1 + rng.integers(0, values, (70, 3)), rng.integers(0, 12, 70)
    labels[0] = 99  # alone in its class
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    retrieved = retrieve(embeddings, labels)
    for i in range(70):
        order = sorted(
            (round(-float(unit[i] @ unit[j]), 9), bool(labels[i] == labels[j]), j) for j in range(70) if j != i
        )
        matches = [rank for rank, (_, same, _) in enumerate(order, 1) if same]
        assert retrieved.first_match[i] == (matches[0] if matches else 0)
        assert retrieved.nearest[i] == order[0][2]
    assert (retrieved.first_match[0], labels[retrieved.nearest[0]] != 99) == (0, True)


def test_recall_leaves_out_the_image_but_not_its_copy():
    assert recall_at_k(angles(0, 0, 40, 41), [1, 1, 2, 3], ks=(1, 8)) == {1: 0.5, 8: 0.5}  # 2 and 3 are alone: missed
    assert recall_at_k(angles(0, 0, 40), [1, 2, 1], ks=(1, 2)) == {1: 0.0, 2: pytest.approx(2 / 3)}


def test_recall_of_a_collapsed_network_is_the_worst():
    # With 5 of each class and 5 strangers at the same distance, the first of its own comes sixth.
    assert recall_at_k(np.ones((10, 64)), np.repeat([0, 1], 5), ks=(5, 6)) == {5: 0.0, 6: 1.0}


def test_recall_refuses_bad_input():
    for embeddings, labels, ks in (
        (np.eye(1), [1], (1,)),
        (np.eye(2), [1], (1,)),
        (np.full((2, 2), np.nan), [1, 1], (1,)),
        (np.eye(2), [1, 1], (0,)),
    ):
        with pytest.raises(ValueError, match=r"recall@K|labels|NaN|ks"):
            recall_at_k(embeddings, labels, ks)


# --- size ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_of_market1501_needs_less_than_500_megabytes():
    """numpy's allocations, which are nearly all of it: a process' peak is of no use after a test that needed more."""
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 512), dtype=np.float32) for n in (3368, 15913))
    ids = rng.integers(1, 751, 3368), rng.integers(0, 751, 15913)
    cameras = rng.integers(1, 7, 3368), rng.integers(1, 7, 15913)
    tracemalloc.start()
    try:
        scores = score_reid(query, gallery, *ids, *cameras)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scores.queries > 3000
    assert 50 < peak / 2**20 < 500  # less than the float64 gallery would mean that nothing was measured
