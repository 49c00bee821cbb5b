"""Keys and code digests: what changes them and what does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from a3m import identity

SETTINGS = {"seed": 0, "loss": {"alpha": 0.5}}


def test_the_key_depends_on_settings_data_and_code_and_not_on_order() -> None:
    key = identity.key(SETTINGS, "data", "code")
    assert key == identity.key({"loss": {"alpha": 0.5}, "seed": 0}, "data", "code")
    others = [
        ({**SETTINGS, "seed": 1}, "data", "code"),
        (SETTINGS, "data2", "code"),
        (SETTINGS, "data", "code2"),
        (SETTINGS, "data", None),
    ]
    assert len({key, *(identity.key(*other) for other in others)}) == 5


def test_the_code_of_a_trial_is_what_it_reaches_by_import() -> None:
    modules = identity.code_modules()
    assert {"a3m.trial", "a3m.fit", "a3m.loss", "a3m.model.network", "a3m.evaluate", "a3m.metrics.ranking"} <= set(
        modules
    )
    assert not {
        "a3m.record",
        "a3m.cluster",
        "a3m.config",
        "a3m.settings",
        "a3m.study",
        "a3m.data.twins",
        "a3m.report",
    } & set(modules)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "a3m").mkdir()
    for name in ("__init__", "identity", "trial", "fit", "other"):
        (tmp_path / "a3m" / f"{name}.py").write_text("")
    (tmp_path / "a3m" / "identity.py").write_text(Path(identity.__file__).read_text())
    (tmp_path / "a3m" / "trial.py").write_text("from a3m import fit\n\n\ndef train():\n    return fit.x\n")
    (tmp_path / "a3m" / "fit.py").write_text("x = 1\n")
    return tmp_path


def digest(package: Path) -> str:
    code = "from a3m import identity; print(identity.code_digest())"
    return subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=True).stdout


def test_comments_docstrings_and_unreached_modules_retrain_nothing(package: Path) -> None:
    before = digest(package)
    (package / "a3m" / "trial.py").write_text(
        '"""A docstring."""\nfrom a3m import fit  # a comment\n\ndef train():\n    """Another."""\n    return (fit.x)\n'
    )
    (package / "a3m" / "other.py").write_text("y = 2\n")
    assert digest(package) == before
    (package / "a3m" / "fit.py").write_text("x = 2\n")
    assert digest(package) != before
