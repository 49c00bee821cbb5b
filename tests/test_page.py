"""The page and the three stages that write the report."""

import json
import re
import runpy
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_data import ablation, alpha_beta, runs, unfinish

from a3m.errors import DataError
from a3m.report import figures, page, tables
from a3m.report import results as r

PIPELINES = Path(__file__).parents[1] / "pipelines"
VOID = {"meta", "link", "br", "img", "hr"}


class Balance(HTMLParser):
    """Collects ids, addresses and text, and fails at a tag that is closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.addresses, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("href", "src", "xlink:href") if name in values]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def make(studies):
    studies = {study: r.check(results) for study, results in studies.items()}
    svgs = {name: figures.svg_text(figure, name) for name, figure in figures.all_figures(studies).items()}
    return page.page(
        studies, tables.all_tables(studies), svgs, {study: runs(results) for study, results in studies.items()}
    )


@pytest.fixture(scope="module")
def twin_page():
    return make({"ablation": ablation(), "alpha_beta": alpha_beta()})


def test_tags_are_balanced_and_ids_are_unique(twin_page):
    parsed = Balance()
    parsed.feed(twin_page)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)


def test_the_page_needs_no_network_and_no_script(twin_page):
    parsed = Balance()
    parsed.feed(twin_page)
    assert all(address.startswith(("#", "data:")) for address in parsed.addresses)
    assert "<script" not in twin_page
    assert "@import" not in twin_page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", twin_page))


def test_the_page_holds_tables_figures_runs_and_the_data_version(twin_page):
    for words in ("Table 1.", "Figure 5.", "Figure 7.", "Attributes:", "ResNet-50 (I+V)", "0123456789abcdef"):
        assert words in twin_page
    assert "data version dddddddddddd" in twin_page
    assert twin_page.count("<svg ") == 2
    assert "24 runs, 24 min 36 s of training in all" in twin_page
    assert "worker-&lt;1&gt;" in twin_page
    assert "Nothing: every trial has finished." in twin_page


def test_twins_cannot_be_misread(twin_page):
    assert twin_page.count('class="banner twins"') == 2
    assert twin_page.count("SYNTHETIC TWIN") >= 2
    assert "Do not compare with published numbers" in twin_page
    real = make({"ablation": ablation(source="raw")})
    assert 'class="banner real"' in real
    body = real[real.index("<body>") :]
    assert "twin rank-1" not in body
    assert "synthetic" not in body.lower()
    assert "notmeasured" not in body


def test_what_was_not_run_is_listed():
    results = ablation()
    text = make(
        {"ablation": unfinish(results, (results["method"] == "att1") & (results["seed"] == 1), reason="a <b> c")}
    )
    assert "alpha_beta (Figure 7): no results; run python sweeps/alpha_beta.py" in text
    assert "att1 head.normalise_scores=true seed 1 failed: a &lt;b&gt; c (key 0000000000000007)" in text


def test_without_any_study_the_page_says_so():
    text = make({})
    assert "ablation (Table 1 and Figure 5): no results" in text


def test_a_study_without_a_list_of_runs_says_so():
    studies = {"alpha_beta": r.check(alpha_beta())}
    text = page.page(studies, tables.all_tables(studies), {}, {})
    assert "No list of runs" in text


def test_every_study_has_contents():
    assert set(page.CONTENTS) == set(r.STUDIES)
    assert {name for contents in page.CONTENTS.values() for name in contents.tables} == set(tables.NAMES)
    assert (
        {name for contents in page.CONTENTS.values() for name in contents.figures}
        == set(figures.NAMES)
        == set(page.ALTERNATIVES)
    )


# --- the stages ---------------------------------------------------------------------------------------------------------


def project(root, **studies):
    """A folder with the parameters, the three stage scripts and the results of some studies."""
    (root / "results").mkdir(parents=True)
    (root / "pipelines").mkdir()
    shutil.copy(PIPELINES.parent / "params.yaml", root)
    for name in ("tables", "figures", "report"):
        shutil.copy(PIPELINES / f"{name}.py", root / "pipelines")
    for study, results in studies.items():
        results.to_csv(root / "results" / f"{study}.csv", index=False)
        runs(results).to_csv(root / "results" / f"{study}.runs.csv", index=False)
    return root


def run_stages(root):
    for name in ("tables", "figures", "report"):
        runpy.run_path(str(root / "pipelines" / f"{name}.py"))["main"](root)


def test_the_stages_write_the_report_and_again_the_same_bytes(tmp_path):
    written = []
    for name in ("first", "second"):
        root = project(tmp_path / name, ablation=ablation(seeds=1), alpha_beta=alpha_beta())
        run_stages(root)
        files = sorted(path for path in (root / "reports").rglob("*") if path.is_file())
        written.append({str(path.relative_to(root)): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert {"reports/index.html", "reports/report.md", "reports/metrics.json"} < set(written[0])
    assert len(written[0]) == 4 * 3 + 2 * 2 + 3
    assert json.loads(written[0]["reports/metrics.json"])["ablation"]["twins"]["seeds"] == 1
    assert b"SYNTHETIC" not in written[0]["reports/report.md"]
    assert written[0]["reports/report.md"].count(b"Synthetic twins.") == 2


def test_a_study_without_results_leaves_no_old_files(tmp_path, capsys):
    root = project(tmp_path, alpha_beta=alpha_beta())
    for old in ("tables/table1.tex", "figures/figure5.svg"):
        (root / "reports" / old).parent.mkdir(parents=True, exist_ok=True)
        (root / "reports" / old).write_text("of an earlier run")
    run_stages(root)
    assert sorted(path.name for path in (root / "reports" / "tables").iterdir()) == [
        "figure7.csv",
        "figure7.md",
        "figure7.tex",
    ]
    assert sorted(path.name for path in (root / "reports" / "figures").iterdir()) == ["figure7.png", "figure7.svg"]
    assert "not run: ablation" in capsys.readouterr().out
    assert set(json.loads((root / "reports" / "metrics.json").read_text())) == {"alpha_beta"}


def test_an_error_is_one_line_on_stderr_and_exit_code_1(tmp_path, monkeypatch, capsys):
    root = project(tmp_path, ablation=ablation().query("method != 'att2'"))
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["pipelines/tables.py"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path("pipelines/tables.py", run_name="__main__")
    assert left.value.code == 1
    assert re.fullmatch(r"error: results/ablation.csv: no trial of att2[^\n]*\n", capsys.readouterr().err)
    assert not (root / "reports" / "tables").exists()


def test_the_report_without_figures_says_what_to_run(tmp_path):
    root = project(tmp_path, alpha_beta=alpha_beta())
    with pytest.raises(DataError, match="run python pipelines/figures"):
        runpy.run_path(str(root / "pipelines" / "report.py"))["main"](root)
