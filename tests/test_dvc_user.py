"""DVC as its user has it: experiments that set settings, their table, differences of metrics, and plots with data in them.

A project with one data set and one study; its results are made up (tests/report_data.py), so that nothing is trained: what
`dvc exp run` runs is the stage that composes the settings, and the stages from results to the report.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from lab.project import copy_project
from report_data import ablation

from a3m import config

SMALL = {
    "twins": ["market1501"],
    "datasets": {"market1501": {"reader": "market1501", "images": "market1501"}},
    "studies": {"ablation": "market1501"},
    "figures": {"figure5": {"study": "ablation", "file": "csv"}},
}
AUTHOR = ("-c", "user.name=user", "-c", "user.email=user@example.org", "-c", "commit.gpgsign=false")
pytestmark = pytest.mark.slow


class Project:
    """A clone in which commands are given."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),  # else Python imports the a3m of another tree, which is refused
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "user", "GIT_AUTHOR_EMAIL": "user@example.org",
            "GIT_COMMITTER_NAME": "user", "GIT_COMMITTER_EMAIL": "user@example.org",
        }  # fmt: skip

    def __call__(self, *words: str, fails: bool = False) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert (done.returncode != 0) == fails, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout if not fails else done.stdout + done.stderr

    def read(self, path: str) -> Any:
        return yaml.safe_load((self.folder / path).read_text())

    def measure(self, results: pd.DataFrame) -> None:
        """Results of the study as a sweep leaves them, and what the stages after it make of them."""
        (self.folder / "results").mkdir(exist_ok=True)
        results.to_csv(self.folder / "results" / "ablation.csv", index=False)
        self("python", "pipelines/tables.py")
        self("python", "pipelines/figures.py", "figure5", "study=ablation")
        self("python", "pipelines/report.py")
        self("dvc", "commit", "-q", "-f", "tables", "report")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("dvc") / "project"
    folder.mkdir()
    copy_project(folder)
    shutil.rmtree(folder / ".dvc", ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    text = (folder / "params.yaml").read_text()
    written = yaml.safe_load(text) | SMALL
    written["defaults"][1]["profile"] = "smoke"
    (folder / "params.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    made = Project(folder)
    made("git", "init", "-q")
    made("dvc", "init", "-q")
    made("dvc", "repro", "-q", "settings")
    made.measure(ablation())
    made("git", "add", ".")
    made("git", *AUTHOR, "commit", "-q", "-m", "first")
    return made


@pytest.fixture(scope="module")
def experiment(project: Project) -> str:
    """Two settings by their names in Hydra's composition, one of them of another file; the experiment's name."""
    given = ["-S", "++ablation.seeds=[0,1]", "-S", "++train.epochs=1", "-S", "defaults.1.profile=smoke"]
    project("dvc", "exp", "run", "-q", "-n", "short", *given, "settings")
    return "short"


def test_an_experiment_writes_its_settings_where_hydra_composes_them(project: Project, experiment: str) -> None:
    written = project.read("params.yaml")
    assert (written["ablation"], written["train"]) == ({"seeds": [0, 1]}, {"epochs": 1})
    composed = config.load_study("ablation", root=project.folder)
    assert (composed.ablation.seeds, composed.train.epochs, composed.profile) == ([0, 1], 1, "smoke")
    assert project.read("settings/study/ablation.yaml")["train"]["epochs"] == 1


def test_a_setting_is_set_again_with_two_pluses_and_an_unknown_one_is_refused(
    project: Project, experiment: str
) -> None:
    project("dvc", "exp", "run", "-q", "-S", "++train.epochs=2", "settings")
    assert project.read("settings/study/ablation.yaml")["train"]["epochs"] == 2
    assert "train.epochs" in project("dvc", "exp", "run", "-S", "+train.epochs=3", "settings", fails=True)
    assert "epoch_count" in project("dvc", "exp", "run", "-S", "++train.epoch_count=3", "settings", fails=True)
    project("git", "checkout", "-q", "params.yaml")  # a refused setting stays there, as the page says


def test_the_table_of_experiments_has_parameters_and_metrics(project: Project, experiment: str) -> None:
    listed = json.loads(project("dvc", "exp", "show", "--json"))
    rows = [row for row in listed if row["rev"] != "workspace"]
    baseline = rows[0]["data"]
    (run,) = [
        revision["data"]
        for row in rows
        for one in row["experiments"] or []
        if one["name"] == experiment
        for revision in one["revs"]
    ]
    assert run["params"]["params.yaml"]["data"]["train"] == {"epochs": 1}
    assert "train" not in baseline["params"]["params.yaml"]["data"]
    metrics = run["metrics"]["reports/metrics.json"]["data"]
    assert 0 < metrics["ablation"]["twins"]["baseline2"]["mAP"] < 1
    assert metrics == json.loads((project.folder / "reports/metrics.json").read_text())


def test_metrics_and_plots_show_what_changed_since_the_last_commit(project: Project, tmp_path: Path) -> None:
    before = json.loads((project.folder / "reports/metrics.json").read_text())["ablation"]["twins"]["baseline2"]
    better = ablation()
    better["test/mAP_trapezoid"] += 0.0625
    better["test/mAP"] += 0.0625
    project.measure(better)

    changes = json.loads(project("dvc", "metrics", "diff", "--json"))["reports/metrics.json"]
    found = changes["ablation.twins.baseline2.mAP"]
    assert found["old"] == before["mAP"]
    assert found["diff"] == pytest.approx(0.0625, abs=1e-6)
    assert "ablation.twins.baseline2.rank1" not in changes  # it did not change
    assert "baseline2.mAP" in project("dvc", "metrics", "diff", "--md")

    project("dvc", "plots", "diff", "-q", "-o", str(tmp_path / "diff"), "HEAD")
    page = (tmp_path / "diff" / "index.html").read_text()
    drawn = re.findall(r'"percent":\s*"?([\d.]+)', page)
    mean = 100 * ablation().query("method == 'baseline2'")["test/mAP_trapezoid"].mean()
    for wanted in (mean, mean + 6.25):
        assert any(abs(float(value) - wanted) < 1e-3 for value in drawn), wanted
    assert "HEAD" in page
    assert "workspace" in page
    assert "Baseline-2" in page


def test_plots_that_are_not_there_yet_do_not_keep_the_others_from_being_shown(project: Project, tmp_path: Path) -> None:
    """One study of seven was run: Figure 7's plot and the other studies' have no file."""
    project("dvc", "plots", "show", "-q", "-o", str(tmp_path / "shown"))
    page = (tmp_path / "shown" / "index.html").read_text()
    assert "Baseline-2" in page
    assert re.search(r'"percent":\s*"?[\d.]+', page)
    assert "figure5.png" in page
