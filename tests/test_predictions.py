"""What a study leaves for the bootstrap over test data, and what the report makes of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from report_data import ablation, answered, cub200, retrieval

from a3m import predictions
from a3m.errors import DataError
from a3m.record import runs
from a3m.report import predictions as reader
from a3m.report import results as r
from a3m.report.attributes import figure8
from a3m.report.statistics import bootstrap_means, middle
from a3m.report.table import MINUS


class Outputs(runs.Store):
    """A store that hands out predictions.parquet of a folder a run, as MLflow does, and counts how often."""

    def __init__(self, folder: Path):
        self.folder, self.fetched = folder, 0

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        self.fetched += 1
        path = self.folder / run_id / name
        return path if path.is_file() else None


@pytest.fixture
def packed(monkeypatch):
    """Packs of any task, without a file."""
    task = {"task": "classification"}
    monkeypatch.setattr(predictions, "Pack", lambda path: SimpleNamespace(description=task))
    return task


def finished(folder: Path, key: str, frame: pd.DataFrame, data: str = "d1") -> SimpleNamespace:
    (folder / key).mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / key / "predictions.parquet", index=False)
    return SimpleNamespace(trial=SimpleNamespace(key=key, data=data, pack="pack"), found=SimpleNamespace(run_id=key))


def classified(right: list[int]) -> pd.DataFrame:
    labels = np.arange(len(right)) % 2
    return pd.DataFrame(
        {"id": [f"{i}.jpg" for i in range(len(right))], "label": labels, "prediction": labels + 1 - right}
    )


def test_answers_of_all_trials_stand_in_one_file_and_make_equal_bytes_in_any_order(tmp_path, packed):
    trials = [finished(tmp_path, key, classified(right)) for key, right in (("b", [1, 0, 1]), ("a", [0, 0, 1]))]
    for name, order in (("x", trials), ("y", trials[::-1])):
        predictions.gather(Outputs(tmp_path), order, tmp_path / name)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    found = predictions.read(tmp_path / "x")
    assert list(found.trials) == ["a", "b"]
    assert found.trials["b"]["correct"].tolist() == [1, 0, 1]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.about["unit"] == "images"


def test_what_the_file_holds_is_not_fetched_again_and_what_was_not_asked_for_leaves_it(tmp_path, packed):
    first, second, third = (finished(tmp_path, key, classified([1, 0, 1])) for key in "abc")
    store, path = Outputs(tmp_path), tmp_path / "file"
    predictions.gather(store, [first, second], path)
    predictions.gather(store, [second, third], path)
    assert store.fetched == 3
    assert list(predictions.read(path).trials) == ["b", "c"]
    fresh = tmp_path / "fresh"
    predictions.gather(Outputs(tmp_path), [second, third], fresh)
    assert fresh.read_bytes() == path.read_bytes()


def test_answers_to_other_data_are_begun_anew(tmp_path, packed):
    path = tmp_path / "file"
    predictions.gather(Outputs(tmp_path), [finished(tmp_path, "a", classified([1, 0]))], path)
    predictions.gather(Outputs(tmp_path), [finished(tmp_path, "a", classified([0, 0, 0]), data="d2")], path)
    assert predictions.read(path).trials["a"]["correct"].tolist() == [0, 0, 0]


def test_a_run_without_predictions_or_with_other_images_is_left_out(tmp_path, packed):
    one = finished(tmp_path, "a", classified([1, 0, 1]))
    other = finished(tmp_path, "b", classified([1, 0]))
    gone = SimpleNamespace(trial=SimpleNamespace(key="c", data="d1", pack=""), found=SimpleNamespace(run_id="none"))
    predictions.gather(Outputs(tmp_path), [gone, other, one], tmp_path / "file")
    assert list(predictions.read(tmp_path / "file").trials) == ["a"]


@pytest.mark.parametrize("content", [b"", b"no file of arrays", None])
def test_a_file_that_cannot_be_read_is_written_anew(tmp_path, packed, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    predictions.gather(Outputs(tmp_path), [finished(tmp_path, "a", classified([1, 0, 1]))], path)
    assert list(predictions.read(path).trials) == ["a"]


def test_ranks_and_average_precision_are_kept_and_a_trial_without_re_ranking_has_none(tmp_path, packed):
    packed["task"] = "re-identification"
    frame = pd.DataFrame({"id": ["x", "y"], "label": [4, 9], "first_match": [1, 7], "average_precision": [1.0, 0.25]})
    reranked = {"first_match": [2, 3], "average_precision": [0.5, 1 / 3], "average_precision_trapezoid": [0.25, 0.25]}
    again = frame.assign(**{f"reranked.{name}": values for name, values in reranked.items()})
    trials = [finished(tmp_path, "a", frame), finished(tmp_path, "b", again)]
    predictions.gather(Outputs(tmp_path), trials, tmp_path / "file")
    found = predictions.read(tmp_path / "file")
    assert found.about["unit"] == "identities"
    assert set(found.trials["a"]) == {"first_match", "average_precision"}
    assert found.trials["b"]["reranked.first_match"].tolist() == [2, 3]
    np.testing.assert_allclose(found.trials["b"]["reranked.average_precision"], [0.5, 1 / 3], rtol=1e-7)
    assert found.trials["b"]["reranked.average_precision_trapezoid"].tolist() == [0.25, 0.25]


def with_attributes(hat: list[int], bag: list[int]) -> pd.DataFrame:
    """Answers about two attributes whose labels are 1, 1, 0 and, unlabelled in the first image, 2, 2."""
    said = {"attribute.hat": [1, 1, 0], "predicted.hat": hat, "attribute.bag": [-1, 2, 2], "predicted.bag": bag}
    return classified([1, 0, 1]).assign(**said)


def test_an_attribute_of_a_classification_is_right_wrong_or_without_a_label(tmp_path, packed):
    trials = [
        finished(tmp_path, "a", with_attributes([1, 0, 0], [2, 2, 0])),
        finished(tmp_path, "b", classified([1, 1, 1])),  # a method without attribute outputs
    ]
    predictions.gather(Outputs(tmp_path), trials, tmp_path / "file")
    found = predictions.read(tmp_path / "file")
    assert found.trials["a"]["attribute.hat"].tolist() == [1, 0, 1]
    assert found.trials["a"]["attribute.bag"].tolist() == [-1, 1, 0]
    assert set(found.trials["b"]) == {"correct"}


def test_a_file_of_before_attributes_were_kept_is_asked_for_anew_once_and_loses_nothing(tmp_path, packed, monkeypatch):
    path, store = tmp_path / "file", Outputs(tmp_path)
    trials = [finished(tmp_path, key, with_attributes([1, 0, 0], [2, 2, 0])) for key in "ab"]
    with monkeypatch.context() as earlier:
        earlier.setattr(predictions, "KEPT", "correct")
        earlier.setattr(predictions, "_attributes", lambda frame: {})
        predictions.gather(store, trials, path)
    assert set(predictions.read(path).trials["a"]) == {"correct"}
    (tmp_path / "b" / "predictions.parquet").unlink()  # the run has it no longer
    predictions.gather(store, trials, path)
    found = predictions.read(path).trials
    assert set(found["a"]) == {"correct", "attribute.hat", "attribute.bag"}
    assert set(found["b"]) == {"correct"}
    fetched = store.fetched
    predictions.gather(store, trials, path)
    assert store.fetched == fetched


def test_only_a_classification_is_asked_for_its_attributes(tmp_path, packed, monkeypatch):
    packed["task"] = "re-identification"
    monkeypatch.setattr(predictions, "FEW", 1)
    frame = pd.DataFrame({"id": ["x", "y"], "label": [4, 9], "first_match": [1, 7], "average_precision": [1.0, 0.25]})
    trials, store = [finished(tmp_path, key, frame) for key in "ab"], Outputs(tmp_path)
    predictions.gather(store, trials, tmp_path / "file")
    predictions.gather(store, trials[:1], tmp_path / "file")
    assert store.fetched == 2


def test_of_very_many_trials_attributes_are_not_kept(tmp_path, packed, monkeypatch):
    monkeypatch.setattr(predictions, "FEW", 1)
    path, store = tmp_path / "file", Outputs(tmp_path)
    trials = [finished(tmp_path, key, with_attributes([1, 0, 0], [2, 2, 0])) for key in "ab"]
    for asked, kept, fetched in (
        (trials[:1], {"correct", "attribute.hat", "attribute.bag"}, 1),
        (trials, {"correct"}, 2),
        (trials[1:], {"correct", "attribute.hat", "attribute.bag"}, 3),
    ):
        predictions.gather(store, asked, path)
        assert set(predictions.read(path).trials[asked[-1].trial.key]) == kept
        assert store.fetched == fetched


# --- what the report reads ----------------------------------------------------------------------------------------------


def written(path: Path, made: reader.Predictions, results: pd.DataFrame) -> Path:
    about = {"task": "", "unit": made.unit, "data": "d", "images": "i"}
    np.savez_compressed(path, about=json.dumps(about), keys=list(made.place), labels=np.arange(60) // 3, **made.arrays)
    return path


@pytest.mark.parametrize(
    ("results", "metric", "groups"),
    [(cub200(), "test/accuracy", 60), (ablation(), "test/rank5", 20), (ablation(), "test/mAP", 20),
     (retrieval(), "test/recall2", 20)],
)  # fmt: skip
def test_a_file_is_read_and_its_means_are_those_of_the_results(tmp_path, results, metric, groups):
    made, results = answered(results)
    found = reader.read(written(tmp_path / "s.predictions.npz", made, results), r.check(results))
    assert found.groups == groups
    key = results["key"][0]
    mean = np.nanmean(found.values(metric)[found.place[key]])
    assert mean == pytest.approx(results[metric][0], abs=1e-6)
    interval = found.interval([key], metric)
    assert interval.low < mean < interval.high


def test_answers_that_do_not_give_the_results_are_refused(tmp_path):
    made, results = answered(cub200())
    path = written(tmp_path / "cub200.predictions.npz", made, results)
    results.loc[3, "test/accuracy"] += 0.01
    with pytest.raises(
        DataError, match=rf"trial {results['key'][3]} has another test/accuracy .* python sweeps/cub200"
    ):
        reader.read(path, r.check(results))


@pytest.mark.parametrize("content", [b"", b"PK", b"text"])
def test_a_file_that_holds_no_arrays_is_refused_with_the_remedy(tmp_path, content):
    path = tmp_path / "cub200.predictions.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"python sweeps/cub200.py writes it anew"):
        reader.read(path, r.check(cub200()))


def test_without_a_file_or_without_trials_there_is_nothing_to_resample(tmp_path):
    assert reader.read(tmp_path / "none.npz", r.check(cub200())) is None
    path = tmp_path / "empty.predictions.npz"
    predictions.gather(Outputs(tmp_path), [], path)
    assert reader.read(path, r.check(cub200())) is None


def test_a_row_is_the_mean_of_its_trials_in_each_resample():
    made, results = answered(ablation())
    keys = list(results["key"][:3])
    values = np.nanmean([made.values("test/mAP")[made.place[key]] for key in keys], axis=0)
    expected = middle(bootstrap_means(values[:, None], made.groups_N)[:, 0])
    found = made.interval(keys, "test/mAP")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_skipped_queries_count_neither_as_right_nor_as_wrong():
    made = reader.Predictions(
        "identities",
        ["a"],
        np.array([1, 1, 2]),
        {
            "first_match": np.array([[1, 0, 2]], np.int32),
            "average_precision": np.array([[1.0, np.nan, 0.5]], np.float32),
        },
    )
    np.testing.assert_equal(made.values("test/rank1"), [[1.0, np.nan, 0.0]])
    assert made.interval(["a"], "test/rank1") == reader.Range(0.0, 1.0)


def test_a_metric_that_is_no_mean_over_images_has_no_interval():
    made, results = answered(retrieval())
    assert made.interval([results["key"][0]], "test/nmi") is None
    assert made.interval([results["key"][0]], "test/mAP") is None
    assert made.interval(["unknown"], "test/recall1") is None


def test_mcnemar_counts_the_images_that_one_network_alone_gets_right():
    correct = np.array([[1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1, 0]], np.int8)
    made = reader.Predictions("images", ["a", "b"], np.zeros(7, int), {"correct": correct})
    assert made.mcnemar(["a"], ["b"]) == [pytest.approx(2 / 32)]
    assert reader.Predictions("classes", ["a", "b"], np.zeros(7, int), {}).mcnemar(["a"], ["b"]) == []


# --- attributes ---------------------------------------------------------------------------------------------------------


def recognised(images: int = 400) -> tuple[reader.Predictions, dict[str, np.ndarray]]:
    """Two trials a method, two attributes, one of them labelled in half of the images."""
    generator = np.random.default_rng(3)
    labelled = generator.random(images) < 0.5
    arrays = {}
    for name, known in (("hat", np.ones(images, bool)), ("bag", labelled)):
        right = generator.random((4, images)) < np.array([0.6, 0.6, 0.8, 0.8])[:, None]
        arrays[f"attribute.{name}"] = np.where(known, right, -1).astype(np.int8)
    return reader.Predictions("images", list("abcd"), np.arange(images), arrays), arrays


def test_a_difference_of_attributes_is_bootstrapped_over_the_images_that_are_labelled():
    made, arrays = recognised()
    generator = np.random.default_rng(11)
    images = arrays["attribute.hat"].shape[1]
    plain = []
    for _ in range(2000):
        drawn = generator.integers(images, size=images)
        shares = []
        for name in ("hat", "bag"):
            answers = arrays[f"attribute.{name}"][:, drawn].astype(float)
            means = np.array([row[row >= 0].mean() for row in answers])
            shares.append(means[2:].mean() - means[:2].mean())
        plain.append(np.mean(shares))
    found = made.attributes_difference(["c", "d"], ["a", "b"], ["hat", "bag"])
    expected = middle(np.array(plain))
    assert found.low == pytest.approx(expected.low, abs=0.006)
    assert found.high == pytest.approx(expected.high, abs=0.006)
    swapped = made.attributes_difference(["a", "b"], ["c", "d"], ["bag", "hat"])
    assert swapped.low == pytest.approx(-found.high)
    bag = made.attributes_difference(["c", "d"], ["a", "b"], ["bag"])
    hat = made.attributes_difference(["c", "d"], ["a", "b"], ["hat"])
    assert bag.high - bag.low > 1.2 * (hat.high - hat.low)  # half the images


def test_an_attribute_that_a_trial_has_not_said_has_no_interval():
    made, arrays = recognised()
    assert made.attributes_difference(["c"], ["a"], ["hat", "beard"]) is None
    assert made.attributes_difference(["c"], ["e"], ["hat"]) is None
    arrays["attribute.bag"][0] = -1
    assert made.attributes_difference(["c"], ["a"], ["bag"]) is None
    assert made.attributes_difference(["c"], ["b"], ["bag"]) is not None


def test_attributes_that_do_not_give_the_results_are_refused(tmp_path):
    made, results = answered(cub200())
    for name in [str(column) for column in results if str(column).startswith(reader.ATTRIBUTE)]:
        right = np.random.default_rng(5).random((len(results), 60)) < 0.7
        made.arrays[f"attribute.{name.removeprefix(reader.ATTRIBUTE)}"] = right.astype(np.int8)
        results[name] = right.mean(axis=1)
        gone = made.arrays[f"attribute.{name.removeprefix(reader.ATTRIBUTE)}"]
    gone[1] = -1  # a trial whose run has its predictions no longer
    path = written(tmp_path / "s.predictions.npz", made, results)
    assert reader.read(path, r.check(results)) is not None
    results.loc[0, name] += 0.01
    with pytest.raises(DataError, match="another test/attribute/"):
        reader.read(path, r.check(results))


def test_figure_8_has_what_resampled_images_leave_open_where_answers_are_stored():
    made, results = answered(cub200())
    names = [
        str(column).removeprefix(reader.ATTRIBUTE) for column in results if str(column).startswith(reader.ATTRIBUTE)
    ]
    for place, name in enumerate(names):
        right = np.random.default_rng(place).random((len(results), 60)) < 0.7
        made.arrays[f"attribute.{name}"] = right.astype(np.int8)
        results[f"{reader.ATTRIBUTE}{name}"] = right.mean(axis=1)
    table = figure8(r.check(results), made)
    (head,) = [str(column) for column in table.display if str(column).endswith("Δ A3M, test images")]
    assert table.display[head].str.fullmatch(rf"[+{MINUS}]\d+\.\d to [+{MINUS}]\d+\.\d").all()
    row = table.numbers.iloc[-1]
    assert row[f"{head} from"] < row[head.removesuffix(", test images")] < row[f"{head} to"]
    without = figure8(r.check(results))
    assert not any("test images" in str(column) for column in without.display)
    assert any("not resampled" in remark for remark in without.remarks)
