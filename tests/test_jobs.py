"""Jobs on a real Ray of this machine: processes that die, memory that ends, Ctrl-C, a head that is gone, a driver elsewhere.

What a job does is said by its `kind`; `perform` below really does it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_study import pack_into

from a3m.cluster import jobs
from a3m.cluster.tuning import Ended, reason
from a3m.errors import StoreError, UserError
from a3m.settings import Cluster, Train

FULL = "/state: cannot write a checkpoint (No space left on device): make room or set store.state"


def performer() -> Any:
    """`perform` as a nested function: pickled by value, since workers cannot import a test."""

    def perform(job: dict[str, Any], report: Any) -> dict[str, Any]:
        kind, tries = job["kind"], Path(job["trial"]["state"]) / job["key"]
        first = not tries.exists()
        with tries.open("a") as file:
            file.write(f"{os.getpid()}\n")
        report({"epoch": 1})
        if kind == "killed" or (kind == "killed once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "memory":
            raise MemoryError
        if kind == "device":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if kind == "full disk":
            raise StoreError(FULL)
        if kind == "hungry":
            taken = []
            for _ in range(30):
                taken.append(bytearray(os.urandom(1 << 20) * 100))
                time.sleep(0.05)
        for epoch in range(job.get("epochs", 1)):
            time.sleep(0.2)
            report({"epoch": epoch + 2})
        return {"outcome": "finished", "value": 0.5}

    return perform


def given(folder: Path, *kinds: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"key": f"{number}-{kind.replace(' ', '-')}", "kind": kind, "trial": {"state": str(folder)}, **more}
        for number, kind in enumerate(kinds)
    ]


def outcomes(heard: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    found = {}
    for key, result in heard:
        if "outcome" in result:
            assert key not in found, f"{key} ended twice"
            found[key.split("-", 1)[1]] = result
    return found


@pytest.mark.cluster
def test_a_job_whose_process_dies_is_tried_again_and_when_lost_says_what_it_died_of(tmp_path: Path) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    kinds = ("well", "killed once", "killed", "memory", "device", "full disk")
    jobs.run(
        given(tmp_path, *kinds), performer(), Cluster(retries=1), Train(), lambda *said: heard.append(said)
    )  # fmt: skip
    ended = outcomes(heard)
    assert {kind for kind, result in ended.items() if result["outcome"] == "finished"} == {"well", "killed-once"}
    assert ended["well"]["value"] == 0.5
    assert "its process was killed (signal 9)" in ended["killed"]["reason"]
    assert "out of memory in the trial" in ended["memory"]["reason"]
    assert "CUDA out of memory" in ended["device"]["reason"]
    assert "train.batch_size" in ended["device"]["reason"]
    assert ended["full-disk"]["reason"] == FULL
    tries = {
        path.name.split("-", 1)[1]: len(path.read_text().split()) for path in tmp_path.glob("*-*") if path.is_file()
    }
    assert tries == {"well": 1, "killed-once": 2, "killed": 2, "memory": 2, "device": 2, "full-disk": 2}
    again = [result["retried"] for key, result in heard if "retried" in result and key.endswith("killed-once")]
    assert again
    assert "killed" in again[0]


@pytest.mark.cluster
def test_who_is_ended_by_the_memory_monitor_ends_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own monitor, its threshold 2 GB above what this machine uses; the job takes up to 3 GB."""
    memory = psutil.virtual_memory()
    if memory.available < 6e9:
        pytest.skip("less than 6 GB of memory are free")
    used = memory.total - memory.available
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(used + 2e9) / memory.total:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    heard: list[tuple[str, dict[str, Any]]] = []
    kinds = ("well", "hungry", "well", "well")
    jobs.run(given(tmp_path, *kinds), performer(), Cluster(), Train(), lambda *said: heard.append(said))
    lost = {key: result["reason"] for key, result in heard if result.get("outcome") == "lost"}
    if set(lost) > {"1-hungry"} and psutil.virtual_memory().available < memory.available - 0.5e9:
        pytest.skip("other processes of this machine took memory meanwhile: the monitor looks at all of them")
    assert list(lost) == ["1-hungry"]
    assert "out of memory: Ray's memory monitor ended it at" in lost["1-hungry"]
    assert "cluster.max_concurrent" in lost["1-hungry"]
    assert sum(result.get("outcome") == "finished" for _, result in heard) == 3


def test_suspects_run_alone_after_the_others_and_only_who_fails_alone_is_lost() -> None:
    """The rounds without Ray: b and c need too much together, b also when alone."""
    waiting = {key: {"key": key} for key in "abcd"}
    rounds: list[tuple[str, int]] = []
    lost: list[str] = []

    def heard(key: str, result: dict[str, Any]) -> None:
        if "outcome" in result:
            waiting.pop(key)
            lost.extend([key] * (result["outcome"] == "lost"))

    def tune(chosen: list[dict[str, Any]], concurrent: int) -> Ended:
        keys = "".join(job["key"] for job in chosen)
        rounds.append((keys, concurrent))
        if {"b", "c"} <= set(keys):
            heard("a", {"outcome": "finished"})
            return Ended("too much", True, ("b", "c"))
        if keys == "b":
            return Ended("too much", True, ("b",))
        for key in keys:
            heard(key, {"outcome": "finished"})
        return Ended()

    jobs._rounds(waiting, 5, heard, tune, lambda: False)
    assert rounds == [("abcd", 5), ("d", 5), ("b", 1), ("c", 1)]
    assert lost == ["b"]
    assert not waiting


def test_a_scheduler_that_stops_without_getting_anywhere_is_given_up() -> None:
    asked: list[int] = []

    def tune(chosen: list[dict[str, Any]], concurrent: int) -> Ended:
        asked.append(len(chosen))
        return Ended("it broke")

    with pytest.raises(UserError, match="stopped 3 times: it broke"):
        jobs._rounds({"a": {"key": "a"}}, 0, lambda key, result: None, tune, lambda: False)
    assert asked == [1, 1, 1]


def test_what_a_process_died_of_is_one_line() -> None:
    from ray.exceptions import ActorDiedError

    assert "left no word" in reason(None)
    assert reason(ActorDiedError()).startswith("its process was killed")
    assert reason(StoreError(FULL)) == FULL
    monitor = (
        "Caught unexpected exception: 1 worker(s) were killed due to the node running low on memory. Memory on the node "
        "(IP: 10.0.0.7, ID: 0829) was 3.76GB used / 23.54GB limit (0.15)\n"
        "Selected to kill: (Actor(cb2f): pid=335, actual memory used=0.89GB)"
    )
    said = reason(RuntimeError(monitor))
    assert "ended it at 0.89 GB (10.0.0.7: 3.76 of 23.54 GB used)" in said
    assert "\n" not in said


# --- in a process of its own: signals, and Ray with a head ---------------------------------------------------------------

DRIVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_jobs import given, performer
from a3m import config
from a3m.cluster import jobs
from a3m.settings import Cluster, Train
folder = Path({folder!r})
def event(key, result):
    with (folder / "heard").open("a") as file:
        file.write(f"{{key}} {{result}}\\n")
with config.user_errors():
    jobs.run(given(folder, "well", "well", "well", epochs={epochs}), performer(), Cluster(), Train(), event)
"""


def start(folder: Path, epochs: int) -> subprocess.Popen[str]:
    code = DRIVER.format(tests=str(Path(__file__).parent), folder=str(folder), epochs=epochs)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, text: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.cluster
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_stops_in_order_and_twice_at_once(tmp_path: Path, times: int) -> None:
    process = start(tmp_path, 10_000)
    wait_for(tmp_path / "heard", "'epoch': 3", process)
    os.killpg(process.pid, signal.SIGINT)
    if times == 2:
        time.sleep(0.3)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert "Ctrl-C again ends at once" in said
    if times == 2:
        assert time.monotonic() - began < 10
        assert "ended at once" in said
    else:
        assert "interrupted: nothing is lost" in said


HEAD = """
mount -t tmpfs none /dev/shm && ip link set lo up || exit 77
export RAY_AUTH_MODE=token RAY_TMPDIR={folder}/ray
ray start --head --node-ip-address=127.0.0.1 --num-cpus=2 --include-dashboard=false --temp-dir={folder}/ray \
    --ray-client-server-port=10001 > {folder}/head 2>&1 || exit 78
exec {python} -c "$CALL"
"""


def with_head(folder: Path, call: str) -> str:
    """Run a function of this file beside a head, in namespaces of its own that take all processes with them."""
    script = HEAD.format(folder=folder, python=sys.executable)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_jobs; test_jobs.{call}"
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script]
    environment = os.environ | {"CALL": code, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=285, env=environment, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"namespaces are not allowed here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie below it, and their names have an end."""
    folder = Path(tempfile.mkdtemp(prefix="a3m-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


STUDY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import tiny
from a3m import config, study
params = tiny.params(epochs={epochs})
params.ablation.seeds, params.cluster.address = [0], {address!r}
with config.user_errors():
    study.run(params, Path({folder!r}), "ablation", [{{"method": "baseline1"}}, {{"method": "a3m"}}])
"""


def study_on(folder: str, epochs: int, address: str) -> subprocess.Popen[str]:
    """A whole study, since a cluster that is joined is first asked whether it can train this."""
    code = STUDY.format(tests=str(Path(__file__).parent), folder=folder, epochs=epochs, address=address)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _lose_the_head(folder: str) -> None:
    process = study_on(folder, 10_000, "auto")
    deadline = time.monotonic() + 150
    while not list(Path(folder).glob(".a3m/state/checkpoints/*/*.pt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (head,) = (one for one in psutil.process_iter(["name"]) if one.info["name"] == "gcs_server")
    head.kill()
    began = time.monotonic()
    said = process.communicate(timeout=100)[0]
    print(process.returncode, round(time.monotonic() - began), said)


@pytest.mark.cluster
def test_a_head_that_is_gone_ends_the_sweep_with_a_word_and_with_its_results(short: Path) -> None:
    pack_into(short)
    code, seconds, said = with_head(short, f"_lose_the_head({str(short)!r})").split(maxsplit=2)
    assert "error: the cluster was lost: its head 127.0.0.1:" in said
    assert "the same command goes on" in said
    assert code == "1"
    assert int(seconds) < 60, "after that Ray aborts the process"
    assert (short / "results" / "ablation.csv").exists(), "written by what comes after the cluster"


def _from_a_client(folder: str) -> None:
    process = study_on(folder, 3, "ray://127.0.0.1:10001")
    said = process.communicate(timeout=260)[0]
    print(process.returncode, said)


@pytest.mark.cluster
def test_a_driver_that_is_a_client_hears_of_every_trial(short: Path) -> None:
    pack_into(short)
    said = with_head(short, f"_from_a_client({str(short)!r})")
    assert said.startswith("0 "), said
    assert "[1/2]" in said
    assert "[2/2]" in said
    assert said.count(": finished") == 2
