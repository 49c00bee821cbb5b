"""Tables: right numbers, honest marks, and refusal of what no table should be made of."""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_data import ablation, alpha_beta, answered, compcars, cub200, every_study, further, retrieval, unfinish

from a3m.errors import DataError
from a3m.report import layout, methods, tables
from a3m.report import results as r
from a3m.report.layouts import LAYOUTS, TABLE1
from a3m.report.table import DASH, MINUS, letter_of

PUBLISHED = layout.published("table1_market1501")
PAPER = ["table1", "table2", "table3", "table4", "table5"]


def table1(results):
    return made("table1", ablation=results)


def made(name, **studies):
    return methods.method_table(LAYOUTS[name], methods.check(LAYOUTS[name], studies))


def control_of(name, **studies):
    return methods.controls(LAYOUTS[name], methods.check(LAYOUTS[name], studies))


@pytest.fixture(scope="module")
def all_made():
    """The tables of all studies; nobody changes them."""
    return tables.all_tables(every_study())


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


# --- sampling of the test data --------------------------------------------------------------------------------------------


def test_test_identities_are_resampled_apart_from_the_seeds():
    made, results = answered(ablation())
    alone, table = table1(results), methods.method_tables({"ablation": results}, {"ablation": made})["table1"]
    i = row_of(table, "A3M (normalised scores)")
    column = "twin Δ rank-1, test identities"
    keys = [
        tuple(results[(results["method"] == method) & (results["head.normalise_scores"] != "False")]["key"])
        for method in ("a3m", "baseline2")
    ]
    expected = made.difference(*keys, "test/rank1")
    assert table.numbers[f"{column} from"][i] == pytest.approx(100 * expected.low)
    assert table.numbers[f"{column} to"][i] == pytest.approx(100 * expected.high)
    assert re.fullmatch(r"[+m]\d+\.\d to [+m]\d+\.\d", table.display[column][i].replace(MINUS, "m"))
    for name in alone.numbers:  # what the seeds say stays what it was
        if name != "notes":
            assert list(table.numbers[name].astype(str)) == list(alone.numbers[name].astype(str))
    assert not any("McNemar" in name for name in table.display)
    assert any("no training noise" in remark for remark in table.remarks)
    assert any("of other test identities these networks would give rank-1" in remark for remark in table.remarks)


def test_classification_has_mcnemars_test_of_each_pair_of_networks():
    made, results = answered(cub200())
    table = methods.method_tables({"cub200": results}, {"cub200": made})["table2"]
    i = list(table.numbers["method"]).index("A3M")
    ours, reference = (
        results[
            (results["method"] == method) & (results["train.shuffle_attributes"] == "") & (results["recipe"] == "")
        ]["key"]
        for method in ("a3m", "baseline2")
    )
    p = made.mcnemar(tuple(ours), tuple(reference))
    assert len(p) == 3
    assert table.display["twin McNemar p"][i] == ", ".join(f"{one:.2g}" for one in p)
    assert (table.numbers["twin McNemar p least"][i], table.numbers["twin McNemar p greatest"][i]) == (min(p), max(p))
    assert "twin Δ accuracy, test images" in table.display


def test_nmi_is_no_mean_over_images_and_has_a_dash():
    made, results = answered(retrieval())
    table = methods.method_tables({"cub200_retrieval": results}, {"cub200_retrieval": made})["table4"]
    i = list(table.numbers["method"]).index("A3M")
    assert table.display["twin Δ R@1, test classes"][i] != DASH
    assert table.display["twin Δ NMI, test classes"][i] == DASH


def test_without_predictions_the_table_says_that_test_data_were_not_resampled():
    table = table1(ablation())
    assert not any("test identities" in column for column in table.display)
    assert any("not resampled" in remark for remark in table.remarks)


def test_every_number_of_ours_says_which_trials_it_comes_from(all_made):
    for name, table in all_made.items():
        said = {*table.trials, *table.pairs}
        for row, cells in enumerate(table.display.to_dict("records")):
            for column, cell in cells.items():
                derived = column.endswith((" p", "ranking", "compared with", "(M)", "backbone", " d", "majority class"))
                if str(column).split(" ")[0] == "twin" and cell != DASH and not derived:
                    assert (row, column) in said, (name, row, column)
        keys = {key for listed in table.trials.values() for key in listed}
        assert all(set(pair.keys[0]) | set(pair.keys[1]) <= keys for pair in table.pairs.values())


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
    studies = {
        "ablation": ablation(source=source),
        "cub200": cub200(source=source),
        "compcars": compcars(source=source),
        "cub200_retrieval": retrieval(source=source),
        "alpha_beta": alpha_beta(source=source),
    }
    for table in tables.all_tables(studies).values():
        named = ("method", "attribute", "block", "line", "alpha", "beta", "uses attributes", "uses parts")
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


def test_attention_that_is_constant_below_one_is_saturated_too():
    results = ablation()
    chosen = (results["method"] == "att1") & (results["seed"] == 1)
    results.loc[chosen, "test/attention/region_mean"] = 0.5
    results.loc[chosen, "test/attention/region_std"] = 0.0001
    table = table1(results)
    note = notes_of(table, "Att-1 (normalised scores)")
    assert "nearly the same everywhere (standard deviation 0.0001 or less) in 1 of 3 seeds" in note
    assert table.saturated == {row_of(table, "A3M (as written)"), row_of(table, "Att-1 (normalised scores)")}


def test_a_table_with_saturated_attention_says_that_the_papers_formula_can_do_that():
    assert any(remark.startswith("Attention can saturate with the formula") for remark in table1(ablation()).remarks)
    normalised = ablation().query("method != 'a3m' or `head.normalise_scores` == 'True'")
    assert not any("can saturate" in remark for remark in table1(normalised).remarks)


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
        (
            lambda f: f.assign(method=["resnet", *f["method"][1:]]),
            "unknown method 'resnet'; known: identification",
        ),
        (lambda f: f.assign(source="real"), "unknown source"),
        (lambda f: f.assign(status="done"), "unknown status"),
        (lambda f: f.assign(recipe="newest"), "unknown recipe 'newest'"),
        (lambda f: f.assign(**{"train.epochs": [9, *f["train.epochs"][1:]]}), "mixed train.epochs: 8, 9"),
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


def test_of_two_baselines_that_fit_the_usual_one_is_the_reference_and_the_row_says_so():
    results = ablation()
    results["head.d"] = ""
    results.loc[results["method"] == "baseline2", "head.d"] = ["64", "64", "128"]
    table = table1(results)
    a3m = row_of(table, "A3M (normalised scores)")
    assert table.numbers["twin pairs"][a3m] == 2
    assert "Compared with the row Baseline-2." in notes_of(table, "A3M (normalised scores)")
    assert "Baseline-2, d = 128" in list(table.numbers["method"])


def test_a_published_table_without_a_row_is_refused():
    with pytest.raises(DataError, match="Baseline-2 must stand there once, not 0"):
        layout.check_published(TABLE1, PUBLISHED[PUBLISHED["method"] != "Baseline-2"])
    with pytest.raises(DataError, match="Baseline-2 must stand there once, not 2"):
        layout.check_published(TABLE1, pd.concat([PUBLISHED, PUBLISHED[PUBLISHED["method"] == "Baseline-2"]]))


def test_results_that_are_no_csv_are_refused(tmp_path):
    path = tmp_path / "ablation.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        r.read_study(path)
    path.write_text("")
    with pytest.raises(DataError, match="cannot be read"):
        r.read_study(path)


# --- all tables of methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER)
def test_every_published_row_stands_once_in_the_papers_order_word_for_word(name, all_made):
    table = all_made[name]
    with (Path(layout.__file__).parent / "published" / f"{LAYOUTS[name].published}.csv").open() as file:
        paper = [dict(line) for line in csv.DictReader(file)]
    shown = [
        {**table.display.loc[i], "source": table.numbers["published source"][i]}
        for i in table.display.index
        if table.numbers["published source"][i]
    ]
    assert len(paper) == len(shown)
    for line, row in zip(paper, shown, strict=True):
        assert row["source"] == line["source"]
        assert row["method"].startswith(line["method"])
        for column, head in LAYOUTS[name].columns.items():
            assert row[f"published {head}"] == (line[column] or DASH)
        for column, head in LAYOUTS[name].facts.items():
            assert row[head] == line[column]


@pytest.mark.parametrize(
    ("name", "method", "label"),
    [
        ("table1", "Attr-Id (Lin et al. 2017)", None),
        ("table1", "ResNet-50 (I+V) (Zheng et al. 2016)", None),
        ("table2", "Bilinear-CNN (Lin et al. 2015)", None),
        ("table3", "AlexNet (Yang et al. 2015)", "Ours: Baseline-1, AlexNet."),
        ("table3", "GoogLeNet (Yang et al. 2015)", "Ours: Baseline-1, GoogLeNet."),
        ("table4", "Npairs (Sohn 2016)", None),
        ("table5", "BIER (Opitz et al. 2017)", None),
        ("table4", "A3M", "Ours: A3M w/o attr-label."),
    ],
)
def test_a_comparator_that_was_run_stands_in_its_published_row(name, method, label, all_made):
    table = all_made[name]
    i = row_of(table, method)
    assert table.display["twin seeds"][i] in ("1", "3")
    assert (label or "") in notes_of(table, method)


def test_a_comparator_that_was_only_cited_has_a_dash_in_every_column_of_ours():
    table = made("table3", compcars=compcars())
    i = row_of(table, "Overfeat (Yang et al. 2015)")
    assert {table.display[column][i] for column in table.display if column.startswith("twin ")} == {DASH}


@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("table1", "Baseline-1", "87.9"),
        ("table2", "DeepLAC (reference 48 of the paper)", "Zhang et al. 2016"),
        ("table2", "A3M", "448 pixels"),
        ("table4", "Npairs (Sohn 2016)", "51.0, 63.3, 74.3, 83.2"),
        ("table4", "Baseline-1", "65.6"),
        ("table4", "LiftedStructure", "Not a row of the paper"),
        ("table5", "Baseline-1", "66.8"),
        ("table5", "Proxy-Anchor", "Not a row of the paper"),
    ],
)
def test_the_published_slips_are_footnoted(name, method, words, all_made):
    table = all_made[name]
    first = min(i for i in table.display.index if table.display["method"][i] == method)
    letters = table.marks[first].split(",")
    assert any(words in note for i, note in enumerate(table.notes) if letter_of(i) in letters)


def test_the_npairs_footnote_is_table_4s_alone():
    assert "51.0" not in " ".join(made("table5", cars196_retrieval=retrieval("cars196_retrieval")).notes)


def test_recipes_stand_in_blocks_and_compare_within_them():
    results = cub200(gain=0.1)
    modern = results["recipe"] == "modern"
    results.loc[modern, "test/accuracy"] += 0.2
    table = made("table2", cub200=results)
    (first, paper), (second, newer) = table.blocks
    assert (first, second) == (0, 11)
    assert paper.startswith("The paper's recipe, at the text's size (224 pixels; here 64)")
    assert newer.startswith("Modern recipe")
    a3m, baseline = (
        results[modern & (results["method"] == method)]["test/accuracy"].iloc[0] for method in ("a3m", "baseline2")
    )
    i = table.display.index[-1]
    assert table.display["method"][i] == "A3M"
    assert table.display["published accuracy"][i] == DASH
    assert table.numbers["twin Δ accuracy"][i] == pytest.approx(100 * (a3m - baseline))
    assert table.markdown().count("| *Modern recipe, at") == 1
    tex = table.tex("table2")
    assert tex.count(r"\begin{tabular}") == 1
    assert r"\multicolumn{10}{l}{\textit{Modern recipe, at" in tex


def test_epochs_of_two_recipes_may_differ_and_the_caption_says_which_is_which():
    results = cub200()
    results.loc[results["recipe"] == "modern", "train.epochs"] = 20
    caption = made("table2", cub200=results).caption
    assert "8 (The paper's recipe), 20 (Modern recipe) epochs" in caption


def test_table2_has_the_codes_size_as_blocks_of_its_own():
    table = made("table2", cub200=cub200(), cub200_448=cub200(study="cub200_448"))
    assert [heading.partition(", scaled")[0] for _, heading in table.blocks] == [
        "The paper's recipe, at the text's size (224 pixels; here 64)",
        "Modern recipe, at the text's size (224 pixels; here 64)",
        "The paper's recipe, at the code's size (448 pixels; here 128)",
        "Modern recipe, at the code's size (448 pixels; here 128)",
    ]
    assert list(table.numbers["method"]).count("A3M") == 4
    assert (table.display["published accuracy"] == "86.2").sum() == 1


def test_table2_without_a_column_of_sizes_names_the_papers_alone():
    table = made("table2", cub200=cub200().drop(columns="data.height"))
    assert table.blocks[0][1] == "The paper's recipe, at the text's size (224 pixels), scaled to the twins"


def test_table2_of_the_second_size_alone_still_holds_the_published_rows():
    table = made("table2", cub200_448=cub200(study="cub200_448"))
    assert (table.display["published accuracy"] == "86.2").sum() == 1
    assert "code's size" in table.blocks[0][1]


def test_two_sizes_from_two_sources_are_refused():
    with pytest.raises(DataError, match="cub200 of twins, cub200_448 of raw"):
        made("table2", cub200=cub200(), cub200_448=cub200(study="cub200_448", source="raw"))


def test_reranked_rows_stand_below_their_own_and_compare_with_each_other():
    results = further(ablation())
    better = (results["method"] == "a3m") & (results["head.normalise_scores"] == "True") & (results["recipe"] == "")
    results.loc[better, "test/reranked/rank1"] += 0.1
    table = table1(results)
    names = list(table.numbers["method"])
    for label in ("Baseline-2", "A3M (normalised scores)"):
        assert names[names.index(label) + 1] == f"{label} + re-ranking"
    assert not any(name.startswith(("Att", "Baseline-1")) and "re-ranking" in name for name in names)
    plain, again = names.index("A3M (normalised scores)"), names.index("A3M (normalised scores) + re-ranking")
    assert table.numbers["twin rank-1"][again] == pytest.approx(table.numbers["twin rank-1"][plain] + 15)
    assert table.numbers["twin Δ rank-1"][again] == pytest.approx(table.numbers["twin Δ rank-1"][plain] + 10)


def test_re_ranking_is_compared_with_baseline_1_re_ranked_and_says_so():
    results = further(ablation())
    table = table1(results)
    i = row_of(table, "Re-ranking (Zhong et al. 2017)")
    category = (
        (results["method"] == "baseline1") & (results["baseline1.feature"] == "category") & (results["recipe"] == "")
    )
    assert table.numbers["twin rank-1"][i] == pytest.approx(100 * results[category]["test/reranked/rank1"].mean())
    assert "Baseline-1 + re-ranking" in notes_of(table, "Re-ranking (Zhong et al. 2017)")


def test_what_was_not_re_ranked_has_no_such_row():
    table = table1(ablation())
    assert not any("+ re-ranking" in name for name in table.numbers["method"])
    assert table.display["twin rank-1"][row_of(table, "Re-ranking (Zhong et al. 2017)")] == DASH


def test_controls_stand_in_a_table_of_their_own_beside_what_they_control():
    studies = {"ablation": further(ablation())}
    assert not any(
        "shuffled" in name or "as many" in name for name in methods.method_tables(studies)["table1"].numbers["method"]
    )
    table = control_of("table1", **studies)
    against = dict(zip(table.numbers["method"], table.numbers["twin compared with"], strict=True))
    assert {method: other for method, other in against.items() if other} == {
        "Baseline-1, as many parameters as A3M": "A3M (normalised scores)",
        "Baseline-2, shuffled attribute labels": "Baseline-2",
        "A3M (normalised scores), shuffled attribute labels": "A3M (normalised scores)",
    }
    assert sum("shuffled attribute labels minus" in remark for remark in table.remarks) == 2


def test_a_control_that_costs_nothing_is_plain_in_its_difference():
    results = cub200(seeds=1)
    shuffled = (results["method"] == "a3m") & (results["train.shuffle_attributes"] == "True")
    plain = (results["method"] == "a3m") & (results["train.shuffle_attributes"] == "") & (results["recipe"] == "")
    results.loc[shuffled, "test/accuracy"], results.loc[plain, "test/accuracy"] = 0.55, 0.60
    table = control_of("table2", cub200=results)
    i = row_of(table, "A3M, shuffled attribute labels")
    assert table.display["twin Δ accuracy"][i] == "\N{MINUS SIGN}5.0"


def test_sizes_of_every_row_stand_in_the_controls_and_may_exceed_one():
    table = control_of("table2", cub200=cub200())
    assert table.display["twin parameters (M)"][row_of(table, "Bilinear-CNN")] == "0.70"
    assert table.numbers["twin parameters"][row_of(table, "Bilinear-CNN")] == 700_000
    assert set(table.display["twin FLOPs (M)"]) == {"31.00"}
    assert "images/s" not in " ".join(table.display.columns)


def test_without_controls_and_sizes_there_is_no_such_table():
    assert control_of("table1", ablation=ablation()) is None


def test_table4_compares_with_baseline_1_and_shows_the_sensitivity_to_k_and_size():
    table = made("table4", cub200_retrieval=retrieval())
    assert list(table.numbers["method"])[:12] == [
        "Npairs",
        "LiftedStructure",
        "Proxy-Anchor",
        "HDC",
        "BIER",
        "HDC",
        "Baseline-1",
        "A3M",
        "A3M w/o attr-label, d = 512",
        "A3M w/o attr-label, d = 128",
        "A3M w/o attr-label, K = 12",
        "A3M w/o attr-label, K = 5",
    ]
    assert table.display["twin Δ R@1"][6] == DASH
    assert table.display["twin Δ R@1"][10] != DASH
    assert table.display["twin Δ R@1"][8] == DASH  # Baseline-1 was not run at that size
    assert list(table.display["twin d"][7:10]) == ["384", "512", "128"]
    assert any(
        remark.startswith("A3M w/o attr-label minus Baseline-1, the paper's recipe, on the twins")
        for remark in table.remarks
    )


def test_a_number_that_pandas_wrote_with_a_point_is_the_same_setting(tmp_path):
    results = retrieval()
    results["head.attributes"] = pd.to_numeric(results["head.attributes"])
    results.to_csv(tmp_path / "cub200_retrieval.csv", index=False)
    assert "28.0" in (tmp_path / "cub200_retrieval.csv").read_text()
    read = r.read_study(tmp_path / "cub200_retrieval.csv")
    assert made("table4", cub200_retrieval=read).csv() == made("table4", cub200_retrieval=retrieval()).csv()


def test_backbones_are_compared_with_their_own_kind_only():
    table = made("table3", compcars=compcars())
    assert table.display["twin backbone"][row_of(table, "AlexNet (Yang et al. 2015)")] == "AlexNet"
    assert table.display["twin Δ accuracy"][row_of(table, "AlexNet (Yang et al. 2015)")] == DASH
    assert table.display["twin Δ accuracy"][min(table.display.index[table.display["method"] == "A3M"])] != DASH


@pytest.mark.parametrize(
    ("study", "results", "absent"),
    [
        ("cub200", cub200(), "baseline2"),
        ("compcars", compcars(), "a3m"),
        ("cub200_retrieval", retrieval(), "a3m_unlabelled"),
    ],
)
def test_a_study_without_a_method_of_the_paper_is_refused(study, results, absent):
    with pytest.raises(DataError, match=rf"results/{study}.csv: no trial of {absent}: run python sweeps/{study}.py"):
        tables.all_tables({study: results[results["method"] != absent]})


@pytest.mark.parametrize("study", ["cub200", "compcars", "cub200_retrieval", "cars196_retrieval", "photographs"])
def test_failed_trials_leave_dashes_in_every_table(study):
    results = every_study()[study]
    subject = "a3m_unlabelled" if "retrieval" in study else "a3m"
    (table, *_) = tables.all_tables({study: unfinish(results, results["method"] == subject)}).values()
    ours = next(
        column for column in table.display if column.endswith((" accuracy", " R@1")) and "published" not in column
    )
    lost = [
        i
        for i in table.marks
        if any("not counted" in n for j, n in enumerate(table.notes) if letter_of(j) in table.marks[i])
    ]
    assert lost
    assert {table.display[ours][i] for i in lost} == {DASH}
    assert any("is not compared with" in remark for remark in table.remarks)


@pytest.mark.parametrize("study", ["cub200", "compcars", "cub200_retrieval", "photographs"])
def test_the_same_trial_twice_is_refused_in_every_study(study):
    results = every_study()[study]
    again = pd.concat([results, results.head(1).assign(key="another")])
    with pytest.raises(DataError, match="more than once"):
        tables.all_tables({study: again})


def test_a_study_of_which_nothing_finished_has_tables_of_dashes():
    results = unfinish(cub200(), pd.Series(True, index=cub200().index))
    results = results.drop(columns=[column for column in results if "/" in column])
    found = tables.all_tables({"cub200": results})
    assert set(found) == {"table2", "table2_controls"}
    assert set(found["table2"].display["twin accuracy"]) == {DASH}
    assert "cub200" in tables.metrics({"cub200": results})


def test_every_study_has_its_tables(all_made):
    assert list(all_made) == [
        *(f"{name}{ending}" for name in [*PAPER, "photographs"] for ending in ("", "_controls")),
        "figure5",
        "attributes",
        "figure8",
        "figure7",
    ]


# --- own data -----------------------------------------------------------------------------------------------------------


def test_own_data_with_classes_have_the_same_table_without_published_columns():
    results = cub200().assign(study="ablation", dataset="manifest", source="raw")
    found = tables.all_tables({"ablation": results})
    assert list(found) == ["ablation", "ablation_controls", "figure5", "attributes"]
    table = found["ablation"]
    assert "your own data" in table.title
    assert not any(column.startswith("published") for column in table.display)
    assert {"ours accuracy", "ours Δ accuracy"} <= set(table.display)
    assert not table.title.startswith("Table")


def test_own_data_with_identities_or_for_retrieval_have_their_metrics():
    ranked = tables.all_tables({"ablation": ablation(source="raw").assign(dataset="manifest")})["ablation"]
    assert {"ours rank-1", "ours mAP (trapezoid)"} <= set(ranked.display)
    searched = retrieval(source="raw").assign(study="ablation", dataset="manifest")
    table = tables.all_tables({"ablation": searched})["ablation"]
    assert {"ours R@1", "ours NMI", "ours Δ R@1"} <= set(table.display)
    assert "Baseline-1" in " ".join(table.remarks)  # no Baseline-2 was run: there are no attributes


def test_no_part_of_own_data_stands_beside_a_published_number():
    for table in tables.all_tables({"cub200": cub200().assign(dataset="manifest")}).values():
        assert "published" not in " ".join(table.display.columns)


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


def test_attributes_hold_only_methods_that_answer_attributes():
    names = list(tables.attributes(further(ablation())).numbers["method"])
    assert "Attr-Id" in names
    assert "ResNet-50 (I+V)" not in names
    assert "A3M (normalised scores), modern recipe" in names


def test_figure8_has_each_attribute_beside_the_majority_class_and_the_mean_of_all():
    table = tables.figure8(cub200())
    assert list(table.numbers["attribute"]) == ["bill", "tail", "wing", "unweighted mean"]
    mean = table.numbers.iloc[3]
    # seeds 0 1 2 at 0.50 0.51 0.52, 0.10 and 0.20 more for the second and third; A3M 0.02 above
    assert mean["twin Baseline-2"] == pytest.approx(61)
    assert mean["twin A3M"] == pytest.approx(63)
    assert mean["twin majority class"] == pytest.approx(40)
    assert mean["twin Δ A3M"] == pytest.approx(2)
    assert mean["twin Δ A3M half-width"] == pytest.approx(0, abs=1e-9)
    assert mean["twin A3M, labelled only"] == pytest.approx(55)
    assert not any("modern" in column or "shuffled" in column for column in table.display)


def test_figure8_without_labelled_columns_and_without_baseline_2_has_dashes():
    results = cub200().drop(columns=[f"test/attribute_labelled/{name}" for name in ("bill", "wing", "tail")])
    table = tables.figure8(unfinish(results, results["method"] == "baseline2"))
    assert not any("labelled only" in column for column in table.display)
    assert set(table.display["twin Δ A3M"]) == {DASH}
    assert any("Baseline-2: 3 of 3 trials not counted" in remark for remark in table.remarks)


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
    rows = tables.metrics({"ablation": further(ablation())})["ablation"]["twins"]
    assert {
        "baseline1",
        "baseline1 feature=wide",
        "baseline1 feature=pooled",
        "baseline2",
        "baseline2 shuffle_attributes=true",
        "a3m normalise_scores=false",
        "a3m normalise_scores=true",
        "a3m normalise_scores=true shuffle_attributes=true",
        "a3m modern",
    } <= set(rows)
    assert "att1" in metrics["ablation"]["twins"]  # what does not tell rows apart does not lengthen their names
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
        others = {study: frame for study, frame in every_study().items() if study != "ablation"}
        for study, frame in others.items():
            others[study] = frame if name == "a" else frame.sample(frac=1, random_state=4)
        for path, table in tables.all_tables({"ablation": results, **others}).items():
            table.write(tmp_path / name, path)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 15 * 3  # Table 1 without controls here
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
    parts = re.findall(r"\\begin\{tabular\}\{(l+r+)\}(.*?)\\end\{tabular\}", tex, flags=re.DOTALL)
    assert [len(columns) for columns, _ in parts] == [13, 6]  # what was measured; the comparisons
    for columns, inside in parts:
        body = inside[inside.index("\\midrule") : inside.index("\\bottomrule")].splitlines()[1:]
        headings = [line for line in body if line.startswith(f"\\multicolumn{{{len(columns)}}}")]
        assert len(headings) == 1
        rows = [line for line in body if line not in headings]
        assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 and line.endswith(r" \\") for line in rows)


def test_a_printed_comparison_leaves_out_rows_that_were_not_compared():
    first, second = table1(ablation()).tex("table1").split(r"\begin{tabular}")[1:]
    assert "SSM" in first
    assert "SSM" not in second
    assert second.count("cannot rank &") + second.count("cannot rank \\") == 7


PREAMBLE = r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-base)")
def test_all_tables_compile(tmp_path):
    studies = every_study()
    studies["cub200"]["reason"] = r"50% of C:\x_y & {z} ~ ^ # $ [1] <b> |"
    studies["cub200"] = unfinish(studies["cub200"], studies["cub200"]["seed"] == 2, reason=studies["cub200"]["reason"])
    answers = {study: answered(studies[study]) for study in ("ablation", "compcars", "cub200_retrieval")}
    studies |= {study: results for study, (_, results) in answers.items()}
    made = tables.all_tables(studies, {study: predictions for study, (predictions, _) in answers.items()})
    for name, table in made.items():
        table.write(tmp_path, name)
    inputs = "\n".join(rf"\input{{{name}}}\clearpage" for name in made)
    (tmp_path / "all.tex").write_text(f"{PREAMBLE}\n{inputs}\n\\end{{document}}\n")
    command = ["pdflatex", "-halt-on-error", "-no-shell-escape", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300)
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert done.returncode == 0, log[-3000:]
    assert f"({len(made)} pages" in log
    assert "Overfull \\hbox" not in log


def test_markdown_rows_have_as_many_cells_as_the_head():
    results = ablation()
    text = table1(unfinish(results, results["method"] == "att2", reason="a | b <script>")).markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert "<script>" not in text


def test_footnote_letters_go_on_after_z():
    assert [letter_of(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]
