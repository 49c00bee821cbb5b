"""Studies on a real Ray and a real MLflow store: plan, reuse, failure, interruption. Each test says what it really does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tiny

from a3m import config, plan, points, settings, study, work
from a3m.errors import SettingsError, StoreError, UserError
from a3m.record import runs
from a3m.report import samples

SPACE = [{"method": "baseline1"}, {"method": "a3m"}, {"method": "a3m", "head.normalise_scores": False}]

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import tiny
from a3m import config, study
params = tiny.params(epochs={epochs})
params.ablation.seeds = [0, 1]
with config.user_errors():
    study.run(params, Path({root!r}), "ablation", [{{"method": "baseline1"}}, {{"method": "a3m"}}])
"""


def pack_into(root: Path) -> Path:
    """A tiny packed data set where a project has it."""
    folder = root / "data" / "prepared" / "tiny"
    tiny.write_pack(folder)
    for path in (folder / "packed").iterdir():
        path.rename(folder / path.name)
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return pack_into(tmp_path)


def params(**train: object) -> settings.Params:
    result = tiny.params(**train)
    result.ablation.seeds = [0, 1]
    return result


def all_runs(project: Path) -> list[runs.Found]:
    store = runs.open_store("", project)
    found = store.client.search_runs([store.experiment("tiny", project)], max_results=1000)
    return [runs.Found("", r.info.run_id, r.info.status, 0, 0, dict(r.data.metrics), dict(r.data.tags)) for r in found]


def trials(project: Path) -> list[runs.Found]:
    return [run for run in all_runs(project) if "key" in run.tags]


@pytest.mark.cluster
def test_a_study_is_trained_once_and_its_results_are_a_function_of_its_runs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study.run(params(), project, "ablation", SPACE)
    first = (project / "results" / "ablation.csv").read_bytes()
    table = pd.read_csv(project / "results" / "ablation.csv")
    assert len(table) == 6
    assert set(table["status"]) == {"finished"}
    assert table["test/accuracy"].between(0, 1).all()
    assert table.loc[table["method"] == "baseline1", "head.normalise_scores"].isna().all()
    where = pd.read_csv(project / "results" / "ablation.runs.csv")
    assert set(where["key"]) == set(table["key"])
    assert where["images_per_second"].astype(float).gt(0).all(), "the page's cost and a plan's rate come from here"
    assert table["model/parameters"].gt(0).all()
    shown = samples.read(project / "results" / "ablation.samples.npz")
    assert (shown.method, shown.seed) == ("a3m", 0)
    assert shown.key in set(table["key"])
    capsys.readouterr()

    study.run(params(), project, "ablation", SPACE)
    said = capsys.readouterr().out
    assert "6 finished, reused" in said
    assert "to be trained" not in said
    assert (project / "results" / "ablation.csv").read_bytes() == first
    assert len(trials(project)) == 6
    (parent,) = (run for run in all_runs(project) if run.tags.get("study") == "ablation")
    assert parent.status == runs.FINISHED
    store = runs.open_store("", project)
    ended = store.client.get_run(parent.run_id).info.end_time
    study.run(params(), project, "ablation", SPACE)
    assert store.client.get_run(parent.run_id).info.end_time == ended, "a study with nothing to train keeps its time"
    for run in trials(project):
        assert run.status == runs.FINISHED
        assert run.tags["mlflow.parentRunId"] == parent.run_id
        assert {"key", "data", "code", "dataset", "method", "seed", "host", "study.ablation", "version.torch"} <= set(
            run.tags
        )

    store = runs.open_store("", project)
    a3m = next(run for run in trials(project) if run.tags["method"] == "a3m")
    history = store.client.get_metric_history(a3m.run_id, "train/region_mean")
    assert [point.step for point in history] == [1, 2]
    names = {item.path for item in store.client.list_artifacts(a3m.run_id)}
    assert names == {
        "model",
        "shown",
        "predictions.parquet",
        "embeddings.safetensors",
        "attention.safetensors",
        "settings.json",
        "digests.json",
    }
    assert store.client.get_run(a3m.run_id).data.params["loss.alpha"] == "0.5"
    assert not list((project / ".a3m" / "state" / "checkpoints").glob("*/*")), "what is recorded is not kept twice"

    # One trial alone, without Ray: same code, same key, same run.
    alone = points.varied(params(), {"method": "a3m"}, config.methods())
    outcome = work.train_one(alone, project)
    assert outcome["run"] == where.set_index("name").loc["a3m seed=0", "run_id"]
    assert len(trials(project)) == 6


@pytest.mark.cluster
def test_a_failed_trial_does_not_stop_the_others_and_is_not_repeated_unasked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = [{"method": "baseline1"}, {"method": "baseline1", "train.learning_rate": 1e30}]
    one = params()
    one.ablation.seeds = [0]
    with pytest.raises(UserError, match=r"(?s)1 of 2 trials of ablation did not finish.*the loss is .* in epoch"):
        study.run(one, project, "ablation", space)
    table = pd.read_csv(project / "results" / "ablation.csv")
    assert sorted(table["status"]) == ["failed", "finished"]
    assert sorted(run.status for run in trials(project)) == [runs.FAILED, runs.FINISHED]
    capsys.readouterr()
    with pytest.raises(UserError, match="retry_failed=true"):
        study.run(one, project, "ablation", space)
    assert "1 failed before, left alone" in capsys.readouterr().out
    one.partial = True
    study.run(one, project, "ablation", space)
    assert len(trials(project)) == 2


def start(project: Path, epochs: int) -> subprocess.Popen[str]:
    """The driver as a process group of its own, as a shell would start it."""
    code = SCRIPT.format(tests=str(Path(__file__).parent), root=str(project), epochs=epochs)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_checkpoint(project: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not [path for path in project.glob(".a3m/state/checkpoints/*/*.pt") if int(path.name[:6]) >= 3]:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


EPOCHS = 8


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """results/ablation.csv of the same study that nobody interrupts, in a project of its own."""
    project = pack_into(tmp_path_factory.mktemp("undisturbed"))
    process = start(project, EPOCHS)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    return (project / "results" / "ablation.csv").read_bytes()


@pytest.mark.cluster
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_an_interrupted_study_goes_on_in_the_same_runs_and_ends_with_the_same_results(
    project: Path, undisturbed: bytes, how: str
) -> None:
    process = start(project, EPOCHS)
    wait_for_checkpoint(project, process)
    if how == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole foreground group
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 130, said
        assert "to go on" in said or "goes on" in said
        assert not [run for run in trials(project) if run.status == runs.RUNNING]
    else:
        process.kill()
        process.wait()
    before = {run.tags["key"]: run.run_id for run in trials(project)}
    assert [run for run in trials(project) if run.status != runs.FINISHED], "something was cut off"

    again = start(project, EPOCHS)
    said = again.communicate(timeout=240)[0]
    assert again.returncode == 0, said
    after = trials(project)
    assert len(after) == len({run.tags["key"] for run in after}) == 4, "no run is doubled"
    assert {run.tags["key"]: run.run_id for run in after}.items() >= before.items(), "the same runs go on"
    store = runs.open_store("", project)
    for run in after:
        assert run.status == runs.FINISHED
        steps = [point.step for point in store.client.get_metric_history(run.run_id, "train/loss")]
        assert steps == list(range(1, EPOCHS + 1)), "each epoch once"
    assert (project / "results" / "ablation.csv").read_bytes() == undisturbed


def test_a_plan_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = params()
    one.plan = True
    before = sorted(project.rglob("*"))
    study.run(one, project, "ablation", SPACE)
    assert "6 to be trained" in capsys.readouterr().out
    assert sorted(project.rglob("*")) == before


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database at all")
    with pytest.raises(StoreError, match=r"mlflow\.db is not an sqlite file"):
        runs.open_store("", tmp_path)
    for uri in ("file:///somewhere", f"sqlite:///{tmp_path}/no/such/folder/x.db"):
        with pytest.raises(StoreError, match=r"store\.uri"):
            runs.open_store(uri, tmp_path)


def test_a_pack_that_was_made_with_other_settings_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = params()
    one.data.height = 192
    with pytest.raises(SettingsError, match="was made with other settings"):
        study.run(one, project, "ablation", SPACE)
    one.plan = True
    study.run(one, project, "ablation", SPACE)
    assert "not packed with these settings" in capsys.readouterr().out


def test_a_damaged_pack_is_no_failure_of_the_trial_and_is_told(project: Path) -> None:
    """Mended by `dvc repro` without another key: it must not be recorded as a failure that is left alone for good."""
    one = params()
    path = project / "data" / "prepared" / "tiny" / "pack.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    outcome = work.train_one(one, project)
    assert outcome["outcome"] == "lost"
    assert "its digest is" in outcome["reason"]
    assert not trials(project)
    path.write_bytes(whole)
    assert work.train_one(one, project)["outcome"] == "finished"


def test_a_store_with_a_relative_path_lies_in_the_project_wherever_it_is_opened(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert runs.open_store("sqlite:///lab.db", project).uri == f"sqlite:///{project}/lab.db"
    assert (project / "lab.db").exists()


def test_a_moved_project_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    runs.open_store("", tmp_path / "old").experiment("tiny", tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(StoreError, match="move it back"):
        runs.open_store("", tmp_path / "new").experiment("tiny", tmp_path / "new")


def test_weights_from_a_file_are_named_by_their_content(project: Path) -> None:
    one = params()
    one.backbone.weights = "w.safetensors"
    with pytest.raises(SettingsError, match=r"backbone\.weights"):
        plan.make_trial(one, project, 0)
    keys = set()
    for number, content in enumerate((b"a", b"b", b"a")):
        one.backbone.weights = f"w{number}.safetensors"
        (project / one.backbone.weights).write_bytes(content)
        keys.add(plan.make_trial(one, project, 0).key)
    assert len(keys) == 2
