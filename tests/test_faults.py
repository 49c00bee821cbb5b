"""A cluster that is killed in every way of docs/reliability.md, with a real sweep on it (`make test-cluster`).

One head and two workers as hosts of their own, an MLflow server on PostgreSQL, one shared folder (tests/lab). Each test does
one thing to a sweep that runs, then holds what came out against the same sweep undisturbed: results and tables byte for byte,
in MLflow one finished run a trial with each epoch once, and in the log of checkpoints nothing trained again that was finished.
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lab import remote
from lab.hosts import Lab, wait_for
from lab.project import Run, Study, Trained, copy_project, pack, timed
from lab.services import Cluster, Tracking, postgresql

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]

# Six variants of six epochs: a trial of some seconds, the sweep of half a minute on two quiet cores.
DATA = ("profile=smoke", "twin.train_identities=30")
SETTINGS = (*DATA, "train.epochs=6", "ablation.groups=[]", "ablation.beside=[]", "train.device=cpu")
TRIALS, EPOCHS = 6, 6
MEMORY = 1_500_000_000  # bytes of a worker: enough for Ray and one trial
MLFLOW_DOWN = float(os.environ.get("A3M_MLFLOW_DOWN", "60"))  # seconds; .ci/run takes fewer
WORKERS = 2


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    try:
        postgresql()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with Lab() as made:
        made.mount("small", 700)  # the preflight wants 500 MB left in a state folder
        print(f"\nthe laboratory: {made.kind}")
        yield made


@pytest.fixture(scope="session")
def services(lab: Lab) -> Iterator[tuple[Cluster, Tracking]]:
    """Ray and MLflow, started side by side."""
    tracking, cluster = Tracking(lab), Cluster(lab, WORKERS, MEMORY)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            tracking.start()
        except BaseException as error:
            failures.append(error)

    beside = threading.Thread(target=start)
    beside.start()
    try:
        cluster.start()
    finally:
        beside.join()
    assert not failures, failures
    yield cluster, tracking
    tracking.close()


@pytest.fixture(scope="session")
def project(lab: Lab, services: tuple[Cluster, Tracking]) -> Path:
    folder = lab.shared / "project"
    copy_project(folder)
    pack(services[0].head, folder, *DATA)
    return folder


@pytest.fixture(scope="session")
def undisturbed(project: Path, services: tuple[Cluster, Tracking]) -> dict[str, bytes]:
    """What the sweep leaves that nobody disturbs: results and tables."""
    cluster, tracking = services
    sweep = Study(cluster, tracking, project, project.parent / "state-undisturbed", *SETTINGS)
    sweep.clear()
    with Trained(sweep.state) as trained, timed() as took:
        said = sweep.start().finished()
    sweep.tables()
    note("undisturbed", took["seconds"], trained)
    assert "6 finished trials of 6" in said
    files = sweep.files()
    trials, _ = sweep.runs()
    check_runs(trials, *sweep.runs()[1:])
    assert {run.tags["host"] for run in trials} == (
        {"worker1", "worker2"} if not cluster.lab.without else {os.uname()[1]}
    )
    assert not trained.again()
    assert sum(trained.epochs().values()) == TRIALS * EPOCHS, "the log of checkpoints misses none"
    assert b"finished" in files["results/ablation.csv"]
    return files


@pytest.fixture
def sweep(
    request: pytest.FixtureRequest, undisturbed: dict[str, bytes], project: Path, services: tuple[Cluster, Tracking]
) -> Study:
    """The study before its first trial, on a cluster and a store that are whole."""
    cluster, tracking = services
    heal(cluster, tracking)
    name = request.node.name.removeprefix("test_")[:40].replace("[", "-").replace("]", "")
    made = Study(cluster, tracking, project, project.parent / f"state-{name}", *SETTINGS)
    made.clear()
    return made


@pytest.fixture
def trained(sweep: Study) -> Iterator[Trained]:
    with Trained(sweep.state) as watching:
        yield watching


@pytest.fixture
def separate(lab: Lab) -> None:
    """For what processes that share one machine cannot show."""
    if lab.without:
        pytest.skip(f"needs hosts of their own: {lab.without}")


def heal(cluster: Cluster, tracking: Tracking) -> None:
    """Mend what the last test broke, and leave alone what is whole."""
    for host in cluster.lab.hosts.values():
        if host.separate and host.name in cluster.names and psutil.pid_exists(host.first):
            host.mend()
            host.thaw()
    del cluster.names[WORKERS:]
    if not tracking.answers():
        tracking.stop_server()
        tracking.start_server()
    # The head calls a host alive for half a minute after it was killed, and a sweep may end before that.
    gone = [name for name in cluster.names if name in cluster.lab.hosts and not cluster.lab.hosts[name].processes()]
    try:
        alive = -1 if gone else cluster.alive()
    except AssertionError:
        alive = -1
    if alive != WORKERS:
        for name in list(cluster.lab.hosts):
            if name.startswith("worker"):
                cluster.lab.hosts[name].kill()
        cluster.start()


MEASURED: list[dict[str, object]] = []


def note(what: str, seconds: float, trained: Trained, **more: object) -> None:
    """Keep what was measured; A3M_FAULTS names a file that gets it all."""
    repeated = sum(trained.again().values())
    MEASURED.append({"fault": what, "seconds": round(seconds, 1), "epochs trained again": repeated, **more})
    print(f"\n{MEASURED[-1]}")
    if "A3M_FAULTS" in os.environ:
        Path(os.environ["A3M_FAULTS"]).write_text(json.dumps(MEASURED, indent=1))


def check_runs(trials: list[Run], studies: list[Run]) -> None:
    """One finished run a trial, each epoch once and in order; one run of the study; nothing is left running."""
    assert len(trials) == TRIALS
    assert len({run.key for run in trials}) == TRIALS, "a run is doubled"
    assert {run.status for run in trials} == {"FINISHED"}
    for run in trials:
        assert run.steps == list(range(1, EPOCHS + 1)), f"{run.key}: each epoch once, in order"
    assert [run.status for run in studies] == ["FINISHED"], "one run of the study"


def finished_runs(sweep: Study) -> dict[str, Run]:
    return {run.key: run for run in sweep.runs()[0] if run.status == "FINISHED"}


def check(sweep: Study, undisturbed: dict[str, bytes], trained: Trained, before: dict[str, Run], again: int) -> None:
    """Everything that must hold after any fault.

    `before` are the runs that were finished when it happened: nothing of them may have changed. `again` is the number of epochs
    that may have been trained twice: those since the last checkpoint of each trial that was cut off.
    """
    sweep.tables()
    files = sweep.files()
    assert files.keys() == undisturbed.keys()
    for name, data in files.items():
        assert data == undisturbed[name], f"{name} differs from that of the undisturbed sweep"
    trials, studies = sweep.runs()
    check_runs(trials, studies)
    after = {run.key: run for run in trials}
    for key, run in before.items():
        assert (after[key].run_id, after[key].started, after[key].ended) == (run.run_id, run.started, run.ended), (
            f"{key} was finished and was touched again"
        )
        assert trained.last(key) * 1000 <= run.ended, f"{key} was trained after it was finished"
        assert set(trained.epochs(key).values()) == {1}
    assert sum(trained.again().values()) <= again, trained.again()
    assert sum(trained.epochs().values()) >= TRIALS * EPOCHS
    assert not sweep.leases(), "a lease is left"


# --- processes and machines -----------------------------------------------------------------------------------------------


def test_a_trials_process_is_killed(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    with timed() as took:
        driver = sweep.start()
        key = sweep.wait_for_epoch(3, driver)
        lease, before = sweep.leases()[key], finished_runs(sweep)
        host = sweep.cluster.lab.hosts.get(lease["host"], sweep.cluster.head)
        host.call("kill", "-9", str(lease["pid"]))
        driver.finished()
    note("trial's process killed", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=1)


def test_a_worker_node_is_killed(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(3, driver, host="worker1")
        before = finished_runs(sweep)
        sweep.cluster.kill_worker("worker1")
        driver.finished()
    note("worker node killed", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=1)


@pytest.mark.usefixtures("separate")
def test_a_worker_is_cut_off_the_network_and_comes_back(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    """Its trial goes on for a while: the storage is still there, so it keeps its lease, and nobody trains beside it."""
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(2, driver, host="worker1")
        before = finished_runs(sweep)
        worker = sweep.cluster.lab.hosts["worker1"]
        worker.cut()
        time.sleep(75)  # Ray takes about 70 s to call the node dead
        worker.mend()
        driver.finished()
        wait_for(lambda: not sweep.leases(), 90, "nobody trains any more")
    note("worker cut off the network for 75 s", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=1)


@pytest.mark.usefixtures("separate")
def test_a_worker_freezes_and_its_zombie_does_not_write(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    """Cut off from network and storage alike: its lease runs out, the trial is trained elsewhere, then it wakes up."""
    with timed() as took:
        driver = sweep.start()
        key = sweep.wait_for_epoch(2, driver, host="worker1")
        before, lease = finished_runs(sweep), sweep.leases()[key]
        worker = sweep.cluster.lab.hosts["worker1"]
        worker.cut()
        worker.freeze()
        frozen = time.monotonic()
        with_lease = lambda: sweep.leases().get(key, lease)["host"] != "worker1"  # noqa: E731
        wait_for(lambda: with_lease() or driver.process.poll() is not None, 240, "another host trains the trial")
        worker.mend()
        worker.thaw()
        moved = time.monotonic() - frozen
        driver.finished()
        time.sleep(5)  # for what the zombie may still want to say
    note("worker frozen, zombie comes back", took["seconds"], trained, moved_after=round(moved))
    check(sweep, undisturbed, trained, before, again=1)


HOG = """
import pathlib, time
group, log = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/tmp/ray/session_latest/logs/raylet.out")
limit, held = int((group / "memory.limit_in_bytes").read_text()), []
deadline = time.monotonic() + 60
while "Killing 1 worker" not in log.read_text() and time.monotonic() < deadline:
    used = {line.split()[0]: int(line.split()[1]) for line in (group / "memory.stat").read_text().splitlines()}
    if used["total_rss"] < 0.97 * limit:
        held.append(bytearray(b"1") * 5_000_000)
    time.sleep(0.01)
"""


def test_a_trial_is_out_of_memory_and_recovers(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    """Something else takes the memory of its machine for a while; Ray's memory monitor ends the trial."""
    limited(sweep)
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(2, driver, host="worker1")
        before = finished_runs(sweep)
        sweep.cluster.lab.hosts["worker1"].call(sys.executable, "-c", HOG)
        said = driver.finished()
    assert "out of memory: Ray's memory monitor ended it" in said
    note("out of memory, recovers", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=2)


def test_a_trial_that_never_fits_fails_alone_and_is_named(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    """Its head alone is larger than a worker's memory. The others finish, and without it the sweep is complete."""
    limited(sweep)
    with timed() as took:
        said = sweep.start("ablation.beside=[{method: a3m, head.d: 100000}]").finished(1)
        before = finished_runs(sweep)
    assert "1 of 7 trials of ablation did not finish" in said
    assert "memory" in next(line for line in said.splitlines() if "d=100000" in line and "lost" in line)
    assert len(before) == TRIALS
    note("out of memory, never fits", took["seconds"], trained)
    said = sweep.start().finished()
    assert "6 finished, reused" in said
    assert sum(trained.again().values()) <= 2
    sweep.tables()
    assert sweep.files() == undisturbed
    assert {run.status for run in sweep.runs()[0] + sweep.runs()[1]}.isdisjoint({"RUNNING"})


def limited(sweep: Study) -> None:
    if not sweep.cluster.memory:
        pytest.skip(
            "no memory control groups (version 1) here: Ray's monitor would watch this machine's memory, not a host's"
        )


def test_a_worker_joins_late_and_gets_work(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    cluster = sweep.cluster
    cluster.stop_worker("worker2")
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(1, driver)
        cluster.start_worker("worker2")
        driver.finished()
    note("worker joins late", took["seconds"], trained)
    check(sweep, undisturbed, trained, {}, again=0)
    if cluster.head.separate:
        assert "worker2" in {run.tags["host"] for run in sweep.runs()[0]}, "the late worker has trained something"


# --- the driver and the head ------------------------------------------------------------------------------------------------


def test_the_driver_is_killed_and_the_command_given_again(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    with timed() as took:
        driver = sweep.start()
        wait_for(lambda: finished_runs(sweep), 240, "a trial is finished", 0.3)
        sweep.wait_for_epoch(2, driver)
        before = finished_runs(sweep)
        driver.kill()
        said = sweep.start().finished()
    assert "finished, reused" in said
    note("driver killed -9", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=4)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_ctrl_c(sweep: Study, undisturbed: dict[str, bytes], trained: Trained, times: int) -> None:
    with timed() as took:
        driver = sweep.start()
        wait_for(lambda: finished_runs(sweep), 240, "a trial is finished", 0.3)
        sweep.wait_for_epoch(2, driver)
        driver.signal()
        if times == 2:
            time.sleep(0.5)
            driver.signal()
        with timed() as ending:
            said = driver.finished(130, seconds=60)
        assert "goes on" in said, "it says how to go on"
        if times == 1:
            trials, studies = sweep.runs()
            assert not [run for run in trials + studies if run.status == "RUNNING"], "it ends cleanly"
        before = finished_runs(sweep)
        said = sweep.start().finished()
        # A driver that is ended at once leaves its workers to notice that: until their leases run out they may be at work.
        assert "interrupted, continued" in said or (times == 2 and "being trained by another process" in said), said
    note(
        f"Ctrl-C {'once' if times == 1 else 'twice'}", took["seconds"], trained, ended_after=round(ending["seconds"], 1)
    )
    check(sweep, undisturbed, trained, before, again=4)


def test_the_head_is_killed_and_the_whole_cluster_started_anew(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    """Ray's processes on the head are killed, so that the driver lives to notice it."""
    cluster = sweep.cluster
    with timed() as took:
        driver = sweep.start()
        wait_for(lambda: finished_runs(sweep), 240, "a trial is finished", 0.3)
        sweep.wait_for_epoch(2, driver)
        before = finished_runs(sweep)
        for process in cluster.head.processes():
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
        with timed() as noticed:
            said = driver.finished(1, seconds=120)
        assert "cluster was lost" in said
        cluster.kill()
        cluster.start()
        said = sweep.start().finished()
    assert "finished, reused" in said
    note("head killed, cluster anew", took["seconds"], trained, driver_ended_after=round(noticed["seconds"], 1))
    check(sweep, undisturbed, trained, before, again=4)


def test_every_host_of_the_cluster_is_killed_at_once(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    """A power cut: driver, head and workers."""
    with timed() as took:
        driver = sweep.start()
        wait_for(lambda: finished_runs(sweep), 240, "a trial is finished", 0.3)
        sweep.wait_for_epoch(2, driver)
        before = finished_runs(sweep)
        sweep.cluster.kill()
        driver.process.wait(30)
        sweep.cluster.start()
        said = sweep.start().finished()
    assert "finished, reused" in said
    note("all hosts killed", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=4)


# --- MLflow and PostgreSQL ------------------------------------------------------------------------------------------------


def test_the_mlflow_server_is_down(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(2, driver)
        before = finished_runs(sweep)
        sweep.tracking.stop_server()
        time.sleep(MLFLOW_DOWN)
        sweep.tracking.start_server()
        driver.finished()
    note(f"MLflow server down for {MLFLOW_DOWN:.0f} s", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=0)


def test_postgresql_is_restarted(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(2, driver)
        before = finished_runs(sweep)
        sweep.tracking.stop_postgresql("immediate")
        time.sleep(5)
        sweep.tracking.start_postgresql()
        driver.finished()
    note("PostgreSQL crashed and restarted", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=0)


# --- storage ----------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_cut_to_half_its_length(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    with timed() as took:
        driver = sweep.start()
        key = sweep.wait_for_epoch(4, driver)
        driver.signal()
        driver.finished(130, seconds=60)
        before = finished_runs(sweep)
        assert key not in before
        newest = sweep.checkpoints(key)[-1]
        half = newest.with_suffix(".half")
        half.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
        os.utime(
            half, ns=(newest.stat().st_atime_ns, newest.stat().st_mtime_ns)
        )  # else the watcher takes it for a new one
        half.replace(newest)
        sweep.start().finished()
    note("checkpoint cut to half", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=2)
    assert trained.epochs(key)[key, int(newest.name[:6])] == 2, (
        "the checkpoint before it was used, and its epoch trained again"
    )
    assert trained.epochs(key)[key, 1] == 1, "not from the beginning"


@pytest.mark.usefixtures("separate")
def test_the_storage_is_full(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    """The state folder lies on a file system of its own, which something else fills while trials run."""
    sweep.state = sweep.cluster.lab.shared / "small" / "state"
    trained.state = sweep.state
    with timed() as took:
        driver = sweep.start()
        sweep.wait_for_epoch(2, driver)
        fill(sweep.cluster.lab.shared / "small" / "filling")
        said = driver.finished(1)
        assert "No space left on device" in said
        assert "store.state" in said, "the remedy is named"
        before = finished_runs(sweep)
        trials, studies = sweep.runs()
        assert not [run for run in trials + studies if run.status == "RUNNING"]
        (sweep.cluster.lab.shared / "small" / "filling").unlink()
        sweep.start().finished()
    note("storage full", took["seconds"], trained)
    check(sweep, undisturbed, trained, before, again=TRIALS)


def fill(path: Path) -> None:
    """Write a file until there is no room for one more byte."""
    size = 1 << 20
    with path.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2


# --- several drivers --------------------------------------------------------------------------------------------------------


def test_two_drivers_ask_for_the_same_study_at_once(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    with timed() as took:
        drivers = [sweep.start(), sweep.start()]
        for driver in drivers:
            driver.finished()
    note("two drivers at once", took["seconds"], trained)
    check(sweep, undisturbed, trained, {}, again=0)


# --- the basics of several hosts --------------------------------------------------------------------------------------------


def test_the_page_of_mlflow_lists_runs_on_another_machine_and_for_no_other_page(
    undisturbed: dict[str, bytes], services: tuple[Cluster, Tracking]
) -> None:
    """A browser sends the page's own address as Origin with a search; MLflow then refuses what it was not told of."""
    tracking = services[1]
    asked = {"experiment_ids": ["1"], "max_results": 1}
    for origin, status in ((tracking.uri, 200), ("http://elsewhere.example", 403)):
        request = urllib.request.Request(
            f"{tracking.uri}/ajax-api/2.0/mlflow/runs/search",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json", "Origin": origin},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                said, code = json.load(answer), answer.status
        except urllib.error.HTTPError as error:
            said, code = {}, error.code
        assert code == status
        assert bool(said.get("runs")) == (status == 200)


def test_a_driver_elsewhere_is_rays_client(sweep: Study, undisturbed: dict[str, bytes], trained: Trained) -> None:
    pytest.importorskip("grpc", reason="ray:// needs ray[client]")
    with timed() as took:
        sweep.start(address=sweep.cluster.client_address, host=sweep.cluster.desk()).finished()
    note("ray:// from another machine", took["seconds"], trained)
    check(sweep, undisturbed, trained, {}, again=0)


@pytest.mark.usefixtures("separate")
def test_what_a_node_lacks_is_named_and_a_pack_is_fetched_by_ssh(
    sweep: Study, undisturbed: dict[str, bytes], trained: Trained
) -> None:
    """First a node has another state folder mounted, and no pack; then no pack alone, but a key to a remote that has it.

    The remote is a fourth host; the node keeps what it fetched.
    """
    if not remote.available():
        pytest.skip("sshd is not here (Debian: openssh-server)")
    lab = sweep.cluster.lab
    worker, prepared = lab.hosts["worker2"], sweep.project / "data" / "prepared"
    sweep.state.mkdir()
    for folder in (sweep.state, prepared):
        worker.call("mount", "-t", "tmpfs", "none", str(folder))
    kept = {name: (sweep.project / name).read_bytes() for name in ("dvc.yaml", "dvc.lock", ".dvc/config")}
    server = None
    try:
        said = sweep.start().finished(1)
        worker.call("umount", "-l", str(sweep.state))
        named = [line for line in said.splitlines() if "worker2" in line]
        assert any(f"store.state={sweep.state} is not the driver's folder" in line for line in named), said
        assert any("pack.safetensors is not there" in line and "dvc push" in line for line in named), said
        assert not any("worker1" in line for line in said.splitlines())
        assert not trained.epochs(), "nothing was trained"
        trials, studies = sweep.runs()
        assert not [run for run in trials + studies if run.status == "RUNNING"]

        server = remote.Remote(lab.host("remote", 101))
        for name in ("head", "worker2"):
            server.admit(lab.hosts[name])
        remote.push(sweep.cluster.head, sweep.project, "market1501", server.url)
        with timed() as took:
            said = sweep.start().finished()
    finally:
        for folder in (sweep.state, prepared):
            worker.run(["umount", "-q", "-l", str(folder)])
        if server is not None:
            server.close()
        for name, data in kept.items():
            (sweep.project / name).write_bytes(data)
    fetching = [line for line in said.splitlines() if "is fetched from the DVC remote by" in line]
    assert len(fetching) == 1
    assert "worker2" in fetching[0]
    assert "worker1" not in fetching[0]
    assert len(list((worker.own_home / ".cache" / "a3m" / "packs").glob("*/pack.safetensors"))) == 1
    note("pack fetched by ssh", took["seconds"], trained)
    check(sweep, undisturbed, trained, {}, again=0)
    assert "worker2" in {run.tags["host"] for run in sweep.runs()[0]}, "it has trained with what it fetched"
