"""Checkpoints and leases: damage, truncation, owners that died."""

import errno
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from a3m import state
from a3m.errors import StoreError


def test_the_newest_whole_checkpoint_is_used_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = state.Checkpoints(tmp_path / "key")
    assert checkpoints.latest() is None
    assert checkpoints.epochs() == 0
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, {"weights": torch.full((4,), float(epoch))})
    files = sorted((tmp_path / "key").iterdir())
    assert len(files) == 2
    files[-1].write_bytes(files[-1].read_bytes()[: files[-1].stat().st_size // 2])
    done, content = checkpoints.latest() or (0, {})
    assert done == 2
    assert torch.equal(content["weights"], torch.full((4,), 2.0))


def test_a_checkpoint_that_is_code_is_not_executed(tmp_path: Path) -> None:
    checkpoints = state.Checkpoints(tmp_path)
    checkpoints.save(1, {"path": Path("x")})  # torch pickles it, weights_only refuses it
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        checkpoints.latest()


def test_a_live_lease_is_respected_and_a_released_one_is_free(tmp_path: Path) -> None:
    first, second = state.Lease(tmp_path / "k.json"), state.Lease(tmp_path / "k.json")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.check()
    first.release()
    assert second.try_acquire()
    with pytest.raises(state.LeaseLost):
        first.check()
    first.release()  # somebody else's: stays
    second.check()
    second.release()


TAKE_AND_DIE = (
    "import sys; from pathlib import Path; from a3m import state; state.Lease(Path(sys.argv[1])).try_acquire()"
)


def test_a_lease_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", TAKE_AND_DIE, str(tmp_path / "k.json")], check=True)
    assert (tmp_path / "k.json").exists()
    assert state.Lease(tmp_path / "k.json").try_acquire()


def test_a_lease_of_another_host_is_taken_over_when_it_expires(tmp_path: Path) -> None:
    record = {"token": "t", "host": "elsewhere", "pid": 1, "born": 0.0, "expires": time.time() + 60}
    (tmp_path / "k.json").write_text(json.dumps(record))
    assert not state.Lease(tmp_path / "k.json").try_acquire()
    (tmp_path / "k.json").write_text(json.dumps(record | {"expires": time.time() - 1}))
    assert state.Lease(tmp_path / "k.json").try_acquire()


def test_a_stale_owner_may_not_write_checkpoints(tmp_path: Path) -> None:
    lease = state.Lease(tmp_path / "leases" / "k.json")
    lease.try_acquire()
    checkpoints = state.Checkpoints(tmp_path / "k", lease.check)
    checkpoints.save(1, {})
    (tmp_path / "leases" / "k.json").write_text(json.dumps({"token": "another"}))
    with pytest.raises(state.LeaseLost):
        checkpoints.save(2, {})
    assert checkpoints.epochs() == 1


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"store\.state"):
        state.Checkpoints(tmp_path / "file" / "k").save(1, {})
    with pytest.raises(StoreError, match=r"store\.state"), state.lease(tmp_path / "file", "k"):
        pass


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A share that is away for so many reads as the list says."""
    left, read = [0], Path.read_text

    def away(path: Path, *given: Any) -> str:
        if path.suffix == ".json" and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, *given)

    monkeypatch.setattr(Path, "read_text", away)
    monkeypatch.setattr(state.time, "sleep", lambda seconds: None)
    return left


def test_a_record_that_cannot_be_read_for_a_moment_is_not_lost(tmp_path: Path, unreadable: list[int]) -> None:
    lease = state.Lease(tmp_path / "k.json")
    assert lease.try_acquire()
    unreadable[0] = 2
    lease.check()
    unreadable[0] = 10
    with pytest.raises(StoreError, match="Stale file handle") as raised:
        lease.check()
    assert not isinstance(raised.value, state.LeaseLost)
    unreadable[0] = 0
    lease.release()


@pytest.mark.parametrize("away", [OSError(errno.ENOSPC, "No space left"), StoreError("not writable"), None])
def test_a_lease_is_renewed_after_its_disk_was_full_or_away_and_ends_when_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: Exception | None
) -> None:
    lease, renewed, write = state.Lease(tmp_path / "k.json"), threading.Event(), state.Lease._write
    monkeypatch.setattr(state, "EXPIRY_SECONDS", 0.06)
    failures = [away] if away else []

    def failing(self: state.Lease) -> None:
        if failures and threading.current_thread() is not threading.main_thread():
            raise failures.pop()
        write(self)
        if threading.current_thread() is not threading.main_thread():
            renewed.set()

    monkeypatch.setattr(state.Lease, "_write", failing)
    before = set(threading.enumerate())
    assert lease.try_acquire()
    (thread,) = set(threading.enumerate()) - before
    assert renewed.wait(20)
    with state._locked(tmp_path):
        (tmp_path / "k.json").write_text(json.dumps({"token": "another"}))
    thread.join(20)
    assert not thread.is_alive()
    assert json.loads((tmp_path / "k.json").read_text()) == {"token": "another"}
