"""The console command: help, a wrong verb, a taken port, cleaning."""

import shutil
import socket
import sys
from pathlib import Path

import pytest

from a3m import __main__, commands
from a3m.state import Lease

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_verb_and_a_wrong_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["a3m", "--help"])
    __main__.main()
    said = capsys.readouterr().out
    assert all(f"\n  {verb} " in said for verb in ("train", "check", "plan", "ui", "clean"))
    monkeypatch.setattr(sys, "argv", ["a3m", "trian"])
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert "a3m trian: no such verb; expected one of " in capsys.readouterr().err


def test_a_taken_port_is_one_line_with_the_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["a3m", f"port={port}"])
        with pytest.raises(SystemExit, match="1"):
            commands.ui()
    assert capsys.readouterr().err.startswith(f"error: port {port} is taken")


@pytest.mark.parametrize(
    ("argument", "message"), [("port=x", "expected port=<number>"), ("prot=1", "expected port=<number>")]
)
def test_a_wrong_argument_of_ui_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["a3m", argument])
    with pytest.raises(SystemExit, match="2"):
        commands.ui()
    assert message in capsys.readouterr().err


def test_the_ui_of_a_project_without_runs_says_what_to_do(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(sys, "argv", ["a3m", f"port={port}"])
    with pytest.raises(SystemExit, match="1"):
        commands.ui()
    assert "no store yet: `make repro`" in capsys.readouterr().err


def test_clean_removes_caches_and_keeps_what_an_unfinished_trial_needs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("state/cache/packs", "state/nodes/driver", "state/checkpoints/unfinished"):
        (project / ".a3m" / name).mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["a3m", "plan=true"])
    commands.clean()
    assert "state/cache" in capsys.readouterr().out
    assert (project / ".a3m" / "state" / "cache").exists()
    monkeypatch.setattr(sys, "argv", ["a3m"])
    trains = Lease(project / ".a3m" / "state" / "leases" / "key.json")
    assert trains.try_acquire()
    commands.clean()
    assert (project / ".a3m" / "state" / "nodes" / "driver").exists(), "a sweep that runs needs its notes"
    trains.release()
    shutil.rmtree(trains.path.parent)
    commands.clean()
    assert sorted(path.name for path in (project / ".a3m" / "state").iterdir()) == ["checkpoints"]
    assert (project / ".a3m" / "state" / "checkpoints" / "unfinished").exists()
    assert not (project / "mlflow.db").exists()
