"""`a3m table`: the table of a study that the report does not know by name."""

import sys
from pathlib import Path

import pytest
from report_data import ablation

from a3m import commands
from a3m.errors import DataError
from a3m.report import own
from a3m.report.table import DASH


def merge(root: Path) -> Path:
    """results/merge.csv: Baseline-2 and A3M with two ways to merge its maps, as sweeps/merge.py of the tutorial has them."""
    results = ablation(seeds=3).query("method in ['baseline2', 'a3m']").drop(columns=["baseline1.feature"])
    results["head.merge"] = ""
    results.loc[results["method"] == "a3m", "head.merge"] = [
        "max" if normalised == "True" else "mean"
        for normalised in results.loc[results["method"] == "a3m", "head.normalise_scores"]
    ]
    results = results.drop(columns=["head.normalise_scores"]).assign(study="merge")
    (root / "results").mkdir()
    path = root / "results" / "merge.csv"
    results.to_csv(path, index=False)
    return path


def test_a_study_of_ones_own_has_a_row_a_point_and_the_difference_to_baseline_2(tmp_path: Path) -> None:
    merge(tmp_path)
    table, files = own.write(tmp_path, "merge")
    labels = list(table.display["method"])
    assert [label.partition(" ")[0] for label in labels] == ["Baseline-2", "A3M", "A3M"]
    assert len(set(labels)) == 3
    assert all(seeds == "3" for seeds in table.display["twin seeds"])
    difference = list(table.display[next(column for column in table.display if "Δ" in str(column))])
    assert difference[0] == DASH
    assert all("±" in cell for cell in difference[1:])
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        f"reports/own/merge.{ending}" for ending in ("csv", "md", "tex")
    ]
    assert "published" not in table.markdown().lower().split("\n")[0]


def test_what_was_not_run_is_named_with_what_was(tmp_path: Path) -> None:
    merge(tmp_path)
    with pytest.raises(DataError, match=r"python sweeps/marge.py.*There are results of: merge"):
        own.write(tmp_path, "marge")


def test_a_name_that_leads_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["a3m", "../params"])
    with pytest.raises(SystemExit, match="2"):
        commands.table()
    assert "a3m table ../params: expected the name of a study" in capsys.readouterr().err
