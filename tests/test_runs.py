"""Recording a trial in a real MLflow that is killed, restarted, stays away, or refuses; nothing is lost and nothing twice."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from a3m import commands, driver, plan, settings, trial, work
from a3m.errors import SettingsError, StoreError, UserError
from a3m.record import address, failures, patience, recording, runs, spool
from a3m.record.patience import StoreAway
from a3m.serve import package
from a3m.state import Lease

EPOCHS = 6
WEIGHTS = "model/artifacts/weights.safetensors"


class Server:
    """An MLflow server on loopback that serves its artifacts, over sqlite; the same port and store after a kill."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--artifacts-destination", f"{self.folder}/artifacts",
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while wait and not self.answers():
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200
        return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def the_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(the_server: Server) -> Server:
    if the_server.process is None or not the_server.answers():
        the_server.kill()
        the_server.start()
    return the_server


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh sqlite store: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("store")
    runs.open_store("", folder)
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path)
    folder = tmp_path / "data" / "prepared" / "tiny"
    tiny.write_pack(folder)
    for path in (folder / "packed").iterdir():
        path.rename(folder / path.name)
    return tmp_path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST", 0.05)


def params(uri: str = "", seconds: float = 60, seed: int = 0) -> settings.Params:
    result = tiny.params(epochs=EPOCHS)
    result.store.uri, result.store.patience, result.seed = uri, seconds, seed
    return result


def at_epoch(monkeypatch: pytest.MonkeyPatch, what: dict[int, Callable[[], None]]) -> list[float]:
    """Do something when an epoch has been reported; returns when each was."""
    report, times = recording.Recorder.report, []

    def reported(self: recording.Recorder, epoch: int, metrics: dict[str, float]) -> None:
        report(self, epoch, metrics)
        times.append(time.monotonic())
        what.get(epoch, lambda: None)()

    monkeypatch.setattr(recording.Recorder, "report", reported)
    return times


def never(*given: Any) -> dict[str, float]:
    raise AssertionError("trained again")


def runs_of(project: Path, one: settings.Params) -> list[Any]:
    """The runs of this trial in MLflow."""
    store = runs.open_store(one.store.uri, project)
    key = plan.make_trial(one, project, one.seed).key
    return list(store.client.search_runs([store.experiment("tiny", project)], f"tags.key = '{key}'"))


def assert_complete(project: Path, one: settings.Params, *, tidy: bool = True) -> None:
    """One run, each epoch once and in order, every artifact, nothing left on disk."""
    (run,) = runs_of(project, one)
    assert run.info.status == runs.FINISHED
    client = runs.open_store(one.store.uri, project).client
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in history] == list(range(1, EPOCHS + 1))
    assert [point.timestamp - run.info.start_time for point in history] == list(range(1, EPOCHS + 1))
    assert [point.step for point in client.get_metric_history(run.info.run_id, "test/accuracy")] == [EPOCHS]
    assert {"model", "shown", "predictions.parquet", "digests.json"} <= {
        item.path for item in client.list_artifacts(run.info.run_id)
    }
    assert run.data.params["loss.alpha"] == "0.5"
    if not tidy:
        return
    state = project / ".a3m" / "state"
    assert not [path for name in ("spool", "outputs", "checkpoints") for path in state.glob(f"{name}/*/*")]
    assert not list(state.glob("spool/*")), "what is delivered is not kept twice"


def test_a_server_that_is_killed_and_restarted_stops_no_training_and_loses_nothing(
    server: Server, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = params(server.uri)
    times = at_epoch(monkeypatch, {2: server.kill, 5: lambda: server.start(wait=False)})
    assert work.train_one(one, project)["outcome"] == "finished"
    assert times[4] - times[1] < 10, "three tiny epochs while the server is away: training does not wait for it"
    assert_complete(project, one)
    (run,) = runs_of(project, one)
    assert float(run.data.tags["images_per_second"]) > 0


def test_a_server_that_stays_away_leaves_a_trial_that_the_next_call_delivers_without_training(
    server: Server, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = params(server.uri, seconds=0.5, seed=1)
    at_epoch(monkeypatch, {2: server.kill})
    outcome = work.train_one(one, project)
    assert outcome["outcome"] == "undelivered"
    assert "does not answer" in outcome["reason"]
    key = plan.make_trial(one, project, 1).key
    outputs = project / ".a3m" / "state" / "outputs" / key
    kept = {str(path): path.stat().st_mtime_ns for path in outputs.rglob("*")}
    assert str(outputs / WEIGHTS) in kept

    with pytest.raises(StoreAway, match=r"store\.patience"):
        work.train_one(one, project)
    assert f"MLflow at {server.uri} does not answer: waiting up to 0.5 s" in capsys.readouterr().out

    server.start()
    (run,) = runs_of(project, one)
    assert run.info.status == runs.RUNNING
    monkeypatch.setattr(trial, "train", never)
    one.store.patience = 60
    assert {str(path): path.stat().st_mtime_ns for path in outputs.rglob("*")} == kept
    again = work.train_one(one, project)
    assert "trained, not yet delivered to MLflow: delivered now" in capsys.readouterr().out
    assert again["outcome"] == "finished"
    assert again["test/accuracy"] == outcome["test/accuracy"]
    assert_complete(project, one)


def test_a_driver_waits_for_a_server_says_so_once_and_a_permanent_error_is_told_at_once(
    server: Server, project: Path
) -> None:
    store = runs.open_store(server.uri, project, 60, never)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"(?i)no-such-run.*not found") as told:
        store.end("no-such-run", runs.KILLED)
    assert not isinstance(told.value, StoreAway)
    assert time.monotonic() - began < 5
    server.kill()
    said: list[str] = []
    waiting = threading.Timer(1, server.start)
    waiting.start()
    assert runs.open_store(server.uri, project, 90, said.append).experiment("waited", project)
    waiting.join()
    assert said == [f"MLflow at {server.uri} does not answer: waiting up to 90 s"]


def test_another_web_service_at_the_address_is_no_store_to_wait_for(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        with pytest.raises(StoreError) as told:
            runs.open_store(f"http://127.0.0.1:{port}", tmp_path, 60, never)
        assert not isinstance(told.value, StoreAway)
    finally:
        files.kill()
        files.wait()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["log_artifacts", "log_batch", "set_tag", "set_terminated"])
def test_a_kill_at_any_step_of_finishing_leaves_what_the_next_call_completes_without_training(
    project: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    """The store goes away before a step, or after it was done and before that was known."""
    from mlflow.tracking import MlflowClient

    one, real, end = params(seconds=0.2), getattr(MlflowClient, step), recording.Recorder._end

    def broken(self: MlflowClient, *given: Any, **named: Any) -> None:
        if when == "after":
            real(self, *given, **named)
        raise StoreAway("away")

    def ending(self: recording.Recorder, record: spool.Record) -> None:
        with monkeypatch.context() as cut:
            cut.setattr(MlflowClient, step, broken)
            end(self, record)

    with monkeypatch.context() as first:
        first.setattr(recording.Recorder, "_end", ending)
        assert work.train_one(one, project)["outcome"] == "undelivered"
    monkeypatch.setattr(trial, "train", never)
    assert work.train_one(one, project)["outcome"] == "finished"
    # Finished by the store, so nobody looks at the disk again: `a3m clean` does.
    assert_complete(project, one, tidy=(step, when) != ("set_terminated", "after"))


@pytest.mark.parametrize("reported", [True, False])
def test_an_attempt_that_dies_is_continued_by_another_and_every_epoch_is_one_point(
    project: Path, monkeypatch: pytest.MonkeyPatch, reported: bool
) -> None:
    """Killed after the third epoch was reported, or between its checkpoint and its report."""
    one, real = params(), recording.Recorder.report

    def dying(self: recording.Recorder, epoch: int, metrics: dict[str, float]) -> None:
        if reported or epoch < 3:
            real(self, epoch, metrics)
        if epoch == 3:
            raise MemoryError

    with monkeypatch.context() as first:
        first.setattr(recording.Recorder, "report", dying)
        with pytest.raises(MemoryError):
            work.train_one(one, project)
    assert list((project / ".a3m" / "state" / "checkpoints").glob("*/000003-*.pt"))
    # On another host, with a torn line at the end and the cursor lost.
    (path,) = (project / ".a3m" / "state" / "spool").glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"kind": "epoch", "ep')
    path.with_suffix(".cursor").unlink()
    epochs = []
    monkeypatch.setattr(
        recording.Recorder, "report", lambda self, epoch, metrics: (epochs.append(epoch), real(self, epoch, metrics))
    )
    assert work.train_one(one, project)["outcome"] == "finished"
    assert epochs[0] == (4 if reported else 3), "goes on; an epoch that was not reported is trained once more"
    assert_complete(project, one)


def test_a_failure_while_the_store_is_away_is_delivered_as_a_failure(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = params(seconds=0.2)
    one.train.learning_rate = 1e30

    def away(self: recording.Recorder, record: spool.Record) -> None:
        raise StoreAway("away")

    with monkeypatch.context() as first:
        first.setattr(recording.Recorder, "_deliver", away)
        assert work.train_one(one, project)["outcome"] == "undelivered"
    monkeypatch.setattr(trial, "train", never)
    outcome = work.train_one(one, project)
    assert outcome["outcome"] == "failed"
    assert "the loss is" in outcome["reason"]
    (run,) = runs_of(project, one)
    assert run.info.status == runs.FAILED
    assert not list((project / ".a3m" / "state" / "spool").iterdir())


def test_clean_delivers_first_and_never_removes_what_it_cannot_deliver(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(Path(__file__).parents[1] / name, project / name)
    monkeypatch.chdir(project)
    one = params(seconds=0.2)

    def away(self: recording.Recorder, record: spool.Record) -> None:
        raise StoreError("refused")

    with monkeypatch.context() as first:
        first.setattr(recording.Recorder, "_deliver", away)
        assert work.train_one(one, project)["outcome"] == "undelivered"
        monkeypatch.setattr(sys, "argv", ["a3m"])
        commands.clean()
        assert "not delivered to MLflow: refused" in capsys.readouterr().out
    key = plan.make_trial(one, project, 0).key
    assert (project / ".a3m" / "state" / "outputs" / key / WEIGHTS).exists()
    assert work.pending(project / ".a3m" / "state") == {key: "tiny"}

    monkeypatch.setattr(sys, "argv", ["a3m", "plan=true"])
    commands.clean()
    assert "would deliver 1 trials to MLflow first" in capsys.readouterr().out
    assert work.pending(project / ".a3m" / "state") == {key: "tiny"}

    monkeypatch.setattr(sys, "argv", ["a3m"])
    commands.clean()
    assert f"{key}: trained before, delivered to MLflow" in capsys.readouterr().out
    assert_complete(project, one)


def test_outputs_that_are_gone_are_trained_again_and_never_recorded_as_finished(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = params(seconds=0.2)

    def away(self: recording.Recorder, record: spool.Record) -> None:
        raise StoreAway("away")

    with monkeypatch.context() as first:
        first.setattr(recording.Recorder, "_deliver", away)
        assert work.train_one(one, project)["outcome"] == "undelivered"
    shutil.rmtree(project / ".a3m" / "state" / "outputs")

    # That the first attempt had ended is delivered late, when the second one has left a part of what it will.
    end, write, told = recording.Recorder._end, package.write, threading.Event()

    def late(self: recording.Recorder, record: spool.Record) -> None:
        deadline = time.monotonic() + 60
        while not (self.outputs / "digests.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        end(self, record)
        told.set()

    def written(outputs: Path, packed: Any) -> Path:
        assert told.wait(60)
        return write(outputs, packed)

    monkeypatch.setattr(recording.Recorder, "_end", late)
    monkeypatch.setattr(package, "write", written)
    assert work.train_one(params(), project)["outcome"] == "finished"
    assert_complete(project, one)


def test_runs_that_a_killed_driver_of_another_space_left_open_are_closed(project: Path) -> None:
    store = runs.open_store("", project)
    experiment = store.experiment("tiny", project)
    state = project / ".a3m" / "state"

    def opened(digest: str, key: str) -> list[str]:
        where = driver.lease_of(state, "ablation", digest)[1]
        parent, _ = store.parent(experiment, "ablation", digest, "note", reopen=True, lease=where)
        child = store.client.create_run(experiment, tags={"key": key, runs.PARENT: parent})
        return [parent, child.info.run_id]

    dead, alive, mine = opened("dead", "k1"), opened("alive", "k2"), opened("mine", "k3")
    theirs = store.client.create_run(experiment, tags={"study": "ablation", "space": "x", "lease": "elsewhere:/x"})
    other, _ = driver.lease_of(state, "ablation", "alive")
    assert other.try_acquire()
    try:
        with driver.driving(store, experiment, state, "ablation", "mine"):
            status = {run: store.client.get_run(run).info.status for run in [*dead, *alive, *mine, theirs.info.run_id]}
    finally:
        other.release()
    assert [status[run] for run in dead] == [runs.KILLED] * 2
    assert {status[run] for run in [*alive, *mine, theirs.info.run_id]} == {runs.RUNNING}
    held, _ = driver.lease_of(state, "ablation", "mine")
    assert not held.path.exists()


def test_of_a_run_that_was_made_twice_the_one_with_epochs_counts(project: Path) -> None:
    store = runs.open_store("", project)
    experiment = store.experiment("tiny", project)
    made = [store.client.create_run(experiment, start_time=1000, tags={"key": "a"}).info.run_id for _ in range(4)]
    for one in made:
        store.client.log_metric(one, "train/loss", 1.0, 1)
        assert store.find(experiment)["a"].run_id == one
        store.client.delete_run(one)


def test_a_run_that_a_slow_server_made_twice_is_deleted_and_no_other_is(project: Path) -> None:
    store = runs.open_store("", project)
    experiment = store.experiment("tiny", project)
    made = {}
    for name, key in (("finished", "a"), ("double", "a"), ("at work", "b"), ("with an epoch", "a"), ("no trial", None)):
        tags = {"key": key} if key else {}
        made[name] = store.client.create_run(experiment, run_name=name, tags=tags).info.run_id
    store.client.set_terminated(made["finished"])
    store.client.log_metric(made["with an epoch"], "train/loss", 1.0)
    store.drop_doubles(experiment, {"a": made["finished"]}, lambda key: False)  # somebody trains it
    assert len(store.running(experiment, "key")) == 3
    store.drop_doubles(experiment, {"a": made["finished"]})
    left = {run.info.run_name: run.info.status for run in store.client.search_runs([experiment])}
    assert set(left) == set(made) - {"double"}
    assert {name for name, status in left.items() if status == runs.RUNNING} == {"at work", "no trial"}


def test_a_trial_that_another_driver_left_open_but_trains_itself_stays_open(project: Path) -> None:
    store = runs.open_store("", project)
    experiment, state = store.experiment("tiny", project), project / ".a3m" / "state"
    where = driver.lease_of(state, "ablation", "dead")[1]
    parent, _ = store.parent(experiment, "ablation", "dead", "note", reopen=True, lease=where)
    child = store.client.create_run(experiment, tags={"key": "k1", runs.PARENT: parent}).info.run_id
    trains = Lease(state / "leases" / "k1.json")
    assert trains.try_acquire()
    try:
        with driver.driving(store, experiment, state, "ablation", "mine"):
            assert store.client.get_run(child).info.status == runs.RUNNING
    finally:
        trains.release()


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("postgresql+psycopg2://anna:hunter2@db/mlflow", "PGPASSFILE or PGPASSWORD"),
        ("postgresql+psycopg2://anna@db/mlflow?password=hunter2", "PGPASSFILE or PGPASSWORD"),
        ("http://anna:hunter2@lab:5000", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ("https://hunter2@lab", "MLFLOW_TRACKING_TOKEN"),
        ("mysql+pymysql://anna:hunter2@db/mlflow", "read_default_file"),
    ],
)
def test_a_password_in_the_address_is_refused_with_the_remedy_and_not_shown(
    tmp_path: Path, uri: str, remedy: str
) -> None:
    for call in (lambda: runs.open_store(uri, tmp_path), lambda: address.full_uri(uri, tmp_path)):
        with pytest.raises(SettingsError, match=remedy) as told:
            call()
        assert "hunter2" not in str(told.value)


def test_plain_postgresql_is_refused_with_the_name_that_works(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"write postgresql\+psycopg2://"):
        runs.open_store("postgresql://anna@db/mlflow", tmp_path)


def test_a_database_that_refuses_connections_is_away_and_one_that_refuses_the_user_is_not(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(StoreAway, match=r"127\.0\.0\.1.*(?i:refused)"):
        runs.open_store(f"postgresql+psycopg2://anna@127.0.0.1:{port}/mlflow", tmp_path, 0.3, lambda text: None)
    assert time.monotonic() - began < 20, "MLflow by itself would try for 100 s"
    from sqlalchemy.exc import OperationalError

    for text, passes in (
        ("server closed the connection unexpectedly", True),
        ("terminating connection due to administrator command", True),
        ("the database system is starting up", True),
        ('password authentication failed for user "anna"', False),
        ('database "mlflow" does not exist', False),
    ):
        error = OperationalError("SELECT 1", {}, Exception(text))
        assert failures.passes(error, "postgresql+psycopg2://db/mlflow") is passes, text


def test_an_identical_resend_is_one_point_and_infinity_survives_the_spool(project: Path) -> None:
    one = plan.make_trial(params(), project, 0)
    experiment = runs.open_store("", project).experiment("tiny", project)
    uri = address.full_uri("", project)
    for _ in range(2):
        recorder = recording.Recorder(uri, experiment, Path(one.state), one.key)
        recorder.begin(one, "name", 0, parent=None, study=None, source="twins", commit="")
        recorder.report(1, {"train/loss": float("inf"), "train/other": 2.0})
        assert recorder.delivered(60) == ""
        run_id = recorder.run_id
        assert run_id is not None
        recorder.close()
        recorder.spool.path.with_suffix(".cursor").unlink()
    client = runs.Store(uri).client
    assert [(p.step, p.value) for p in client.get_metric_history(run_id, "train/other")] == [(1, 2.0)]
    (infinite,) = client.get_metric_history(run_id, "train/loss")
    assert infinite.value > 1e308
