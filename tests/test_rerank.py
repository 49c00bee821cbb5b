"""k-reciprocal re-ranking: the published formula in loops over dense matrices, against the sparse and blocked code."""

import numpy as np
import pytest
import torch

from a3m.metrics import rerank
from a3m.metrics.ranking import score_reid, score_reid_distances
from a3m.metrics.rerank import k_reciprocal


def dense_ranking(original):
    """Rows of indices, nearest first: the image itself, then by distance (equal within rounding), then by index."""
    keyed = np.round(original / original.max(), 11)
    np.fill_diagonal(keyed, -1)
    return np.argsort(keyed, axis=1, kind="stable")


def dense(query, gallery, k1=20, k2=6, lambda_=0.3):
    """Equations 3, 4, 7, 10, 11 and 12 of Zhong et al. (CVPR 2017), as sets and sums over N x N matrices in float64."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    number = len(features)
    original = np.array([((features - features[i]) ** 2).sum(axis=1) for i in range(number)])
    rank = dense_ranking(original)
    original = (original / original.max(axis=0)).T

    def mutual(p, k):  # eq. 3
        return {int(g) for g in rank[p, : k + 1] if p in rank[g, : k + 1]}

    V = np.zeros((number, number))
    for p in range(number):
        members = mutual(p, k1)
        expanded = set(members)
        for q in members:
            candidates = mutual(q, int(np.around(k1 / 2)))
            if len(candidates & members) > 2 / 3 * len(candidates):  # eq. 4
                expanded |= candidates
        for g in expanded:
            V[p, g] = np.exp(-original[p, g])  # eq. 7
        V[p] /= V[p].sum()
    V = np.array([V[rank[p, :k2]].mean(axis=0) for p in range(number)])  # eq. 11
    result = np.empty((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            other = len(query) + g
            jaccard = 1 - np.minimum(V[q], V[other]).sum() / np.maximum(V[q], V[other]).sum()  # eq. 10
            result[q, g] = (1 - lambda_) * jaccard + lambda_ * original[q, other]  # eq. 12
    return result


def people(queries, gallery, identities, dimensions, noise, seed):
    """Features that cluster by identity, and the identities."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, dimensions))
    ids = rng.integers(0, identities, queries + gallery)
    features = centres[ids] + noise * rng.standard_normal((len(ids), dimensions))
    return features[:queries], features[queries:], ids[:queries], ids[queries:]


@pytest.mark.parametrize(
    ("k1", "k2", "lambda_"),
    [(20, 6, 0.3), (5, 2, 0.0), (7, 1, 0.5), (1, 1, 0.3), (3, 9, 0.3), (500, 6, 1.0), (30, 400, 0.1)],
)
@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0])
def test_equals_the_published_formula_whatever_the_blocks(monkeypatch, k1, k2, lambda_, noise):
    query, gallery, *_ = people(13, 47, 6, 8, noise, seed=k1)
    expected = dense(query, gallery, k1, k2, lambda_)
    monkeypatch.setattr(rerank, "BLOCK_BYTES", 4 * 60 * 7)  # 60 images in nine blocks
    distances = k_reciprocal(query, gallery, k1=k1, k2=k2, lambda_=lambda_)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(distances, expected, atol=2e-6)


@pytest.mark.parametrize("values", [2, 3])
def test_equals_the_published_formula_with_many_copies(monkeypatch, values):
    """Few different vectors, most of them many times over: more ties at the last place than are looked at beyond it."""
    monkeypatch.setattr(rerank, "BLOCK_BYTES", 4 * 90 * 11)
    rng = np.random.default_rng(values)
    features = rng.integers(0, values, (90, 4)) - 0.5 + rng.standard_normal(4)
    features *= rng.integers(1, 4, (90, 1))
    for k1 in (4, 9):
        distances = k_reciprocal(features[:20], features[20:], k1=k1, k2=3)
        np.testing.assert_allclose(distances, dense(features[:20], features[20:], k1, 3), atol=2e-6)


def test_distances_by_hand():
    # Two pairs of neighbours at nearly right angles. With k1 = k2 = 1 the two of a pair are mutual, V = (1, e^-d) / sum,
    # where d is their distance as a share of each one's largest.
    query, gallery = np.array([[1.0, 0.0]]), np.array([[1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    pair, across, right_angle = 2 - 2 / np.sqrt(1.01), 2 - 0.2 / np.sqrt(1.01), 2.0
    query_weight, gallery_weight = np.exp(-pair / right_angle), np.exp(-pair / across)
    V_query = np.array([1, query_weight]) / (1 + query_weight)
    V_gallery = np.array([gallery_weight, 1]) / (1 + gallery_weight)
    jaccard = 1 - np.minimum(V_query, V_gallery).sum() / np.maximum(V_query, V_gallery).sum()
    distances = k_reciprocal(query, gallery, k1=1, k2=1)
    expected = [0.7 * jaccard + 0.3 * pair / right_angle, 0.7 + 0.3, 0.7 + 0.3 * across / right_angle]
    assert distances[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_neighbourhood_lifts_a_match_that_the_query_alone_ranks_behind_a_stranger():
    query, gallery, query_ids, gallery_ids = people(60, 300, 30, 16, 0.9, seed=1)
    call = query_ids + 1, gallery_ids + 1, np.zeros(60, int), np.ones(300, int)
    plain = score_reid(query, gallery, *call).map
    assert score_reid_distances(k_reciprocal(query, gallery), *call).map > plain + 0.05


def test_lambda_one_keeps_the_order_of_the_cosine():
    query, gallery, query_ids, gallery_ids = people(40, 200, 20, 16, 1.0, seed=2)
    call = query_ids + 1, gallery_ids + 1, np.zeros(40, int), np.ones(200, int)
    scores = score_reid_distances(k_reciprocal(query, gallery, lambda_=1.0), *call)
    np.testing.assert_array_equal(scores.first_match, score_reid(query, gallery, *call).first_match)


def test_gallery_order_and_lengths_of_vectors_do_not_matter_and_tensors_give_the_same():
    query, gallery, *_ = people(15, 80, 9, 12, 0.8, seed=3)
    distances = k_reciprocal(query, gallery)
    order = np.random.default_rng(0).permutation(80)
    np.testing.assert_allclose(k_reciprocal(query * 1e-30, gallery[order] * 1e30), distances[:, order], atol=1e-6)
    tensors = torch.tensor(query, requires_grad=True), torch.tensor(gallery)
    np.testing.assert_array_equal(k_reciprocal(*tensors), distances)


def test_a_nearly_collapsed_network_is_ranked_by_what_little_it_tells():
    query, gallery, *_ = people(15, 80, 9, 12, 0.8, seed=4)
    query, gallery = (np.column_stack([v * 1e-4, np.full(len(v), 100.0)]) for v in (query, gallery))
    np.testing.assert_allclose(k_reciprocal(query, gallery), dense(query, gallery), atol=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_collapsed_network_gets_the_worst_score(kind):
    vector = np.random.default_rng(0).random((1, 512)).astype(kind)
    ids = np.random.default_rng(1).permutation(np.repeat([5, 6], [20, 180]))
    distances = k_reciprocal(np.repeat(vector, 10, 0), np.repeat(vector, 200, 0), lambda_=1.0)
    scores = score_reid_distances(distances, np.full(10, 5), ids, np.ones(10, int), np.full(200, 2))
    assert set(scores.first_match) == {181}
    assert np.isfinite(k_reciprocal(np.repeat(vector, 10, 0), np.repeat(vector, 200, 0))).all()


def test_a_vector_of_zeros_is_as_far_as_an_orthogonal_one():
    query, gallery = np.array([[1.0, 0, 0]]), np.array([[0.0, 0, 0], [0, 1, 0], [1, 0.1, 0], [0, 0, 0]])
    distances = k_reciprocal(query, gallery, k1=2, k2=1, lambda_=1.0)
    assert distances[0].tolist() == pytest.approx([1, 1, (2 - 2 / np.sqrt(1.01)) / 2, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": [[0, np.nan]]}, "query holds NaN or infinity in 1 of 1 rows, first in row 0"),
        ({"gallery": np.empty((0, 2))}, "gallery has shape"),
        ({"gallery": np.eye(3)}, "query has 2 dimensions, gallery 3"),
        ({"query": [["a", "b"]]}, "expected real numbers"),
        ({"k1": 0}, "k1 and k2"),
        ({"k2": 0}, "k1 and k2"),
        ({"lambda_": 1.5}, "lambda_"),
        ({"lambda_": float("nan")}, "lambda_"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    good = {"query": np.eye(2), "gallery": np.eye(2)}
    k_reciprocal(**good)
    with pytest.raises(ValueError, match=message):
        k_reciprocal(**(good | change))
