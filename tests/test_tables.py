"""Tables: right numbers, honest marks, and refusal of what no table should be made of."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_data import ablation, alpha_beta, unfinish

from a3m.errors import DataError
from a3m.report import results as r
from a3m.report import tables
from a3m.report.table import DASH, letter_of

PUBLISHED = tables.published("table1_market1501")


def table1(results):
    return tables.table1(results, PUBLISHED)


def row_of(table, method):
    found = table.display.index[table.display.iloc[:, 0] == method]
    assert len(found) == 1, f"{method}: {list(table.display.iloc[:, 0])}"
    return int(found[0])


def notes_of(table, method):
    """The texts of a row's footnotes."""
    letters = table.marks.get(row_of(table, method), "").split(",")
    return " ".join(note for i, note in enumerate(table.notes) if letter_of(i) in letters)


# --- numbers ------------------------------------------------------------------------------------------------------------


def test_the_published_numbers_are_those_of_the_paper_word_for_word():
    lines = (Path(tables.__file__).parent / "published" / "table1_market1501.csv").read_text().splitlines()
    paper = {line.split(",")[0]: line.split(",")[3:] for line in lines[1:]}
    table = table1(ablation())
    columns = [column for column in table.display if column.startswith("published")]
    shown = {}
    for i, method in enumerate(table.numbers["method"]):
        cells = [str(table.display[column][i]).replace(DASH, "") for column in columns]
        if any(cells):
            shown[method.partition(" (as written)")[0].partition(" (normalised")[0]] = cells
    assert len(paper) == 14
    assert shown == paper


def test_rows_stand_in_the_papers_order_with_ours_between():
    methods = list(table1(ablation()).numbers["method"])
    assert methods[:10] == list(PUBLISHED["method"][:10])
    assert methods[10:] == [
        "Baseline-1",
        "Baseline-1, pooled feature",
        "Baseline-2",
        "Att-1 (normalised scores)",
        "Att-2 (normalised scores)",
        "A3M w/o attr-label (normalised scores)",
        "A3M (as written)",
        "A3M (normalised scores)",
    ]


def test_mean_interval_and_difference_by_hand():
    results = ablation(seeds=3)
    values = {"baseline2": [0.40, 0.44, 0.42], "a3m": [0.43, 0.45, 0.47]}
    for method, numbers in values.items():
        chosen = (results["method"] == method) & (results["head.normalise_scores"] != "False")
        results.loc[chosen, "test/rank1"] = numbers
    table = table1(results)
    # Baseline-2: mean 42, s = 2, half-width 4.3027 * 2 / sqrt(3) = 4.97
    # A3M minus Baseline-2: 3 1 5, mean 3, s = 2, half-width 4.97; all positive: p = 2/8
    assert table.display["twin rank-1"][row_of(table, "Baseline-2")] == "42.0 ± 5.0"
    a3m = row_of(table, "A3M (normalised scores)")
    assert table.display["twin rank-1"][a3m] == "45.0 ± 5.0"
    assert table.display["twin Δ rank-1"][a3m] == "+3.0 ± 5.0"
    assert table.numbers["twin Δ rank-1 half-width"][a3m] == pytest.approx(4.302653 * 2 / 3**0.5)
    assert table.numbers["twin Δ rank-1 sign-flip p"][a3m] == 0.25
    assert table.display["twin least p"][a3m] == "0.25"
    assert table.display["twin seeds"][a3m] == "3"


def test_both_average_precisions_stand_there_under_their_names():
    table = table1(ablation())
    i = row_of(table, "Baseline-2")
    assert table.numbers["twin mAP (trapezoid)"][i] - table.numbers["twin mAP (rectangular)"][i] == pytest.approx(1)
    assert any("trapezoid" in remark and "Published mAP" in remark for remark in table.remarks)


def test_one_seed_has_no_interval_and_the_table_says_so():
    table = table1(ablation(seeds=1))
    assert "±" not in table.display["twin rank-1"][row_of(table, "Baseline-2")]
    assert any("no interval" in remark for remark in table.remarks)
    assert table.display["twin least p"][row_of(table, "A3M (as written)")] == "1"


# --- marks --------------------------------------------------------------------------------------------------------------


def test_nothing_is_bold_with_three_seeds_however_clear():
    table = table1(ablation(seeds=3, gain=0.3))
    i = row_of(table, "A3M (normalised scores)")
    assert table.numbers["twin Δ rank-1"][i] > table.numbers["twin Δ rank-1 half-width"][i]
    assert table.display["twin ranking"][i] == "cannot rank"
    assert not table.bold
    assert "**" not in table.markdown()
    assert r"\textbf" not in table.tex("table1")


def test_bold_needs_six_pairs_and_an_interval_without_zero():
    table = table1(ablation(seeds=6, gain=0.2))
    i = row_of(table, "A3M (normalised scores)")
    assert table.display["twin ranking"][i] == "can rank"
    assert {(i, "twin Δ rank-1"), (i, "twin Δ mAP (trapezoid)")} <= table.bold
    for row, column in table.bold:
        assert abs(table.numbers[column][row]) > table.numbers[f"{column} half-width"][row]
    assert not any(
        row == row_of(table, "A3M w/o attr-label (normalised scores)") for row, _ in table1(ablation(6)).bold
    )
    assert r"\textbf{+" in table.tex("table1")


def test_the_sentence_under_the_table_says_what_was_measured_and_whether_it_ranks():
    (few,) = (t for t in table1(ablation(3, gain=-0.1)).remarks if t.startswith("A3M (normalised scores) minus"))
    assert "on the twins, 3 pairs of seeds: rank-1 \N{MINUS SIGN}" in few
    assert "cannot rank" in few
    (worse,) = (t for t in table1(ablation(6, gain=-0.2)).remarks if t.startswith("A3M (normalised scores) minus"))
    assert "rank-1: A3M (normalised scores) is below Baseline-2 (p = 0.0312)" in worse
    (same,) = (t for t in table1(ablation(6)).remarks if t.startswith("A3M (normalised scores) minus"))
    assert "no difference is shown" in same


@pytest.mark.parametrize(
    ("source", "head", "words"), [("twins", "twin", "synthetic twins"), ("raw subset", "subset", "a part of the real")]
)
def test_what_is_not_the_real_data_set_is_said_in_every_head_and_in_the_caption(source, head, words):
    made = tables.all_tables({"ablation": ablation(source=source), "alpha_beta": alpha_beta(source=source)})
    for table in made.values():
        named = ("method", "line", "alpha", "beta")
        assert all(column.split(" ")[0] in (head, "published") for column in table.display if column not in named)
        ours = [column for column in table.numbers if column not in (*named, "notes")]
        assert all(column.split(" ")[0] in (head, "published") for column in ours)
        assert words in table.caption
        assert "not comparable" in table.caption
        assert words in table.markdown()


def test_the_complete_real_data_set_is_headed_ours():
    table = table1(ablation(source="raw"))
    assert "ours rank-1" in table.display
    assert "twin" not in table.caption + "".join(table.display.columns)


def test_the_caption_says_where_the_numbers_come_from():
    caption = table1(ablation()).caption
    for fact in ("train+val", "8 epochs", "seeds 0, 1, 2", "data dddddddddddd", "code cccccccccccc", "torch 2.14.1"):
        assert fact in caption


def test_saturated_attention_is_marked_only_where_attention_is_learned():
    table = table1(ablation())
    assert "saturated" in notes_of(table, "A3M (as written)")
    for method in ("Baseline-2", "Att-1 (normalised scores)", "Att-2 (normalised scores)", "A3M (normalised scores)"):
        assert "saturated" not in notes_of(table, method)


def test_mixed_code_and_versions_are_footnoted_on_the_rows_that_differ():
    results = ablation()
    results.loc[results["method"] == "att1", "code"] = "eeeeeeeeeeee"
    results.loc[results["method"] == "att2", "versions"] = "torch 2.13.0"
    table = table1(results)
    assert "eeeeeeeeeeee" in notes_of(table, "Att-1 (normalised scores)")
    assert "torch 2.13.0" in notes_of(table, "Att-2 (normalised scores)")
    assert "Other" not in notes_of(table, "Baseline-2")
    assert "Mixed code and versions" in table.caption
    assert "eeeeeeeeeeee" in table.caption


def test_a_failed_method_is_a_dash_with_its_reason():
    results = ablation()
    table = table1(unfinish(results, results["method"] == "att1"))
    i = row_of(table, "Att-1 (normalised scores)")
    assert table.display["twin rank-1"][i] == DASH
    assert np.isnan(table.numbers["twin rank-1"][i])
    assert "3 of 3 trials not counted: seed 0 failed (loss is not a number)" in notes_of(
        table, "Att-1 (normalised scores)"
    )
    assert "loss is not a number" in table.csv()


def test_a_missing_seed_leaves_fewer_pairs_and_is_said():
    results = ablation()
    table = table1(unfinish(results, (results["method"] == "a3m") & (results["seed"] == 2), "missing", "not trained"))
    i = row_of(table, "A3M (normalised scores)")
    assert table.display["twin seeds"][i] == "2"
    assert table.numbers["twin pairs"][i] == 2
    assert "seed 2 missing (not trained)" in notes_of(table, "A3M (normalised scores)")


def test_without_baseline2_there_is_no_difference_and_the_sentence_says_so():
    results = ablation()
    table = table1(unfinish(results, results["method"] == "baseline2"))
    assert table.display["twin Δ rank-1"][row_of(table, "A3M (as written)")] == DASH
    assert any("not compared with Baseline-2" in remark for remark in table.remarks)


def test_the_released_form_is_not_compared_with_a_baseline_of_the_other_form():
    results = ablation()
    extra = results[(results["method"] == "a3m") & (results["head.normalise_scores"] == "True")].copy()
    extra["key"] = [f"released{i}" for i in range(len(extra))]
    results["head.form"], extra["head.form"] = "", "released"
    table = table1(pd.concat([results, extra], ignore_index=True))
    i = row_of(table, "A3M, released form")
    assert table.display["twin Δ rank-1"][i] == DASH
    assert table.display["published rank-1"][i] == DASH


# --- refusals -----------------------------------------------------------------------------------------------------------


def duplicate(results):
    again = results[results["method"] == "att1"].head(1).assign(key="another")
    return pd.concat([results, again], ignore_index=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (duplicate, r"att1 with seed 0 .* more than once \(keys .*another"),
        (lambda f: f.assign(key="same"), "more than once"),
        (lambda f: f[f["method"] != "att2"], "no trial of att2"),
        (lambda f: f.assign(data=["x", *f["data"][1:]]), "mixed data: dddddddddddd, x"),
        (lambda f: f.assign(source=["raw", *f["source"][1:]]), "mixed source"),
        (lambda f: f.assign(method=["resnet", *f["method"][1:]]), "unknown method 'resnet'; known: baseline1"),
        (lambda f: f.assign(source="real"), "unknown source"),
        (lambda f: f.assign(status="done"), "unknown status"),
        (lambda f: f.assign(dataset="cub200"), "of market1501"),
        (lambda f: f.drop(columns="versions"), "no column versions"),
        (lambda f: f.drop(columns="test/mAP_trapezoid"), "finished without test/mAP_trapezoid"),
        (lambda f: f.assign(**{"test/rank1": 87.0}), r"test/rank1 holds values outside \[0, 1\]"),
        (lambda f: f.assign(**{"test/rank1": "high"}), "no number"),
        (lambda f: f.assign(seed=0.5), "no whole number"),
        (lambda f: f.assign(**{"train.on": "train"}).drop(columns="test/rank1"), r"set train.on=train\+val"),
        (lambda f: f.head(0), "no rows"),
    ],
)
def test_bad_results_are_refused_with_the_reason(spoil, message):
    with pytest.raises(DataError, match=message):
        table1(spoil(ablation()))


def test_the_same_trial_written_twice_alike_is_one_trial():
    results = ablation()
    assert table1(pd.concat([results, results])).csv() == table1(results).csv()


def test_two_baselines_that_could_both_be_the_reference_are_refused():
    results = ablation()
    results["head.d"] = ""
    results.loc[results["method"] == "baseline2", "head.d"] = ["64", "64", "128"]
    with pytest.raises(DataError, match="2 rows of Baseline-2"):
        table1(results)


def test_a_published_table_without_a_row_is_refused():
    with pytest.raises(DataError, match="Baseline-2"):
        tables.table1(ablation(), PUBLISHED[PUBLISHED["method"] != "Baseline-2"])


def test_results_that_are_no_csv_are_refused(tmp_path):
    path = tmp_path / "ablation.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        r.read_study(path)
    path.write_text("")
    with pytest.raises(DataError, match="cannot be read"):
        r.read_study(path)


# --- the other tables ---------------------------------------------------------------------------------------------------


def test_figure5_holds_its_four_methods():
    table = tables.figure5(ablation())
    assert list(table.numbers["method"]) == [
        "Baseline-2",
        "Att-1 (normalised scores)",
        "Att-2 (normalised scores)",
        "A3M (as written)",
        "A3M (normalised scores)",
    ]
    assert not any(column.startswith("published") for column in table.display)


def test_attributes_stand_beside_majority_chance_and_a_fixed_place():
    table = tables.attributes(ablation())
    i = row_of(table, "Baseline-2")
    assert table.numbers["twin attribute accuracy"][i] == pytest.approx(80)
    assert table.numbers["twin majority class"][i] == pytest.approx(55)  # mean of 50 and 60
    assert table.numbers["twin localisation"][i] == pytest.approx(30)
    assert table.numbers["twin chance (area)"][i] == pytest.approx(10)
    assert table.numbers["twin fixed place"][i] == pytest.approx(25)
    assert "Baseline-1" not in list(table.numbers["method"])


def test_attributes_without_regions_are_dashes():
    results = ablation(source="raw").drop(columns=[f"test/localisation_{name}" for name in ("mean", "chance", "prior")])
    assert set(tables.attributes(results).display["ours localisation"]) == {DASH}


def test_figure7_has_two_lines_that_share_the_centre():
    table = tables.figure7(alpha_beta())
    numbers = table.numbers
    assert list(numbers["line"]) == ["alpha"] * 5 + ["beta"] * 5
    assert list(numbers["alpha"][:5]) == list(numbers["beta"][5:]) == [0.1, 0.3, 0.5, 0.7, 1.0]
    assert numbers["twin accuracy"][2] == numbers["twin accuracy"][7]
    assert "both lines" in notes_of(table, "along alpha: 0.5")
    assert any("one seed a point, their order shows nothing" in remark for remark in table.remarks)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[(f["loss.alpha"] != 0.5) | (f["loss.beta"] != 0.5)], "no trial at the centre"),
        (lambda f: f.assign(**{"loss.alpha": f["loss.alpha"].replace(0.5, 0.4)}), "neither line"),
        (lambda f: f.assign(method="baseline2"), "varies loss.alpha and loss.beta of a3m"),
        (lambda f: f.assign(**{"head.d": [32] * 4 + [64] * 5}), "varies head.d"),
        (lambda f: f.assign(**{"test/accuracy": 60.0}), "never percent"),
    ],
)
def test_a_grid_that_is_not_figure7_is_refused(spoil, message):
    with pytest.raises(DataError, match=message):
        tables.figure7(spoil(alpha_beta()))


def test_metrics_are_plain_nested_numbers():
    metrics = tables.metrics({"ablation": ablation(), "alpha_beta": alpha_beta()})
    assert metrics["ablation"]["twins"]["seeds"] == 3
    assert metrics["ablation"]["twins"]["unfinished"] == 0
    a3m = metrics["ablation"]["twins"]["a3m normalise_scores=true"]
    normalised = ablation()["head.normalise_scores"].astype(str).str.lower() == "true"
    expected = ablation()[(ablation()["method"] == "a3m") & normalised]["test/mAP"].mean()
    assert a3m["mAP"] == pytest.approx(expected, abs=1e-6)
    assert set(a3m) == {"rank1", "mAP"}
    assert set(metrics["alpha_beta"]["twins"]["a3m alpha=0.5 beta=0.5"]) == {"accuracy"}


# --- files --------------------------------------------------------------------------------------------------------------


def test_a_frame_and_its_csv_give_the_same_table_and_keys_of_digits_stay_text(tmp_path):
    path = tmp_path / "ablation.csv"
    results = ablation()
    results.to_csv(path, index=False)
    read = r.read_study(path)
    assert set(read["key"]) == set(results["key"])
    assert table1(read).csv() == table1(results).csv()
    pd.testing.assert_frame_equal(r.check(read), read)


def test_the_order_of_trials_changes_no_byte(tmp_path):
    for name, results in (("a", ablation()), ("b", ablation().sample(frac=1, random_state=3))):
        (tmp_path / name).mkdir()
        for path, table in tables.all_tables({"ablation": results, "alpha_beta": alpha_beta()}).items():
            table.write(tmp_path / name, path)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 4 * 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_csv_reads_back_with_its_numbers_and_notes(tmp_path):
    table = table1(ablation())
    table.write(tmp_path, "table1")
    read = pd.read_csv(tmp_path / "table1.csv")
    np.testing.assert_allclose(read["twin rank-1"], table.numbers["twin rank-1"], rtol=1e-5)
    assert read["notes"].str.contains("saturated").sum() == 1


def test_tex_is_escaped_and_balanced():
    results = ablation()
    tex = table1(unfinish(results, results["method"] == "att2", reason="50% of C:\\x_y & {z} ~ ^ # $ [1]")).tex(
        "table1"
    )
    assert tex.isascii()
    assert r"50\% of C:\textbackslash{}x\_y \& \{z\} \textasciitilde{} \textasciicircum{} \# \$ {[}1{]}" in tex
    bare = re.sub(r"\\[{}]", "", tex)
    assert bare.count("{") == bare.count("}")
    assert tex.count("\\begin{") == tex.count("\\end{")
    body = tex[tex.index("\\midrule") : tex.index("\\bottomrule")].splitlines()[1:]
    columns = len(table1(results).display.columns)
    assert all(len(re.findall(r"(?<!\\)&", line)) == columns - 1 and line.endswith(r" \\") for line in body)


def test_markdown_rows_have_as_many_cells_as_the_head():
    results = ablation()
    text = table1(unfinish(results, results["method"] == "att2", reason="a | b <script>")).markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert "<script>" not in text


def test_footnote_letters_go_on_after_z():
    assert [letter_of(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]
