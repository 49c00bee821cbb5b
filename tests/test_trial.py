"""A whole trial in one process: its metrics, what it leaves, and that what its key leaves out has no effect."""

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny
from safetensors.torch import load_file

from a3m import config, identity, points, settings, trial
from a3m.errors import DataError


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    tiny.write_pack(folder)
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    tiny.write_pack(folder, task="re-identification")
    return folder


def test_a_classification_trial_leaves_metrics_predictions_embeddings_and_weights(classes: Path) -> None:
    one = tiny.make_trial(classes)
    metrics = trial.train(one)
    assert {
        "test/accuracy",
        "test/loss",
        "test/attribute_mean",
        "test/attribute/colour",
        "test/attribute_majority/mark",
    } <= set(metrics)
    assert {
        "test/localisation_mean",
        "test/localisation_chance",
        "test/localisation_prior",
        "test/localisation/mark",
    } <= set(metrics)
    assert {"test/attention/region_mean", "test/attention/region_std"} <= set(metrics)
    predictions = pd.read_parquet(one.outputs / "predictions.parquet")
    assert len(predictions) == 12
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(metrics["test/accuracy"])
    assert predictions["id"][0] == "images/024.png"
    assert {"attribute.colour", "predicted.colour", "localised.colour"} <= set(predictions.columns)
    embeddings = load_file(one.outputs / "embeddings.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in embeddings.items()} == {
        "rows": (12,), "final": (12, 8), "category": (12, 8), "attribute": (12, 8),
    }  # fmt: skip
    assert json.loads((one.outputs / "settings.json").read_text())["key"] == one.key
    for name, digest in json.loads((one.outputs / "digests.json").read_text()).items():
        assert identity.file_digest(one.outputs / name) == digest
    assert "final_classifier.weight" in load_file(one.outputs / "weights.safetensors")


def test_a_re_identification_trial_scores_queries_against_the_gallery(people: Path) -> None:
    one = tiny.make_trial(people)
    metrics = trial.train(one)
    assert {"test/rank1", "test/rank20", "test/mAP", "test/mAP_trapezoid", "test/queries", "test/skipped"} <= set(
        metrics
    )
    predictions = pd.read_parquet(one.outputs / "predictions.parquet")
    assert len(predictions) == metrics["test/queries"] + metrics["test/skipped"] == 4
    assert predictions["average_precision"].mean() == pytest.approx(metrics["test/mAP"])


def test_trained_on_the_training_part_it_is_measured_on_the_validation_part_and_never_on_test_data(
    people: Path,
) -> None:
    one = tiny.make_trial(people, tiny.params(on="train", validate_every=1))
    reports: list[dict[str, float]] = []
    metrics = trial.train(one, lambda epoch, values: reports.append(dict(values)))
    assert "val/rank1" in metrics
    assert "val/rank1" in reports[0]
    assert not [name for name in {**metrics, **reports[0]} if name.startswith("test/")]


def test_the_same_trial_twice_gives_the_same_bytes(classes: Path) -> None:
    one = tiny.make_trial(classes, seed=5)
    first = trial.train(one)
    weights = identity.file_digest(one.outputs / "weights.safetensors")
    one.clear()
    assert trial.train(one) == first
    assert identity.file_digest(one.outputs / "weights.safetensors") == weights
    one.clear()
    assert not one.outputs.exists()


UNREAD = {
    "baseline1": (
        {"loss.alpha": 0.1, "loss.beta": 0.9},
        {"head.normalise_scores": True, "head.merge": "mean", "head.fuse": "concat"},
    ),
    "baseline2": ({"head.normalise_scores": False}, {"head.merge": "mean"}, {"baseline1.feature": "pooled"}),
    "att1": ({"baseline1.feature": "pooled"},),
    "att2": ({"head.merge": "mean"},),
    "a3m_unlabelled": ({"loss.beta": 0.9},),
    "a3m": ({"head.attend": "after_dropout"}, {"train.momentum": 0.1}),
}


@pytest.mark.parametrize("method", UNREAD)
def test_what_the_key_leaves_out_does_not_change_the_weights(classes: Path, method: str) -> None:
    """Each setting that trial_settings drops for a method is put to the builder and to the loss all the same."""
    base = points.varied(tiny.params(epochs=1), {"method": method}, config.methods())
    digests = set()
    for point in ({}, *UNREAD[method]):
        varied = points.varied(base, point, config.methods())
        one = tiny.make_trial(classes, varied)
        assert one.key == tiny.make_trial(classes, base).key, point
        full = {
            **one.settings,
            "head": settings.resolved_head(varied.head),
            "baseline1": {"feature": varied.baseline1.feature},
        }
        if method != "baseline1":
            full["loss"] = {**one.settings["loss"], "alpha": varied.loss.alpha}
        whole = trial.Trial(full, one.data, json.dumps(point), one.pack, one.state)
        if method == "baseline1":
            full["baseline1"]["feature"] = "category"
        trial.train(whole)
        digests.add(identity.file_digest(whole.outputs / "weights.safetensors"))
    assert len(digests) == 1


def test_a_trial_on_other_data_than_planned_does_not_start(classes: Path) -> None:
    one = tiny.make_trial(classes)
    other = trial.Trial(one.settings, "0" * 64, one.code, one.pack, one.state)
    with pytest.raises(DataError, match="its digest is"):
        trial.train(other)
    assert not other.outputs.exists()
