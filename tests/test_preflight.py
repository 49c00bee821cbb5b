"""What keeps a node from training, each problem by itself; and the devices that trials are given by a real Ray."""

import os
import pwd
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import tiny

from a3m import config, identity, node, plan, points, relevance, work
from a3m.cluster import jobs as cluster_jobs
from a3m.cluster import joining, preflight, session
from a3m.cluster.preflight import Nodes
from a3m.data import pack
from a3m.errors import SettingsError, UserError
from a3m.record import runs
from a3m.settings import Cluster, Train


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A job for several nodes, in a project whose store exists."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "data" / "prepared" / "tiny"
    tiny.write_pack(tmp_path / "made")
    shutil.copytree(tmp_path / "made" / "packed", folder)
    params = points.varied(tiny.params(), {"method": "a3m"}, config.methods())
    params.cluster.address = "auto"
    trial = plan.make_trial(params, tmp_path, 0)
    store = runs.open_store("", tmp_path)
    experiment = store.experiment("tiny", tmp_path)
    parent, _ = store.parent(experiment, "ablation", "digest", "", reopen=True)
    node.present(store, parent)
    planned = plan.Planned(trial, {}, 0, "a3m", "new", None)
    return work.job_of(params, tmp_path, planned, store.uri, experiment, "ablation", parent)


def told(job: dict[str, Any]) -> node.Told:
    return node.leave_note(Path(job["trial"]["state"]))


def problem(job: dict[str, Any], note: node.Told | None = None) -> str:
    """The one problem that the check finds."""
    (found,) = node.check(job, note or told(job), "n1")
    return found


def test_a_node_that_has_everything_is_fit_and_says_so_in_the_shared_folder_and_in_mlflow(job: dict[str, Any]) -> None:
    state = Path(job["trial"]["state"])
    note = told(job)
    assert node.check(job, note, "n1") == []
    assert node.heard_of(state, note, "n1")
    node.forget(state, note)
    assert not list((state / "nodes").iterdir())
    shown = runs.Store(job["store"]).client.list_artifacts(job["parent"], "nodes")
    assert [one.path for one in shown] == [f"nodes/{socket.gethostname()}.json"]


def test_other_code_is_a_problem(job: dict[str, Any]) -> None:
    job["trial"]["code"] = "0" * 16
    assert "is not the driver's: is PYTHONPATH set there?" in problem(job)


@pytest.mark.parametrize("name", ["python", "ray", "mlflow", "torch", "scikit-learn"])
def test_another_version_is_a_problem(job: dict[str, Any], name: str) -> None:
    job["node"]["versions"] = {**node.versions(), name: "0.1"}
    assert problem(job).startswith(f"{name} is {node.versions()[name]}, the driver has 0.1: ")


def test_a_state_folder_that_is_not_the_drivers_is_a_problem(job: dict[str, Any]) -> None:
    note = told(job)
    shutil.rmtree(Path(job["trial"]["state"]) / "nodes")
    assert "it must be one shared folder" in problem(job, note)


def test_a_state_folder_without_room_or_that_cannot_be_written_is_a_problem(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(node.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1 << 20))
        assert problem(job).endswith("has 1 MB left of the 500 that it needs: make room")

    def refused(path: Path, data: bytes) -> int:
        raise OSError(30, "Read-only file system")

    note = told(job)
    monkeypatch.setattr(Path, "write_bytes", refused)
    assert "cannot be written (Read-only file system)" in problem(job, note)


@pytest.mark.parametrize("ahead", [8.0, -90.0])
def test_a_clock_that_is_off_is_a_problem(job: dict[str, Any], ahead: float) -> None:
    note = told(job)
    note["clock"] -= ahead  # as the driver's would be
    assert f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'}" in problem(job, note)


def test_weights_that_are_missing_or_others_are_a_problem(job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    job["trial"]["weights"] = str(file)
    job["trial"]["settings"]["backbone"]["weights"] = "0" * 64
    assert "put the driver's file there" in problem(job)
    file.write_bytes(b"others")
    assert "another file than the driver's" in problem(job)
    job["trial"]["settings"]["backbone"]["weights"] = identity.file_digest(file)
    assert node.check(job, told(job), "n1") == []


def test_a_pack_that_is_missing_or_another_is_a_problem_without_a_remote(job: dict[str, Any]) -> None:
    path = Path(job["trial"]["pack"])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "dvc push pack@tiny" in problem(job)
    path.unlink()
    assert "dvc push pack@tiny" in problem(job)


def test_a_pack_that_is_missing_is_fetched_where_there_is_a_remote(job: dict[str, Any], tmp_path: Path) -> None:
    path = Path(job["trial"]["pack"])
    remote = tmp_path / "remote" / "files" / "md5" / "ab" / "cd"
    remote.parent.mkdir(parents=True)
    path.rename(remote)
    job["node"]["pull"] = {
        "url": str(tmp_path / "remote"), "options": {}, "md5": "abcd", "size": remote.stat().st_size,
        "digest": job["trial"]["data"], "name": "tiny", "data": str(tmp_path / "own"),
    }  # fmt: skip
    assert node.check(job, told(job), "n1") == []
    assert node.lacks_pack(job)
    import hashlib

    md5 = hashlib.md5(remote.read_bytes(), usedforsecurity=False).hexdigest()
    named = remote.parents[1] / md5[:2] / md5[2:]
    named.parent.mkdir(exist_ok=True)
    remote.rename(named)
    job["node"]["pull"]["md5"] = md5
    ready = node.with_pack(job, print)
    assert ready["trial"]["pack"] == str(tmp_path / "own" / "packs" / job["trial"]["data"] / pack.FILE)
    assert identity.Trial(**ready["trial"]).key == job["key"], "where it lies is no part of the trial"
    assert not node.lacks_pack(job)

    there = Path(ready["trial"]["pack"])
    whole = there.read_bytes()
    there.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # damaged after it was fetched
    assert node.with_pack(job, print) == ready
    assert there.read_bytes() == whole


def test_a_store_that_does_not_answer_there_is_waited_for_and_one_without_the_experiment_is_a_problem(
    job: dict[str, Any],
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = job | {"store": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        with pytest.raises(node.Waiting, match=r"is it reachable from there\? \(store\.uri\)"):
            node.check(away, told(job), "n1")
        away["trial"] = job["trial"] | {"code": "0" * 16}
        assert len(node.check(away, told(job), "n1")) == 2
    assert "No Experiment" in problem(job | {"experiment": "99"})


def test_artifacts_that_only_the_driver_sees_are_a_problem(job: dict[str, Any]) -> None:
    note = told(job) | {"driver": "another"}
    assert "start the server with --artifacts-destination" in problem(job, note)


def test_a_job_for_this_machine_alone_carries_nothing_for_nodes(job: dict[str, Any], tmp_path: Path) -> None:
    params = tiny.params()
    assert node.expected(params, tmp_path, identity.Trial(**job["trial"])) is None


# --- settings -----------------------------------------------------------------------------------------------------------


def test_the_device_of_a_cluster_is_named_and_not_taken_from_the_drivers_machine() -> None:
    assert relevance.device(Train(device="auto"), Cluster()) == "cpu"
    assert relevance.device(Train(device="cuda"), Cluster(address="auto")) == "cuda"
    with pytest.raises(SettingsError, match=r"set train\.device=cuda or train\.device=cpu"):
        relevance.device(Train(device="auto"), Cluster(address="auto"))


GPU_NODES = [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("settings", "device", "expected"),
    [
        (Cluster(), "cpu", {"CPU": 1, "GPU": 0.0}),
        (Cluster(), "cuda", {"CPU": 1, "GPU": 1.0}),
        (Cluster(gpus_per_trial=0.25), "cuda", {"CPU": 1, "GPU": 0.25}),
        (Cluster(gpus_per_trial=2, cpus_per_trial=2), "cuda", {"CPU": 2, "GPU": 2.0}),
    ],
)
def test_a_trial_has_a_gpu_where_it_uses_one(settings: Cluster, device: str, expected: dict[str, float]) -> None:
    assert session.resources(settings, device, GPU_NODES) == expected


@pytest.mark.parametrize(
    ("settings", "device", "said"),
    [
        (Cluster(gpus_per_trial=0), "cuda", "each trial needs one"),
        (Cluster(gpus_per_trial=1), "cpu", "reserved and not used"),
        (Cluster(gpus_per_trial=3), "cuda", "the largest node has 2"),
        (Cluster(cpus_per_trial=5), "cpu", "the largest node has 4"),
    ],
)
def test_resources_that_no_node_has_or_no_trial_uses_are_refused(settings: Cluster, device: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        session.resources(settings, device, GPU_NODES)


@pytest.mark.parametrize("value", [1.5, -0.5, -2.0])
def test_one_gpu_and_a_share_of_another_is_refused(value: float) -> None:
    params = tiny.params()
    params.cluster.gpus_per_trial = value
    with pytest.raises(SettingsError, match=r"cluster\.gpus_per_trial"):
        points.check(params)


def test_an_address_where_nobody_answers_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for kind in ("", "ray://"):
            address = f"{kind}127.0.0.1:{closed.getsockname()[1]}"
            with pytest.raises(UserError, match=rf"{address} does not answer .*is its head running"):
                joining.ready(address)
    with pytest.raises(UserError, match="expected local, auto"):
        joining.ready("somewhere")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no token in .*copy ~/\.ray/auth_token"):
        joining.ready("127.0.0.1:6379")


# --- nodes that cannot train, as the driver hears of them ---------------------------------------------------------------


def test_an_experiment_ends_when_nothing_runs_but_on_nodes_that_cannot_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "STUCK_SECONDS", 0.0)
    passed: list[Any] = []

    def exchange(events: list[Any]) -> bool:
        passed.extend(events)
        return False

    nodes = Nodes(Cluster(address="auto"))
    noted = nodes.exchange(exchange)
    bad = ("a", {"node": "n1", "unfit": "node n1: its clock is off"})
    assert not noted([("b", {"node": "n2", "unfit": ""}), bad])
    assert passed == [("a", {"away": "waits, since its node cannot train: node n1: its clock is off"})]
    assert not noted([bad]), "b is running"
    assert len(passed) == 1, "told once"
    noted([("b", {"outcome": "finished"})])
    assert noted([])
    assert nodes.why_stuck() == "node n1: its clock is off"
    alive = [{"NodeID": "n1", "Resources": {"CPU": 4}}, {"NodeID": "n2", "Resources": {"CPU": 2}}]
    monkeypatch.setattr(preflight, "_alive", lambda: alive)
    chosen = nodes.resources({"CPU": 1, "GPU": 0.0})
    assert chosen.bundles == [{"CPU": 1.0}]
    with pytest.raises(UserError, match=r"(?s)no node is left that can train.*its clock is off"):
        nodes.resources({"CPU": 4, "GPU": 0.0})
    noted([("a", {"node": "n1", "unfit": ""})])
    assert nodes.resources({"CPU": 4}) == {"CPU": 4}, "it was mended"


# --- a real Ray ---------------------------------------------------------------------------------------------------------


def seen(job: dict[str, Any], report: Any) -> dict[str, Any]:
    """In a worker: wait until another trial runs too, so that two are given devices at once, and say what is visible."""
    import time

    folder = Path(job["folder"])
    (folder / job["key"]).touch()
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < job["together"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return {"outcome": "finished", "visible": os.environ.get("CUDA_VISIBLE_DEVICES", "unset")}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, ["", ""]), (1.0, ["0", "1"]), (0.5, ["0", "0"]), (2.0, ["0,1", "0,1"])]
)
def test_a_trial_sees_the_devices_that_it_was_given_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, expected: list[str]
) -> None:
    import ray

    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: init(**options | {"num_gpus": 2, "num_cpus": 2}))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    (tmp_path / "started").mkdir()
    together = 1 if share == 2 else 2
    made = [
        {"key": name, "folder": str(tmp_path / "started"), "together": together, "trial": {"state": str(tmp_path)}}
        for name in ("a", "b")
    ]
    found: dict[str, str] = {}

    def event(key: str, result: dict[str, Any]) -> None:
        if "visible" in result:
            found[key] = result["visible"]

    device = "cuda" if share else "cpu"
    cluster_jobs.run(made, seen, Cluster(gpus_per_trial=share), Train(device=device), event)
    assert sorted(found.values()) == expected


@pytest.mark.cluster
def test_a_full_state_folder_stops_a_sweep_of_one_machine_before_it_trains(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray keeps the token that it has read: in one process all of them want the same home.
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    monkeypatch.setattr(node, "FREE_BYTES", 1 << 60)
    local = job | {"node": None}
    with pytest.raises(UserError, match=r"(?s)nothing was trained.*make room"):
        cluster_jobs.run([local], seen, Cluster(), Train(device="cpu"), lambda key, result: None)
