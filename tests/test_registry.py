"""A study's best model in the registry: chosen on validation, once, under an alias; loaded through it."""

from pathlib import Path

import pytest
import tiny

from a3m import work
from a3m.identity import Trial
from a3m.plan import Planned
from a3m.record import registry, runs
from a3m.settings import Params


def planned(
    point: dict[str, object],
    seed: int,
    metrics: dict[str, float],
    *,
    state: str = "finished",
    train: dict | None = None,
) -> Planned:
    found = runs.Found(f"key{seed}", f"run{seed}{point}", runs.FINISHED, 0.0, 1.0, metrics, {})
    one = Trial({"train": train or {}}, "", "", "", "")
    return Planned(one, point, seed, f"{point} seed={seed}", state, found)


def test_the_settings_with_the_best_mean_win_and_of_them_the_best_run() -> None:
    study = [
        planned({"alpha": 0.1}, 0, {"val/mAP": 0.9}), planned({"alpha": 0.1}, 1, {"val/mAP": 0.1}),
        planned({"alpha": 0.5}, 0, {"val/mAP": 0.6}), planned({"alpha": 0.5}, 1, {"val/mAP": 0.7}),
    ]  # fmt: skip
    choice = registry.best(study)
    assert choice is not None
    assert choice.one is study[3]
    assert (choice.value, choice.mean, choice.seeds, choice.candidates) == (0.7, pytest.approx(0.65), 2, 2)


def test_the_test_never_chooses_nor_does_a_control_or_what_has_not_finished() -> None:
    tested = planned({}, 0, {"test/mAP": 1.0, "test/accuracy": 1.0})
    assert registry.best([tested]) is None
    said = registry.register(None, "ablation", [tested])  # type: ignore[arg-type]
    assert "no model registered" in said
    assert "only the test could choose" in said
    assert registry.best([planned({}, 0, {"val/mAP": 1.0}, state="failed")]) is None
    assert registry.best([planned({}, 0, {"val/mAP": 1.0}, train={"shuffle_attributes": True})]) is None


class Registered:
    """A store that notes which run's model is registered."""

    def register(self, name: str, run_id: str, alias: str, note: str, tags: dict[str, str]) -> str:
        self.said = (name, run_id, alias)
        return "1"


def test_of_a_searchs_winner_the_first_seed_is_registered_whatever_the_test_says() -> None:
    winner = {"alpha": 0.3}
    study = [
        planned({}, 0, {"test/mAP": 0.9}),
        planned(winner, 2, {"test/mAP": 0.8}),
        planned(winner, 1, {"test/mAP": 0.1}),
        planned(winner, 0, {"test/mAP": 1.0}, state="failed"),
    ]
    store = Registered()
    said = registry.register(store, "search", study, winner)  # type: ignore[arg-type]
    assert store.said == ("search", f"run1{winner}", "best")
    assert "not the best by the test" in said
    # The search has found the untuned settings: one trial, under the empty point.
    registry.register(store, "search", study[:1], winner)  # type: ignore[arg-type]
    assert store.said == ("search", "run0{}", "best")
    assert "no trial" in registry.register(store, "search", study[3:], winner)  # type: ignore[arg-type]


def project(root: Path, params: Params) -> tuple[runs.Store, str, dict[str, object]]:
    """A store, and what a worker is told to train one tiny trial."""
    tiny.write_pack(root)
    trial = tiny.make_trial(root, params)
    store = runs.open_store("", root)
    experiment = store.experiment("tiny", root)
    one = Planned(trial, {}, 0, "a3m seed=0", "new", None)
    return store, experiment, work.job_of(params, root, one, store.uri, experiment, "ablation", None)


def test_a_finished_trial_is_registered_once_and_loads_by_its_alias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    params = tiny.params(epochs=1, on="train")
    store, experiment, job = project(tmp_path, params)
    outcome = work.perform(job, lambda _: None)
    assert outcome["outcome"] == "finished", outcome
    trial = Trial(**job["trial"])  # type: ignore[arg-type]
    found = store.find(experiment)[trial.key]
    assert {item.path for item in store.client.list_artifacts(found.run_id, "model")} >= {
        "model/MLmodel",
        "model/artifacts",
    }
    assert '"artifact_path": "model"' in found.tags["mlflow.log-model.history"]
    study = [Planned(trial, {}, 0, "a3m seed=0", "finished", found)]
    for _ in range(2):
        said = registry.register(store, "ablation", study)
        assert said.startswith("model ablation version 1, alias best: a3m seed=0: val/accuracy")
    versions = store.client.search_model_versions("name = 'ablation'")
    assert [(str(version.version), version.run_id) for version in versions] == [("1", found.run_id)]
    assert "not by the test" in versions[0].description

    import mlflow

    mlflow.set_tracking_uri(store.uri)
    try:
        for uri in (f"runs:/{found.run_id}/model", "models:/ablation@best"):
            model = mlflow.pyfunc.load_model(uri)
            answer = model.predict(model.input_example)
            assert len(answer) == 1
            assert set(answer["attributes"][0]) == {"colour", "mark"}
    finally:
        mlflow.set_tracking_uri("")


def test_a_run_that_holds_no_model_is_not_registered(tmp_path: Path) -> None:
    store = runs.open_store("", tmp_path)
    run = store.client.create_run(store.experiment("tiny", tmp_path))
    assert store.register("ablation", run.info.run_id, "best", "", {}) is None
    assert not store.client.search_registered_models()
