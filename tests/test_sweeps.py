"""Every sweep: its space is made of settings, its size is what its head says; checked without training."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from a3m import config, plan, study
from a3m.errors import SettingsError
from a3m.points import varied

ROOT = Path(__file__).parents[1]
PROFILES = ("smoke", "demo", "paper", "modern")


STUDIES = tuple(path.stem for path in sorted((ROOT / "sweeps").glob("*.py")))
IN_PARAMS = tuple(yaml.safe_load((ROOT / "params.yaml").read_text())["studies"])


def space(name: str, profile: str) -> list[dict[str, object]]:
    return [
        dict(point) for point in study.space_of(name, ROOT)(config.load_study(name, [f"profile={profile}"], root=ROOT))
    ]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", IN_PARAMS)
def test_every_point_of_every_space_is_a_valid_and_distinct_trial(name: str, profile: str) -> None:
    params = config.load_study(name, [f"profile={profile}", "train.device=cpu", "plan=true", "seeds=[0]"], root=ROOT)
    points = space(name, profile)
    for point in points:
        varied(params, {path: value for path, value in point.items() if path != "seeds"}, config.methods())
    assert len(plan.expand(params, ROOT, name, points)) == len(points)


def test_every_sweep_but_the_search_and_the_one_on_photographs_is_a_study_of_params_yaml() -> None:
    assert set(STUDIES) - set(IN_PARAMS) == {"photographs", "search"}
    params = config.load(["profile=finetune", "dataset=cub200_photographs", "plan=true"], root=ROOT)
    points = study.space_of("photographs", ROOT)(params)
    assert {point["method"] for point in points} == {"baseline1", "baseline2", "a3m"}
    assert len(plan.expand(params, ROOT, "photographs", points)) == len(points) * len(params.photographs.seeds)


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


@pytest.mark.parametrize("name", [name for name in IN_PARAMS if name not in ("alpha_beta", "cub200_448")])
def test_every_table_of_profile_paper_has_its_runnable_comparators_controls_and_a_modern_block(name: str) -> None:
    points = space(name, "paper")
    methods = {point["method"] for point in points}
    backbones = {point.get("backbone.name") for point in points}
    assert {"method": "baseline1", "baseline1.feature": "wide"} in points
    assert {"method": "baseline1", "recipe": "modern"} in points
    if "retrieval" in name:
        assert {"hdc", "npair", "lifted", "bier", "proxy_anchor", "baseline1", "a3m_unlabelled"} <= methods
        assert {point.get("head.attributes") for point in points} >= {12, 5}
        assert {point.get("head.d") for point in points} >= {128, 512}
    else:
        assert {"method": "a3m", "train.shuffle_attributes": True} in points
        wanted = {"ablation": {"attr_id", "identification_verification"}, "cub200": {"bilinear"}}
        assert wanted.get(name, set()) <= methods
        assert {"compcars": {"alexnet", "googlenet"}, "cub200": {"vgg16"}}.get(name, set()) <= backbones


def test_rows_beside_have_seeds_of_their_own_unless_all_seeds_are_given() -> None:
    def seeds_of(*overrides: str) -> dict[str, set[int]]:
        params = config.load_study("ablation", ["profile=demo", "train.device=cpu", "plan=true", *overrides], root=ROOT)
        found: dict[str, set[int]] = {}
        for trial, _, seed, _ in plan.expand(params, ROOT, "ablation", study.space_of("ablation", ROOT)(params)):
            found.setdefault(trial.settings["method"]["name"], set()).add(seed)
        return found

    assert seeds_of()["att1"] == {0, 1, 2}
    assert seeds_of()["attr_id"] == {0}
    assert seeds_of("seeds=[3,4]")["attr_id"] == seeds_of("seeds=[3,4]")["att1"] == {3, 4}


def test_the_modern_recipe_is_what_the_section_says_and_a_point_may_override_it() -> None:
    params = config.load_study("ablation", ["profile=paper"], root=ROOT)
    modern = varied(params, {"method": "a3m", "recipe": "modern", "train.ema": 0.5}, config.methods())
    assert (modern.train.optimiser, modern.train.images_per_class, modern.train.ema) == ("adamw", 4, 0.5)
    assert params.train.optimiser == "sgd"
    with pytest.raises(SettingsError, match="recipe=old"):
        varied(params, {"method": "a3m", "recipe": "old"}, config.methods())


def test_figure_7_is_two_independent_lines_through_the_centre() -> None:
    points = space("alpha_beta", "paper")
    assert len(points) == 19
    assert all(point["loss.alpha"] == 0.5 or point["loss.beta"] == 0.5 for point in points)
    assert sorted(point["loss.alpha"] for point in points if point["loss.beta"] == 0.5) == [
        round(0.1 * i, 1) for i in range(1, 11)
    ]
    assert len(space("alpha_beta", "demo")) == 9


def test_the_centre_of_figure_7_is_table_2s_a3m() -> None:
    def keys(name: str) -> set[str]:
        params = config.load_study(name, ["profile=paper", "train.device=cpu", "plan=true", "seeds=[0]"], root=ROOT)
        return {trial.key for trial, *_ in plan.expand(params, ROOT, name, study.space_of(name, ROOT)(params))}

    assert len(keys("alpha_beta") & keys("cub200")) == 1


def test_a_plan_of_profile_paper_says_trials_images_and_hours(capsys: pytest.CaptureFixture[str]) -> None:
    study.plan_all(config.load(["profile=paper"], root=ROOT), ROOT, ["profile=paper", "train.device=cpu"])
    said = capsys.readouterr().out
    for name in IN_PARAMS:
        assert re.search(rf"{name} on \w+: \d+ trials.*images to be seen, [\d.]+ device-hours", said), said
    assert "cub200_retrieval cannot start yet: backbone.weights=" in said
    # 5,994 images x 60 epochs x 54 trials of Figure 7 that Table 2 does not have
    assert f"54 trials to train, {5994 * 60 * 54:,} images to be seen" in said
    assert re.search(r"in all: \d+ trials to train, [\d,]+ images to be seen, [\d.]+ device-hours", said)


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


def test_what_belongs_to_a_method_is_set_and_is_no_part_of_the_point() -> None:
    params = config.load_study("cars196_retrieval", ["profile=paper", "train.device=cpu", "plan=true"], root=ROOT)
    points = study.space_of("cars196_retrieval", ROOT)(params)
    hdc = [
        (trial, point)
        for trial, point, _, _ in plan.expand(params, ROOT, "cars196_retrieval", points)
        if point["method"] == "hdc"
    ]
    for trial, point in hdc:
        assert point == {"method": "hdc"}
        assert [trial.settings["method"]["loss_arguments"][f"test_weight_{i}"] for i in (1, 2, 3)] == [1.0, 2.0, 3.0]
        assert (trial.settings["train"]["batch_size"], trial.settings["train"]["backbone_factor"]) == (100, 0.1)
