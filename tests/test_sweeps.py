"""Every sweep: its space is made of settings, its size is what its head says; checked without training."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from a3m import config, plan
from a3m.settings import varied

ROOT = Path(__file__).parents[1]
PROFILES = ("smoke", "demo", "paper", "modern")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"sweep_{name}", ROOT / "sweeps" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def space(name: str, profile: str) -> list[dict[str, object]]:
    params = config.load_study(name, [f"profile={profile}"], root=ROOT)
    module = load(name)
    return [*module.SPACE, *params.ablation.beside] if name == "ablation" else module.space(params.alpha_beta.values)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["ablation", "alpha_beta"])
def test_every_point_of_every_space_is_a_valid_and_distinct_trial(name: str, profile: str) -> None:
    params = config.load_study(name, [f"profile={profile}", "train.device=cpu", "plan=true", "seeds=[0]"], root=ROOT)
    points = space(name, profile)
    for point in points:
        varied(params, point, config.methods())
    assert len(plan.expand(params, ROOT, name, points)) == len(points)


def test_the_ablation_has_the_six_variants_and_a3m_as_written_beside_normalised_scores() -> None:
    points = space("ablation", "demo")
    assert [point["method"] for point in points[:6]] == [
        "baseline1",
        "baseline2",
        "att1",
        "att2",
        "a3m_unlabelled",
        "a3m",
    ]
    assert {"method": "a3m", "head.normalise_scores": False} in points


def test_figure_7_is_two_independent_lines_through_the_centre() -> None:
    points = space("alpha_beta", "paper")
    assert len(points) == 19
    assert all(point["loss.alpha"] == 0.5 or point["loss.beta"] == 0.5 for point in points)
    assert sorted(point["loss.alpha"] for point in points if point["loss.beta"] == 0.5) == [
        round(0.1 * i, 1) for i in range(1, 11)
    ]
    assert len(space("alpha_beta", "demo")) == 9


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_sweep_runs_from_any_folder_and_explains_itself(tmp_path: Path) -> None:
    script = str(ROOT / "sweeps" / "alpha_beta.py")
    planned = run(script, "train.epochs=1", "plan=true", f"store.uri=sqlite:///{tmp_path}/none.db", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "9 to be trained" in planned.stdout
    helped = run(script, "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "method" in helped.stdout
    swept = run(script, "loss.alpha=0.3", cwd=tmp_path)
    assert (swept.returncode, swept.stdout) == (2, "")
    assert re.fullmatch(r"error: loss\.alpha=0\.3: this study varies loss\.alpha itself; leave it out\n", swept.stderr)
    multirun = run(script, "-m", cwd=tmp_path)
    assert multirun.returncode == 2
    assert "--multirun is refused" in multirun.stderr
    unknown = run(script, "train.epoch=1", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "epoch" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert not list(tmp_path.iterdir()), "no log files, no output folders, no stores"
