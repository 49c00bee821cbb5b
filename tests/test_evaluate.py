"""The protocols: metric names, predictions row by row, and a model's outputs gathered batch by batch."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from a3m.evaluate import (
    Moments,
    attribute_columns,
    attributes,
    classify,
    collect,
    localise_attributes,
    re_identify,
    rerank_identify,
    retrieve,
)
from a3m.metrics.clustering import nmi
from a3m.metrics.localisation import cells_in_regions, localise
from a3m.metrics.ranking import recall_at_k, score_reid, score_reid_distances

SIZES = (3, 2)  # values of two attributes
MAP = (4, 2)


class Batch(NamedTuple):
    images: Tensor
    labels: Tensor
    attributes: Tensor
    cameras: Tensor
    index: Tensor


class Attention(NamedTuple):
    scores: Tensor | None
    region: Tensor
    attribute: Tensor
    map_size: tuple[int, int]


class Output(NamedTuple):
    category: Tensor | None
    attributes: list[Tensor]
    final: Tensor | None
    embedding: Tensor
    category_embedding: Tensor
    attribute_embedding: Tensor | None
    attention: Attention | None

    @property
    def logits(self) -> Tensor | None:
        return self.category if self.final is None else self.final


class Numbers(torch.nn.Module):
    """Every output is a slice of the image's own numbers, so that a test knows what must come out."""

    def __init__(self, attends: bool = True, scores: bool = True, classifies: bool = True) -> None:
        super().__init__()
        self.dropout, self.attends, self.scores, self.classifies = torch.nn.Dropout(0.5), attends, scores, classifies

    def forward(self, images: Tensor) -> Output:
        assert not torch.is_grad_enabled()
        flat = self.dropout(images).flatten(1)
        parts = torch.split(flat[:, :64], [5, 5, 6, 6, 6, *SIZES, 16, 8, 2, 5], dim=1)
        category, final, embedding, v, a, first, second, scores, region, weights, _ = parts
        if not self.attends:
            return Output(category if self.classifies else None, [], None, v, v, None, None)
        attention = Attention(
            scores.unflatten(1, (2, 8)) if self.scores else None, region.sigmoid(), weights.sigmoid(), MAP
        )
        return Output(category, [first, second], final, embedding, v, a, attention)


def images(number: int) -> Tensor:
    return torch.randn(number, 3, 6, 4, generator=torch.Generator().manual_seed(0))


def batches(all_images: Tensor, size: int) -> Iterator[Batch]:
    rng = np.random.default_rng(0)
    n = len(all_images)
    labels = torch.from_numpy(rng.integers(0, 5, n))
    attribute_labels = torch.from_numpy(rng.integers(-1, 2, (n, 2)))
    for start in range(0, n, size):
        part = slice(start, start + size)
        index = torch.arange(100, 100 + n)[part]
        yield Batch(all_images[part], labels[part], attribute_labels[part], index % 6, index)


def random_regions(number: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    regions = np.sort(rng.random((number, 2, 2, 2)), axis=2).reshape(number, 2, 4)
    regions[rng.random((number, 2)) < 0.2] = np.nan
    return regions


# --- collect ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 11])
def test_collected_arrays_are_the_models_outputs_in_the_order_of_the_batches(size):
    pictures, regions = images(11), random_regions(11)
    flat = pictures.flatten(1).numpy()
    collected = collect(Numbers(), batches(pictures, size), "cpu", regions=regions)
    assert collected.index.tolist() == list(range(100, 111))
    assert collected.cameras.tolist() == [i % 6 for i in range(100, 111)]
    assert (collected.labels.shape, collected.attributes.shape) == ((11,), (11, 2))
    np.testing.assert_array_equal(collected.logits, flat[:, 5:10])
    np.testing.assert_array_equal(collected.embedding, flat[:, 10:16])
    np.testing.assert_array_equal(collected.category_embedding, flat[:, 16:22])
    np.testing.assert_array_equal(collected.attribute_embedding, flat[:, 22:28])
    predictions = np.stack([flat[:, 28:31].argmax(1), flat[:, 31:33].argmax(1)], axis=1)
    np.testing.assert_array_equal(collected.attribute_predictions, predictions)
    weights = {"region": 1 / (1 + np.exp(-flat[:, 49:57])), "attribute": 1 / (1 + np.exp(-flat[:, 57:59]))}
    expected = {f"attention/{name}_mean": w.mean() for name, w in weights.items()}
    expected |= {f"attention/{name}_std": w.std() for name, w in weights.items()}
    assert collected.attention == pytest.approx(expected, rel=1e-6)
    inside = cells_in_regions(regions, MAP)
    hits = localise(flat[:, 33:49].reshape(11, 2, 8), inside, inside.any(axis=2))
    np.testing.assert_array_equal(collected.localisation_hits, hits)
    assert collected.map_size == MAP


def test_without_attention_or_regions_nothing_is_made_up():
    plain = collect(Numbers(attends=False), batches(images(5), 2), torch.device("cpu"), regions=random_regions(5))
    assert plain.attribute_embedding is plain.attribute_predictions is plain.localisation_hits is plain.map_size is None
    assert plain.attention == {}
    np.testing.assert_array_equal(plain.logits, images(5).flatten(1)[:, :5])
    collected = collect(Numbers(), batches(images(5), 2), "cpu", keep_logits=False)
    assert collected.logits is collected.localisation_hits is None
    assert collected.map_size == MAP


def test_the_model_is_tested_in_evaluation_mode_and_gets_its_mode_back():
    model = Numbers()
    for training in (True, False):
        model.train(training)
        collected = collect(model, batches(images(5), 2), "cpu")  # dropout would change what comes out
        np.testing.assert_array_equal(collected.embedding, images(5).flatten(1)[:, 10:16])
        assert model.training is training
    model.train()
    with pytest.raises(ValueError, match="NaN"):
        collect(model, batches(images(5) * np.nan, 2), "cpu")
    assert model.training


def test_collect_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="no images"):
        collect(Numbers(), [], "cpu")
    with pytest.raises(ValueError, match="regions of 6 images for 5"):
        collect(Numbers(), batches(images(5), 2), "cpu", regions=random_regions(6))
    with pytest.raises(ValueError, match="regions of 4 images for 5"):
        collect(Numbers(), batches(images(5), 2), "cpu", regions=random_regions(4))


@pytest.mark.parametrize("size", [1, 4, 11])
@pytest.mark.parametrize("asked", [[9, 3, 4], {9, 3, 4}, np.array([3, 4, 9], np.int32), torch.tensor([9, 4, 3, 3])])
def test_maps_of_the_chosen_images_are_kept_as_they_came(size, asked):
    flat = images(11).flatten(1).numpy()[[3, 4, 9]]
    collected = collect(Numbers(), batches(images(11), size), "cpu", keep_maps=asked)
    assert collected.maps_positions.tolist() == [3, 4, 9]
    np.testing.assert_array_equal(collected.maps_scores, flat[:, 33:49].reshape(3, 2, 8))
    np.testing.assert_allclose(collected.maps_weights, 1 / (1 + np.exp(-flat[:, 49:57])), rtol=1e-6)


def test_maps_are_none_when_not_asked_for_and_without_attention():
    for model, asked in ((Numbers(), None), (Numbers(attends=False), [1, 2])):
        collected = collect(model, batches(images(5), 2), "cpu", keep_maps=asked)
        assert collected.maps_positions is collected.maps_scores is collected.maps_weights is None
    equal = collect(Numbers(scores=False), batches(images(5), 2), "cpu", keep_maps=[4])
    assert (equal.maps_scores, equal.maps_weights.shape) == (None, (1, 8))
    none = collect(Numbers(), batches(images(5), 2), "cpu", keep_maps=[])
    assert (none.maps_positions.shape, none.maps_weights.shape) == ((0,), (0, 8))
    for asked, message in (([5], "holds 5: there are 5"), ([-1], "integers from 0"), ([0.5], "integers from 0")):
        with pytest.raises(ValueError, match=message):
            collect(Numbers(), batches(images(5), 2), "cpu", keep_maps=asked)


def test_a_network_that_compares_only_has_no_logits():
    collected = collect(Numbers(attends=False, classifies=False), batches(images(5), 2), "cpu")
    assert collected.logits is None
    np.testing.assert_array_equal(collected.embedding, images(5).flatten(1)[:, 16:22])


def test_moments_keep_their_digits_where_attention_is_saturated():
    rng = np.random.default_rng(0)
    values = 1 - 1e-9 * rng.random(10_000)
    moments = Moments()
    for block in np.split(values, [0, 1, 17, 4000]):
        moments.add(block)
    assert moments.mean == pytest.approx(values.mean(), rel=1e-15)
    assert moments.std == pytest.approx(values.std(), rel=1e-6)
    saturated = Moments()
    saturated.add(torch.ones(4, 3))
    saturated.add(torch.ones(2, 3))
    assert (saturated.mean, saturated.std) == (1.0, 0.0)
    assert math.isnan(Moments().std)


# --- classification -----------------------------------------------------------------------------------------------------


def test_classification_by_hand():
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    metrics, frame = classify(logits, [0, 1], ids=["a.png", "b.png"])
    assert metrics == {"accuracy": 0.5, "loss": pytest.approx((math.log(2) + math.log(10)) / 2)}
    assert list(frame.columns) == ["id", "label", "prediction", "loss"]
    assert frame["id"].tolist() == ["a.png", "b.png"]
    assert (frame["label"].tolist(), frame["prediction"].tolist()) == ([0, 1], [0, 2])
    assert frame["loss"].mean() == metrics["loss"]


def test_classification_loss_is_torchs_cross_entropy_and_does_not_overflow():
    logits, labels = torch.randn(50, 7, generator=torch.Generator().manual_seed(1)) * 500, torch.arange(50) % 7
    metrics, frame = classify(logits, labels)
    assert metrics["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits.double(), labels)))
    assert metrics["accuracy"] == (frame["label"] == frame["prediction"]).mean()
    assert frame["id"].tolist() == list(range(50))


def test_classification_refuses_bad_input():
    for logits, labels, ids, message in (
        (np.zeros((2, 2)), [0, 2], None, "labels hold 2"),
        (np.zeros((2, 2)), [0, -1], None, "labels hold -1"),
        (np.full((1, 2), np.nan), [0], None, "NaN"),
        (np.zeros((2, 2)), [0, 1], ["a"], "ids have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            classify(logits, labels, ids=ids)


# --- re-identification --------------------------------------------------------------------------------------------------


def test_re_identification_has_a_row_a_query():
    # Query 0 finds its match second (behind a distractor), query 1 has none and is skipped.
    query, gallery = np.eye(2), np.array([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9]])
    metrics, frame = re_identify(
        query, gallery, [5, 6], [0, 5, 6], [1, 1], [2, 2, 1], ids=["q0", "q1"], gallery_names=["g0", "g1", "g2"]
    )
    assert metrics == {
        "rank1": 0.0, "rank5": 1.0, "rank10": 1.0, "rank20": 1.0, "mAP": 0.5, "mAP_trapezoid": 0.25,
        "queries": 1.0, "skipped": 1.0,
    }  # fmt: skip
    assert frame.drop(columns=["average_precision", "average_precision_trapezoid"]).to_dict("records") == [
        {"id": "q0", "label": 5, "camera": 1, "prediction": 0, "nearest": "g0", "first_match": 2},
        {"id": "q1", "label": 6, "camera": 1, "prediction": 5, "nearest": "g1", "first_match": 0},
    ]
    np.testing.assert_array_equal(frame["average_precision"], [0.5, np.nan])
    np.testing.assert_array_equal(frame["average_precision_trapezoid"], [0.25, np.nan])


def test_undefined_shares_are_left_out_and_a_query_without_any_image_has_no_nearest():
    metrics, frame = re_identify(np.eye(2)[:1], np.eye(2)[:1], [5], [5], [1], [1])
    assert metrics == {"queries": 0.0, "skipped": 1.0}
    assert frame[["prediction", "nearest"]].isna().all(axis=None)


def test_re_identification_passes_the_distance_on():
    rng = np.random.default_rng(0)
    call = (
        rng.random((9, 2)), rng.random((30, 2)), rng.integers(1, 4, 9), rng.integers(0, 4, 30),
        rng.integers(1, 3, 9), rng.integers(1, 3, 30),
    )  # fmt: skip
    for distance in ("cosine", "euclidean"):
        expected = score_reid(*call, distance=distance)
        metrics, frame = re_identify(*call, distance=distance)
        assert (metrics["mAP"], metrics["mAP_trapezoid"]) == (expected.map_rectangular, expected.map_trapezoid)
        assert frame["nearest"].tolist() == expected.nearest.tolist()


def test_re_ranked_distances_are_scored_by_the_same_protocol():
    # The query finds its match second, behind a distractor; re-ranking puts it first; the second query is skipped.
    people = [5, 6], [0, 5, 6], [1, 1], [2, 2, 1]
    metrics, frame = rerank_identify([[0.5, 0.4, 0.9], [0.1, 0.2, 0.3]], *people, gallery_names=["g0", "g1", "g2"])
    assert metrics == {
        "reranked/rank1": 1.0, "reranked/rank5": 1.0, "reranked/rank10": 1.0, "reranked/rank20": 1.0,
        "reranked/mAP": 1.0, "reranked/mAP_trapezoid": 1.0,
    }  # fmt: skip
    assert frame["reranked.nearest"].tolist() == ["g1", "g0"]
    assert frame["reranked.first_match"].tolist() == [1, 0]
    for formula in ("", "_trapezoid"):
        np.testing.assert_array_equal(frame[f"reranked.average_precision{formula}"], [1, np.nan])
    rng = np.random.default_rng(0)
    people = rng.integers(1, 5, 9), rng.integers(-1, 5, 40), rng.integers(0, 3, 9), rng.integers(0, 3, 40)
    distances = rng.random((9, 40)).astype(np.float32)
    expected = score_reid_distances(distances, *people)
    metrics, frame = rerank_identify(distances, *people)
    assert (metrics["reranked/mAP"], metrics["reranked/rank5"]) == (expected.map_rectangular, expected.rank[5])
    assert metrics["reranked/mAP_trapezoid"] == expected.map_trapezoid
    assert frame["reranked.average_precision_trapezoid"].mean() == pytest.approx(expected.map_trapezoid)
    assert frame["reranked.nearest"].tolist() == expected.nearest.tolist()


# --- retrieval ----------------------------------------------------------------------------------------------------------


def test_retrieval_by_hand():
    degrees = np.radians([0, 2, 90, 93, 4])  # 4 degrees is of the second class, and nearest to 2
    embeddings = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
    metrics, frame = retrieve(embeddings, [7, 7, 8, 8, 8], ids=["a", "b", "c", "d", "e"], seed=0, ks=(1, 2, 4))
    assert metrics == {
        "recall1": 0.6, "recall2": 0.8, "recall4": 1.0, "nmi": pytest.approx(nmi(embeddings, [7, 7, 8, 8, 8], seed=0))
    }  # fmt: skip
    # b lies between a and e, equally far: the stranger comes first
    assert frame.to_dict("list") == {
        "id": ["a", "b", "c", "d", "e"], "label": [7, 7, 8, 8, 8], "nearest": ["b", "e", "d", "c", "b"],
        "prediction": [7, 8, 8, 8, 7], "first_match": [1, 2, 1, 1, 3], "hit1": [True, False, True, True, False],
        "hit2": [True, True, True, True, False], "hit4": [True] * 5,
    }  # fmt: skip


def test_retrievals_shares_are_the_means_of_its_rows():
    rng = np.random.default_rng(0)
    embeddings, labels = torch.tensor(rng.standard_normal((80, 4))), rng.integers(0, 30, 80)
    labels[0] = 99  # alone in its class: a miss
    metrics, frame = retrieve(embeddings, labels, seed=1)
    for k, share in recall_at_k(embeddings, labels).items():
        assert metrics[f"recall{k}"] == share == frame[f"hit{k}"].mean()
    assert frame["id"].tolist() == list(range(80))
    assert ((frame["prediction"] == frame["label"]) == frame["hit1"]).all()
    assert (frame.loc[0, "first_match"], frame.loc[0, "hit8"]) == (0, False)
    for arguments, message in (((embeddings, labels[:5]), "labels"), ((embeddings, labels * 0), "one class")):
        with pytest.raises(ValueError, match=message):
            retrieve(*arguments, seed=0)


# --- attributes ---------------------------------------------------------------------------------------------------------


def test_attribute_metrics_by_hand_leave_out_what_has_no_label():
    metrics = attributes(
        [[0, 1, 0], [1, 1, 0]], [[0, 0, -1], [1, 1, -1]], ["hat", "bag", "hair"], [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    )
    assert metrics == {
        "attribute/hat": 1.0, "attribute/bag": 0.5, "attribute_majority/hat": 0.5, "attribute_majority/bag": 0.5,
        "attribute_mean": 0.75,
    }  # fmt: skip


def test_accuracy_where_an_attribute_is_present_by_hand():
    predictions, labels = [[0, 1, 2], [0, 1, 0], [2, 0, 1]], [[0, 1, 2], [1, 1, -1], [2, 1, 2]]
    call = predictions, labels, ["hat", "bag", "hair"], labels
    plain, metrics = attributes(*call), attributes(*call, absent=[0, None, 2])
    # hat: of the two with a hat (1, 2) one is right; hair: all labelled ones are absent, so nothing is defined
    assert metrics == plain | {"attribute_labelled/hat": 0.5}
    assert plain["attribute/hat"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="2 entries for 3"):
        attributes(*call, absent=[0, None])


def test_localisation_metrics_by_hand():
    left, right = [0, 0, 0.5, 1], [0.5, 0, 1, 1]
    whole, unknown = [0, 0, 1, 1], [np.nan] * 4
    regions = np.array([[left, whole, unknown, left], [right, whole, unknown, unknown]])
    train = np.array([[left, left, left, unknown], [left, right, left, unknown], [right, right, left, unknown]])
    hits = np.array([[0.5, 1, np.nan, 1], [1.0, 1, np.nan, np.nan]])
    metrics = localise_attributes(hits, regions, train, ["hat", "bag", "hair", "shoe"], (1, 2))
    assert metrics == {
        "localisation/hat": 0.75, "localisation/bag": 1.0, "localisation/shoe": 1.0,
        "localisation_mean": pytest.approx(2.75 / 3),
        "localisation_chance": pytest.approx((0.5 + 1 + 0.5) / 3),
        "localisation_prior": pytest.approx((0.5 + 1 + 0.5) / 3),  # hat: left; bag: anywhere; shoe: no place, chance
    }  # fmt: skip


def test_hits_and_regions_must_be_of_the_same_images():
    regions = random_regions(8)
    inside = cells_in_regions(regions, MAP)
    hits = localise(np.zeros(inside.shape), inside, inside.any(axis=2))
    names = ["hat", "bag"]
    metrics = localise_attributes(hits, regions, regions, names, MAP)
    assert metrics["localisation_mean"] == pytest.approx(metrics["localisation_chance"])
    with pytest.raises(ValueError, match="not of the same images"):
        localise_attributes(hits[::-1], regions, regions, names, MAP)
    with pytest.raises(ValueError, match="hits have shape"):
        localise_attributes(hits[:3], regions, regions, names, MAP)


def test_attribute_columns_carry_kind_and_name():
    table = attribute_columns(["hat", "bag"], [[0, 1]], [[-1, 1]], [[np.nan, 1.0]])
    assert list(table.columns) == [
        f"{kind}.{name}" for kind in ("attribute", "predicted", "localised") for name in ("hat", "bag")
    ]
    assert table.loc[0, ["attribute.hat", "predicted.bag", "localised.bag"]].tolist() == [-1, 1, 1]
    assert len(attribute_columns(["hat"], [[0]], [[1]]).columns) == 2
