"""MLflow as the lab book: what a trial and a study leave there for a reader, in a real store and out of real trials."""

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image
from safetensors.numpy import load_file

from a3m import config, plan, samples, settings, study, trial, work
from a3m.data.loaders import parts
from a3m.data.pack import Pack
from a3m.plan import Planned
from a3m.record import inputs, notes, recording, registry, runs, shown
from a3m.report import samples as reader


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh sqlite store: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("store")
    runs.open_store("", folder)
    return folder / "mlflow.db"


def project_in(root: Path, empty_store: Path, task: str = "classification") -> Path:
    shutil.copy(empty_store, root)
    folder = root / "data" / "prepared" / "tiny"
    tiny.write_pack(folder, task=task)
    for path in (folder / "packed").iterdir():
        path.rename(folder / path.name)
    return root


def params(**train: object) -> settings.Params:
    result = tiny.params(epochs=2, **train)
    result.ablation.seeds = [0, 1]
    return result


def of_method(name: str, **train: object) -> settings.Params:
    result = params(**train)
    result.method = dataclasses.replace(config.methods()[name])
    return result


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[Path, Any, runs.Store]:
    """A project with one trial that `a3m train` has finished, its run and the store."""
    project = project_in(tmp_path_factory.mktemp("project"), empty_store)
    outcome = work.train_one(params(), project)
    assert outcome["outcome"] == "finished"
    store = runs.open_store("", project)
    return project, store.client.get_run(outcome["run"]), store


# --- a trial ------------------------------------------------------------------------------------------------------------


def test_a_trial_says_in_words_what_it_was_and_what_came_out(recorded: tuple[Path, Any, runs.Store]) -> None:
    _, run, _ = recorded
    note = run.data.tags[runs.NOTE]
    assert run.info.run_name == "a3m seed=0"
    assert note.startswith("**A3M** (`a3m seed=0`) on tiny (synthetic twin")
    assert "seed 0: 2 epochs on train+val, measured on the test data" in note
    assert f"{100 * run.data.metrics['test/accuracy']:.1f} %" in note
    assert "shown" not in run.data.tags, "everything was drawn"
    assert float(run.data.tags["images_per_second"]) > 0


def test_a_trial_that_has_not_finished_says_so(tmp_path: Path, empty_store: Path) -> None:
    project = project_in(tmp_path, empty_store)
    one = params()
    one.train.learning_rate = 1e30
    assert work.train_one(one, project)["outcome"] == "failed"
    store = runs.open_store("", project)
    (found,) = store.find(store.experiment("tiny", project)).values()
    assert found.tags[runs.NOTE].endswith("2 epochs on train+val, not finished.")


def test_names_of_metrics_have_one_scheme_and_steps_are_epochs(recorded: tuple[Path, Any, runs.Store]) -> None:
    _, run, store = recorded
    assert {name.partition("/")[0] for name in run.data.metrics} == {"train", "test", "model"}
    assert recording.SPEED not in run.data.metrics
    for name, steps in (("train/loss", [1, 2]), ("test/accuracy", [2]), ("model/parameters", [2])):
        assert [point.step for point in store.client.get_metric_history(run.info.run_id, name)] == steps


def test_settings_are_parameters_under_their_paths_with_plain_values(recorded: tuple[Path, Any, runs.Store]) -> None:
    project, run, _ = recorded
    one = plan.make_trial(params(), project, 0)
    assert run.data.params == {path: str(value) for path, value in recording.flat(one.settings).items()}
    assert float(run.data.params["loss.alpha"]) == 0.5
    assert float(run.data.params["train.learning_rate"]) == 3e-3


def test_the_data_are_inputs_with_their_version_and_counts(recorded: tuple[Path, Any, runs.Store]) -> None:
    project, run, store = recorded
    given = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert set(given) == {"tiny train+val", "tiny test"}
    contexts = {name: {tag.key: tag.value for tag in one.tags} for name, one in given.items()}
    assert contexts["tiny train+val"] == {"mlflow.data.context": "training"}
    assert contexts["tiny test"] == {"mlflow.data.context": "testing"}
    for one in given.values():
        assert run.data.tags["data"].startswith(one.dataset.digest)
        assert len(one.dataset.digest) == 36
    profile = json.loads(given["tiny train+val"].dataset.profile)
    assert profile == {"num_rows": 24, "classes": 4, "attributes": 2, "data": "synthetic twin"}
    assert json.loads(given["tiny test"].dataset.profile)["num_rows"] == 12
    from mlflow.data.schema import TensorDatasetSchema

    schema = TensorDatasetSchema.from_dict(json.loads(given["tiny test"].dataset.schema))
    assert schema.features.inputs[0].shape == (-1, 18, 18, 3)
    assert schema.targets.input_names() == ["label", "attribute.colour", "attribute.mark"]
    # Logged again, and again after the row of the data set was made by another run: still two.
    described = inputs.describe(
        Pack(project / "data/prepared/tiny/pack.safetensors"), run.data.tags["data"], "train+val"
    )
    store.inputs(run.info.run_id, described)
    assert len(store.client.get_run(run.info.run_id).inputs.dataset_inputs) == 2


def test_the_parts_of_re_identification_are_inputs_of_their_own(tmp_path: Path) -> None:
    tiny.write_pack(tmp_path, task="re-identification", images=36)
    pack = Pack(tmp_path / "packed" / "pack.safetensors")
    for on, names, context in (
        ("train+val", ["tiny train+val", "tiny query", "tiny gallery"], "testing"),
        ("train", ["tiny train", "tiny val query", "tiny val gallery"], "validation"),
    ):
        found = inputs.describe(pack, "f" * 64, on)
        assert [one["name"] for one in found] == names
        assert [one["context"] for one in found] == ["training", context, context]
        rows = parts(pack, on)
        assert [json.loads(one["profile"])["num_rows"] for one in found] == [
            len(rows.train), len(rows.test["query"]), len(rows.test["gallery"])
        ]  # fmt: skip
        assert json.loads(found[0]["profile"])["identities"] == len(np.unique(pack.label[rows.train]))


def test_a_race_for_the_row_of_a_data_set_is_run_again(
    recorded: tuple[Path, Any, runs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    project, run, store = recorded
    described = inputs.describe(Pack(project / "data/prepared/tiny/pack.safetensors"), "other" * 8, "train+val")
    real, calls = MlflowClient.log_inputs, []

    def racing(self: MlflowClient, *given: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise MlflowException("UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest")
        real(self, *given, **named)

    monkeypatch.setattr(MlflowClient, "log_inputs", racing)
    child = store.client.create_run(run.info.experiment_id).info.run_id
    store.inputs(child, described)
    assert len(store.client.get_run(child).inputs.dataset_inputs) == 2
    store.end(child, runs.FINISHED)


# --- what is looked at --------------------------------------------------------------------------------------------------


def artifacts_of(run: Any) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def test_few_small_artifacts_that_say_what_the_trial_said(recorded: tuple[Path, Any, runs.Store]) -> None:
    _, run, store = recorded
    folder = artifacts_of(run)
    assert {item.path for item in store.client.list_artifacts(run.info.run_id)} == {
        "model", "shown", "predictions.parquet", "embeddings.safetensors", "attention.safetensors", "settings.json", "digests.json",
    }  # fmt: skip
    names = {path.name for path in (folder / "shown").iterdir()}
    assert names >= {"ranked.png", "attention.png", "confused.csv", "attributes.csv"}
    assert sum(path.stat().st_size for path in (folder / "shown").iterdir()) < 500_000
    digests = json.loads((folder / "digests.json").read_text())
    assert {f"shown/{name}" for name in names} <= set(digests)

    accuracies = pd.read_csv(folder / "shown" / "attributes.csv").set_index("attribute")
    assert list(accuracies.index) == ["colour", "mark"]
    for name in accuracies.index:
        assert accuracies["accuracy"][name] == pytest.approx(run.data.metrics[f"test/attribute/{name}"], abs=1e-4)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    wrong = predictions[predictions["label"] != predictions["prediction"]]
    table = pd.read_csv(folder / "shown" / "confused.csv")
    assert table["times"].sum() == len(wrong)
    assert list(table["times"]) == sorted(table["times"], reverse=True)
    for pair in table.itertuples():
        assert pair.times == ((wrong["label"] == pair.label) & (wrong["prediction"] == pair.prediction)).sum()
        assert pair.of == (predictions["label"] == pair.label).sum()
    assert ("confused.png" in names) == bool(len(wrong))


def of_trial(folder: Path, method: str, task: str) -> tuple[shown.Tested, Path]:
    tiny.write_pack(folder, task=task, images=36)
    one = tiny.make_trial(folder, of_method(method))
    metrics = trial.train(one)
    return shown._read(one.outputs, Pack(Path(one.pack)), metrics), one.outputs


def test_ranked_lists_follow_the_protocol_and_mark_right_and_wrong(tmp_path: Path) -> None:
    found, outputs = of_trial(tmp_path, "a3m", "re-identification")
    pack = found.pack
    queries = len(found.predictions)
    known = {shown._image(pack, row).tobytes(): row for row in range(len(pack))}
    assert len(known) == len(pack)
    lists = shown.ranked(found)
    assert len(lists) == shown.QUERIES
    nearest = found.predictions.set_index("id")["nearest"]
    for first, *others in lists:
        query = known[first.image.tobytes()]
        assert query in found.rows[:queries]
        rows = [known[tile.image.tobytes()] for tile in others]
        assert set(rows) <= set(found.rows[queries:]), "the gallery alone"
        for row, tile in zip(rows, others, strict=True):
            assert (pack.label[row], pack.camera[row]) != (pack.label[query], pack.camera[query])
            assert tile.right == (pack.label[row] == pack.label[query])
        assert pack.names[rows[0]] == nearest[pack.names[query]], "as the trial itself was scored"
    rights = [bool(found.right[list(found.rows).index(known[row[0].image.tobytes()])]) for row in lists]
    assert 0 < sum(rights) < len(rights) or found.right.all() or not found.right.any()
    assert shown.write(outputs, pack, {}) == ""
    assert shown.files(found) == shown.files(found), "equal bytes"


@pytest.mark.parametrize(
    ("method", "task"), [("baseline1", "classification"), ("npair", "retrieval"), ("bilinear", "classification")]
)
def test_what_a_method_has_not_is_left_out(tmp_path: Path, method: str, task: str) -> None:
    tiny.write_pack(tmp_path, task=task)
    one_params = of_method(method)
    one_params.method.images_per_class = min(one_params.method.images_per_class, 2)
    one = tiny.make_trial(tmp_path, one_params)
    metrics = trial.train(one)
    assert shown.write(one.outputs, Pack(Path(one.pack)), metrics) == ""
    names = {path.name for path in (one.outputs / "shown").iterdir()}
    assert "ranked.png" in names
    assert not {"attention.png", "attributes.csv"} & names


def test_pictures_stay_small_whatever_the_images_hold() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (shown.LONGEST, shown.LONGEST, 3), dtype=np.uint8)
    tiles = [[shown.Tile(noise, "words", True)] * (shown.NEAREST + 1)] * shown.QUERIES
    content = shown._png(shown.drawing.sheet(tiles))
    assert len(content) <= shown.LARGEST
    Image.open(io.BytesIO(content)).load()


def test_right_and_wrong_differ_without_colour() -> None:
    grey = np.full((40, 40, 3), 128, np.uint8)
    marks = [
        np.asarray(shown.drawing.sheet([[shown.Tile(grey, "", right)]]).convert("L")) > 200 for right in (True, False)
    ]
    assert (marks[0] != marks[1]).sum() > 20, "a tick and a cross, and frames of different width"


def test_a_picture_that_cannot_be_drawn_is_told_and_fails_no_trial(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_in(tmp_path, empty_store)

    def broken(tested: shown.Tested) -> None:
        raise ValueError("no such picture")

    monkeypatch.setattr(shown, "attention", broken)
    outcome = work.train_one(params(), project)
    assert outcome["outcome"] == "finished"
    store = runs.open_store("", project)
    run = store.client.get_run(outcome["run"])
    assert run.data.tags["shown"] == "not drawn: ValueError: no such picture"
    assert "shown" not in {item.path for item in store.client.list_artifacts(run.info.run_id)}


def test_no_class_with_three_images_is_nothing_to_show(tmp_path: Path) -> None:
    pack = tiny.write_pack(tmp_path, images=12)  # six test images of four classes
    one = tiny.make_trial(tmp_path, params())
    trial.train(one)
    found = runs.Found(one.key, "run", runs.FINISHED, 0.0, 1.0, {}, {})
    stored = load_file(one.outputs / "embeddings.safetensors")
    assert len(stored["rows"]) == 6, pack

    class Outputs(runs.Store):
        def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
            return one.outputs / name

    path = tmp_path / "few.samples.npz"
    samples.gather(Outputs(""), [Planned(one, {"method": "a3m"}, 0, "a3m seed=0", "finished", found)], "twins", path)
    with pytest.raises(reader.NothingToShow, match="embedding_final"):
        reader.read(path).need("embedding_final", figure="figure4")


# --- speed --------------------------------------------------------------------------------------------------------------


def test_the_speed_outlives_a_kill_after_the_last_epoch(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_in(tmp_path, empty_store)
    with monkeypatch.context() as first:
        first.setattr(shown, "write", lambda *_: (_ for _ in ()).throw(MemoryError()))  # as good as killed
        with pytest.raises(MemoryError):
            work.train_one(params(), project)
    outcome = work.train_one(params(), project)
    assert outcome["outcome"] == "finished"
    run = runs.open_store("", project).client.get_run(outcome["run"])
    assert float(run.data.tags["images_per_second"]) > 0, "no epoch was trained by the second attempt"


# --- a study ------------------------------------------------------------------------------------------------------------

SPACE = [{"method": "baseline1"}, {"method": "a3m"}]


@pytest.mark.cluster
def test_a_study_is_a_run_that_says_what_it_was_and_where_its_trials_are(tmp_path: Path, empty_store: Path) -> None:
    project = project_in(tmp_path, empty_store)
    study.run(params(), project, "ablation", SPACE)
    store = runs.open_store("", project)
    experiment = store.experiment("tiny", project)
    about = store.client.get_experiment(experiment).tags[runs.NOTE]
    assert "**tiny** (synthetic twin" in about
    assert "| train&emsp;| 24&emsp;| 4 |" in about
    assert store.client.get_experiment(experiment).tags[runs.KIND] == "custom_model_development"
    (parent,) = store.find(experiment, "study").values()
    run = store.client.get_run(parent.run_id)
    note = run.data.tags[runs.NOTE]
    table = pd.read_csv(project / "results" / "ablation.csv")
    a3m = 100 * table.loc[table["method"] == "a3m", "test/accuracy"]
    assert f"| a3m&emsp;| 2&emsp;| {a3m.mean():.1f} ± {a3m.std():.1f} %" in note
    assert "4 trials, 4 finished" in note
    assert "No model registered: these trials train on all training data" in note
    assert not store.client.search_registered_models()
    found = store.client.search_runs([experiment], notes.found_by("ablation"))
    assert {one.info.run_name for one in found} == {f"{m} seed={s}" for m in ("a3m", "baseline1") for s in (0, 1)}
    assert notes.found_by("ablation") in note
    assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"tiny train+val", "tiny test"}
    planned = pd.read_csv(artifacts_of(run) / "plan.csv")
    assert set(planned["key"]) == set(table["key"])
    assert set(planned["state"]) == {"new"}

    # Another study with a trial of this one: found by both, trained once.
    other = params()
    other.cub200.seeds = [0]
    study.run(other, project, "cub200", [{"method": "a3m"}])
    again = store.client.search_runs([experiment], notes.found_by("cub200"))
    assert [one.info.run_name for one in again] == ["a3m seed=0"]
    assert len(store.find(experiment)) == 4
    assert (artifacts_of(run) / "plan.csv").read_text().count(",new,") == 4


@pytest.mark.cluster
def test_the_best_by_validation_is_registered_once_and_loads(tmp_path: Path, empty_store: Path) -> None:
    import mlflow.pyfunc

    project = project_in(tmp_path, empty_store)
    one = params(on="train")
    for _ in range(2):
        study.run(one, project, "ablation", SPACE)
    store = runs.open_store("", project)
    version = store.client.get_model_version_by_alias("ablation", registry.ALIAS)
    assert version.version in (1, "1")
    assert len(store.client.search_model_versions("name = 'ablation'")) == 1
    table = pd.read_csv(project / "results" / "ablation.csv")
    means = table.groupby("method")["val/accuracy"].mean()
    tags = store.client.get_run(version.run_id).data.tags
    assert means[tags["method"]] == means.max()
    where = pd.read_csv(project / "results" / "ablation.runs.csv")
    assert version.run_id in set(where["run_id"])
    mlflow.set_tracking_uri(store.uri)
    model = mlflow.pyfunc.load_model(f"runs:/{version.run_id}/model")
    assert len(model.predict(model.input_example)["embedding"][0]) > 0
    (parent,) = store.find(store.experiment("tiny", project), "study").values()
    assert "Model ablation version 1, alias best" in parent.tags[runs.NOTE]


def test_a_long_outcome_is_cut_to_what_mlflow_keeps(tmp_path: Path) -> None:
    tiny.write_pack(tmp_path)
    one = tiny.make_trial(tmp_path, params())
    found = runs.Found(one.key, "run", runs.FINISHED, 0.0, 1.0, {"test/accuracy": 0.5}, {})
    planned = [
        Planned(one, {"method": "a3m", "loss.alpha": n / 1000}, 0, f"a3m alpha={n / 1000} seed=0", "finished", found)
        for n in range(1000)
    ]
    note = notes.study(params(), "ablation", planned, "1")
    assert len(note) < 8000
    assert "1000 trials, 1000 finished" in note
    assert "rows more" in note
