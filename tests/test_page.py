"""The page and the three stages that write the report."""

import json
import re
import runpy
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_data import ablation, alpha_beta, compcars, cub200, every_study, further, photographs, runs, unfinish

from a3m.errors import DataError
from a3m.report import cost, figures, markup, names, page, tables
from a3m.report import results as r
from a3m.report.figures import figure5, figure7, figure8, style

PIPELINES = Path(__file__).parents[1] / "pipelines"
DRAWN = (("figure5", figure5, "ablation"), ("figure7", figure7, "alpha_beta"), ("figure8", figure8, "cub200"))
VOID = {"meta", "link", "br", "img", "hr"}


class Balance(HTMLParser):
    """Collects ids, addresses, buttons' targets and text, and fails at a tag that is closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.addresses, self.words, self.targets, self.titled = [], [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values["popovertarget"]] if "popovertarget" in values else []
        self.titled += [values["aria-labelledby"]] if "aria-labelledby" in values else []
        self.addresses += [values[name] for name in ("href", "src", "xlink:href") if name in values]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def make(studies, links=None):
    studies = {study: r.check(results) for study, results in studies.items()}
    svgs = {
        name: style.svg_text(figure.draw(studies[study]), name) for name, figure, study in DRAWN if study in studies
    }
    return page.page(
        studies, tables.all_tables(studies), svgs, {study: runs(results) for study, results in studies.items()}, links
    )


@pytest.fixture(scope="module")
def twin_page():
    return make({"ablation": ablation(), "alpha_beta": alpha_beta()})


@pytest.fixture(scope="module")
def whole_page():
    return make(every_study())


def test_tags_are_balanced_and_ids_are_unique(whole_page):
    parsed = Balance()
    parsed.feed(whole_page)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)


def test_the_page_needs_no_network_and_no_script(whole_page):
    parsed = Balance()
    parsed.feed(whole_page)
    assert all(address.startswith(("#", "data:")) for address in parsed.addresses)
    assert "<script" not in whole_page
    assert "@import" not in whole_page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", whole_page))


def test_the_page_holds_tables_figures_runs_and_the_data_version(twin_page):
    for words in ("Table 1.", "Figure 5.", "Figure 7.", "Attributes:", "ResNet-50 (I+V)", "0123456789abcdef"):
        assert words in twin_page
    assert "data version dddddddddddd" in twin_page
    assert twin_page.count("<svg ") == 2  # two of its figures were drawn; Figures 2, 4 and 6 come from samples
    assert "24 runs, 24 min 36 s of training in all" in twin_page
    assert "worker-&lt;1&gt;" in twin_page
    assert "photographs (25 classes of real photographs, fine-tuned; no part of make repro): no results" in twin_page


def test_every_study_has_a_section_a_banner_its_cost_and_its_tables(whole_page):
    for study in names.STUDIES:
        assert f'<section id="{study}">' in whole_page
    assert whole_page.count("<h3>Cost</h3>") == 8
    assert whole_page.count('class="banner') == 8 + 2  # and at the head one of each source
    for title in (
        "Table 1.",
        "Table 2.",
        "Table 3.",
        "Table 4.",
        "Table 5.",
        "Table 4, controls",
        "Figure 8.",
        "Photographs",
    ):
        assert f"<h3>{title}" in whole_page
    assert whole_page.count('<tr class="block">') == 2 * (
        4 * 2 + 4
    )  # a table and its controls: two recipes, Table 2 twice


def test_a_table_of_two_studies_stands_once_and_the_second_study_points_to_it(whole_page):
    assert whole_page.count("<h3>Table 2. ") == 1
    section = whole_page[whole_page.index('<section id="cub200_448">') :]
    assert "Its rows stand above: Table 2." in section[: section.index("</section>")]
    alone = make({"cub200_448": cub200(study="cub200_448")})
    assert "<h3>Table 2. " in alone
    assert "stand above" not in alone


def test_a_picture_inside_a_figure_comes_through_unchanged():
    with style.use("figure2"):
        figure = style.new(2.0, "twins", "Market-1501")
        style.show(figure.add_subplot(), np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3))
    svg = style.svg_text(figure, "figure2")
    (picture,) = re.findall(r'href="(data:image/png;base64,[^"]*)"', svg)
    shown = markup.figure("figure2", svg)
    assert f'href="{picture}"' in shown
    parsed = Balance()
    parsed.feed(shown)
    assert not parsed.open
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)


def test_speed_stands_on_the_page_and_never_in_a_table(whole_page):
    assert "twin images/s" in whole_page
    for table in tables.all_tables({"cub200": cub200(), "compcars": compcars()}).values():
        assert "images/s" not in " ".join([*table.display.columns, *table.numbers.columns])


def test_the_cost_of_a_row_is_the_mean_over_its_finished_trials():
    results = r.check(cub200(seeds=2))
    listed = runs(results)
    a3m = results[
        (results["method"] == "a3m") & (results["train.shuffle_attributes"] == "") & (results["recipe"] == "")
    ]
    listed.loc[listed["key"].isin(a3m["key"]), "images_per_second"] = ["100", "300"]
    listed.loc[listed["key"].isin(results[results["method"] == "bilinear"]["key"]), "images_per_second"] = ""
    table = cost.cost_table(results, listed)
    shown = table.display.set_index("method")
    assert shown.loc["A3M", "twin images/s"] == "200"
    assert shown.loc["A3M", "twin parameters (M)"] == "2.50"
    assert shown.loc["Bilinear-CNN", "twin images/s"] == "\N{EN DASH}"
    assert "A3M, modern recipe" in shown.index


def test_a_study_without_sizes_and_speed_has_no_cost():
    assert cost.cost_table(r.check(ablation()), None) is None
    assert cost.cost_table(r.check(ablation()), runs(ablation()).drop(columns="images_per_second")) is None


def test_twins_cannot_be_misread(twin_page):
    assert twin_page.count('class="banner twins"') == 3  # of each study, and at the head of the page
    assert "Every study on this page was measured on synthetic twins" in twin_page
    assert twin_page.count('class="told">synthetic twin<') == 2  # in the list of contents
    assert twin_page.count("<strong>Measured on a synthetic twin of") == twin_page.count(' role="dialog"') > 10
    assert twin_page.count("SYNTHETIC TWIN") >= 2
    assert "Do not compare with published numbers" in twin_page
    real = make({"ablation": ablation(source="raw")})
    assert 'class="banner real"' in real
    body = real[real.index("<body>") :]
    assert not re.search(r"\btwin (?!data)|synthetic twin", body)
    assert "Measured on the real data set Market-1501." in body
    assert "synthetic" not in body.lower()
    assert "notmeasured" not in body


# --- where numbers come from ---------------------------------------------------------------------------------------------


def opened(shown, button):
    """The text of the list that a number opens."""
    (target,) = re.findall(rf"<button popovertarget=([\w-]+)>{re.escape(button)}</button>", shown)[:1]
    start = shown.index(f'<div popover id="{target}"')
    return shown[start : shown.find("<div popover", start + 1)]


def test_every_number_of_ours_opens_a_list_that_is_there_once(whole_page):
    parsed = Balance()
    parsed.feed(whole_page)
    assert set(parsed.targets) <= set(parsed.ids)
    assert set(parsed.titled) <= set(parsed.ids)
    shown = re.sub(r"<div popover.*?</table></div></div>", "", whole_page, flags=re.DOTALL)
    cells = re.findall(r'<td class="notmeasured">(.*?)</td>', shown)
    numbers = [cell for cell in cells if re.search(r"\d", cell)]
    assert len(numbers) > 1000
    assert [cell for cell in numbers if not cell.startswith("<button popovertarget=")] == []


def test_published_numbers_open_nothing(whole_page):
    assert "<td>86.54</td>" in whole_page
    assert "<td><button" not in whole_page


def test_a_list_names_settings_data_code_commit_and_every_seed():
    results = ablation()
    shown = make({"ablation": results})
    mine = results[(results["method"] == "a3m") & (results["head.normalise_scores"] == "False")]
    mean, half = 100 * mine["test/rank1"].mean(), 4.302653 * 100 * mine["test/rank1"].std() / 3**0.5
    words = opened(shown, f"{mean:.1f} ± {half:.1f}")
    assert "3 runs of A3M (as written)" in words
    for fact in ("head.normalise_scores false", "trained on train+val for 8 epochs", "images 96 pixels high",
                 "data dddddddddddd", "code cccccccccccc", "torch 2.14.1", "host worker-&lt;1&gt;",
                 "device cpu (made-up, 1 thread)", "<td>350</td>",
                 'title="0123456789abcdef0123456789abcdef01234567"', "1 min 2 s"):  # fmt: skip
        assert fact in words
    for key, value in zip(mine["key"], mine["test/rank1"], strict=True):
        assert f"<code>{key}</code>" in words
        assert f"<td>{100 * value:.2f}</td>" in words
    assert words.count("region weights m saturated (mean 0.999)") == 3


def test_what_differs_between_the_runs_of_a_list_has_a_column():
    results = r.check(alpha_beta(seeds=2))
    listed = runs(results)
    listed.loc[0, "host"] = "elsewhere"
    shown = page.page({"alpha_beta": results}, tables.all_tables({"alpha_beta": results}), {}, {"alpha_beta": listed})
    assert shown.count("<th scope=col>host</th>") == 1


def test_a_difference_opens_its_pairs_of_seeds_and_both_rows_runs():
    results = ablation()
    shown = make({"ablation": results})
    start = shown.index("rank-1: Att-2 (normalised scores) minus Baseline-2</h4>")
    words = shown[start : shown.index("</table>", start)]
    ours, reference = (
        results[results["method"] == method].set_index("seed")["test/rank1"] for method in ("att2", "baseline2")
    )
    for seed in range(3):
        delta = f"{100 * (ours[seed] - reference[seed]):+.2f}".replace("-", "\N{MINUS SIGN}")
        assert (
            f"<th scope=row>{seed}</th><td>{100 * ours[seed]:.2f}</td><td>{100 * reference[seed]:.2f}</td><td>{delta}</td>"
            in words
        )
    assert "least attainable p 0.25): cannot rank" in words
    assert re.search(r"<button popovertarget=\"from-\d+\">runs of Baseline-2</button>", words)


def test_a_run_in_this_store_is_a_link_and_another_prints_its_key():
    listed = runs(ablation())
    here = listed["run_id"][0]
    shown = make({"ablation": ablation()}, {here: "http://127.0.0.1:5000/#/experiments/1/runs/abc"})
    link = f'<a href="http://127.0.0.1:5000/#/experiments/1/runs/abc"><code>{listed["key"][0]}</code></a>'
    assert shown.count(link) == 2  # in the list behind its numbers and in the list of all
    assert shown.count('<a href="http') == 2
    assert f'<th scope="row"><code>{listed["key"][1]}</code></th>' in shown


def test_saturated_attention_is_marked_in_row_and_run_and_the_page_says_that_the_formula_can_do_that(twin_page):
    assert (
        twin_page.count('<span class="saturated">attention saturated</span>') == 3
    )  # in Table 1, Figure 5 and attributes
    assert "Attention saturated in 3 runs: A3M (as written) (3). Attention can saturate with the formula" in twin_page
    normalised = make({"ablation": ablation().query("method != 'a3m' or `head.normalise_scores` == 'True'")})
    assert 'class="saturated"' not in normalised
    assert "Attention saturated in" not in normalised


def test_a_trial_that_did_not_finish_is_in_its_list_with_its_status():
    results = unfinish(alpha_beta(), alpha_beta()["loss.alpha"] == 0.1, "failed")
    assert "<td>failed</td>" in make({"alpha_beta": results})


def test_studies_on_different_sources_are_told_apart_at_the_head_of_the_page(whole_page):
    head = whole_page[: whole_page.index("<nav")]
    assert re.search(
        r'class="banner subset" role="note">Measured on parts of the real data sets[^<]*: photographs\.<', head
    )
    assert "which no published number may be compared with: ablation, cub200," in head.replace("that no", "which no")


# --- what was not run ---------------------------------------------------------------------------------------------------


def test_what_was_not_run_is_listed():
    results = ablation()
    text = make(
        {"ablation": unfinish(results, (results["method"] == "att1") & (results["seed"] == 1), reason="a <b> c")}
    )
    assert "alpha_beta (Figure 7): no results; run python sweeps/alpha_beta.py" in text
    assert "att1 head.normalise_scores=true seed 1 failed: a &lt;b&gt; c (key 0000000000000007)" in text


def test_without_any_study_the_page_says_so():
    text = make({})
    assert "ablation (Table 1, Figures 2, 4, 5 and 6): no results" in text


def test_a_study_without_a_list_of_runs_says_so():
    studies = {"alpha_beta": r.check(alpha_beta())}
    text = page.page(studies, tables.all_tables(studies), {}, {})
    assert "No list of runs" in text


def test_every_study_has_contents():
    assert set(page.CONTENTS) == set(names.STUDIES)
    assert {name for contents in page.CONTENTS.values() for name in contents.tables} == set(tables.NAMES)
    placed = {name: study for study, contents in page.CONTENTS.items() for name in contents.figures}
    assert placed == figures.STUDIES
    assert set(placed) == set(figures.ALTERNATIVES)


def test_photographs_are_shown_as_what_they_are():
    shown = make({"photographs": photographs()})
    assert 'class="banner subset"' in shown
    assert "25 classes, not the benchmark" in shown
    assert "published accuracy" not in shown


def test_own_data_stand_under_the_study_that_ran_on_them():
    shown = make({"compcars": compcars(source="raw").assign(dataset="manifest")})
    assert "The methods of Table 3 on your own data (manifest)" in shown
    assert "<h3>Table 3." not in shown


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
    scripts = ("tables", "figures", "report")
    stages = {name: runpy.run_path(str(root / "pipelines" / f"{name}.py"))["main"] for name in scripts}
    stages["tables"](root)
    stages["figures"](root, "figure7", "alpha_beta")
    stages["report"](root)


def test_the_stages_write_the_report_and_again_the_same_bytes(tmp_path, capsys):
    written = []
    for name in ("first", "second"):
        root = project(tmp_path / name, ablation=further(ablation(seeds=1)), alpha_beta=alpha_beta())
        run_stages(root)
        files = sorted(path for path in (root / "reports").rglob("*") if path.is_file())
        written.append({str(path.relative_to(root)): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert {"reports/index.html", "reports/report.md", "reports/metrics.json"} < set(written[0])
    # Table 1, its controls, attributes, Figures 5 and 7; plots of one study and two lines; one figure drawn; the report
    assert len(written[0]) == 5 * 3 + 3 + 2 + 3
    assert "not drawn: figure2, figure4, figure6, figure5" in capsys.readouterr().out
    assert json.loads(written[0]["reports/metrics.json"])["ablation"]["twins"]["seeds"] == 1
    assert b"SYNTHETIC" not in written[0]["reports/report.md"]
    assert written[0]["reports/report.md"].count(b"Synthetic twins.") == 2
    assert written[0]["reports/report.md"].count(b"### Cost") == 2
    assert written[0]["reports/report.md"].count(b"](figures/") == 1


def test_a_study_without_results_leaves_no_old_files(tmp_path, capsys):
    root = project(tmp_path, alpha_beta=alpha_beta())
    for old in ("tables/table1.tex", "tables/ablation_controls.csv"):
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


# --- looks --------------------------------------------------------------------------------------------------------------


def luminance(colour):
    """Relative luminance of #rgb or #rrggbb, as WCAG 2.2 defines it."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_black_on_white_by_hand():
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the well-known grey that just fails


def test_text_has_contrast_enough_in_light_dark_and_print():
    roots = re.findall(r":root \{(.*?)\}", page.style(), flags=re.DOTALL)
    assert len(roots) == 3
    for root in roots:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", root))
        for text in ("text", "quiet", "link", "worn"):
            for back in ("back", "soft", "ours"):
                assert contrast(colours[text], colours[back]) >= 4.5, (text, back, colours)
    assert contrast("#000", re.search(r"--twin: (#\w+)", page.style())[1]) > 10


def test_a_wide_table_scrolls_inside_its_own_region_that_the_keyboard_reaches(whole_page):
    assert whole_page.count("<table") == whole_page.count("</table>")
    outside = re.sub(r"<div popover.*?</table></div></div>", "", whole_page, flags=re.DOTALL)
    regions = re.findall(r'<div class="scroll" role="region" tabindex="0" aria-label="[^"]+">', outside)
    assert len(regions) >= outside.count("<table")
