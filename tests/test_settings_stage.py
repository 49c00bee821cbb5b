"""Stage `settings`: what DVC reads in params.yaml and what Hydra composes are one truth, and a change touches its own files."""

import copy
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from a3m import config, relevance
from a3m.errors import SettingsError
from a3m.settings import Params

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_stage", ROOT / "pipelines" / "settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def composed() -> dict[str, Params]:
    params = config.load(root=ROOT)
    return {name: config.load([f"dataset={name}"], root=ROOT) for name in {*params.datasets, *params.twins}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    return tmp_path


def with_params(project: Path, text: str) -> Params:
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text() + text)
    return config.load(root=project)


def changed(stage: ModuleType, project: Path, text: str) -> set[str]:
    """The files below settings/ that another line in params.yaml changes."""
    before, after = (stage.contents(with_params(project, lines), project) for lines in ("", text))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_every_data_set_and_every_study_has_a_file_of_its_own(stage: ModuleType, project: Path) -> None:
    params = with_params(project, "")
    wanted = stage.contents(params, project)
    assert set(wanted) == {f"dataset/{name}.yaml" for name in {*params.datasets, *params.twins}} | {
        f"study/{name}.yaml" for name in params.studies
    }
    for name, content in wanted.items():
        assert ("data" in content) == name.startswith("dataset/"), name
        assert ("train" in content) == name.startswith("study/"), name
    deps = (ROOT / "dvc.yaml").read_text()
    assert deps.count("settings/dataset/${") == 3
    assert deps.count("settings/study/${") == 1


def test_a_data_setting_changes_every_data_set_and_no_study_a_study_setting_that_study_alone(
    stage: ModuleType, project: Path
) -> None:
    every = {f"dataset/{name}.yaml" for name in {*config.load(root=ROOT).datasets, *config.load(root=ROOT).twins}}
    assert changed(stage, project, "data: {margin: 1.25}\n") == every
    assert changed(stage, project, "compcars: {seeds: [1]}\n") == {"study/compcars.yaml"}
    assert changed(stage, project, "alpha_beta: {values: [0.5]}\n") == {"study/alpha_beta.yaml"}


def test_one_data_sets_recipe_changes_that_data_set_and_those_that_share_its_images(
    stage: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = with_params(project, "")
    before = stage.contents(params, project)
    load = config.load

    def other(overrides: Sequence[str] = (), *, root: Path | None = None) -> Params:
        found = load(overrides, root=root)
        if found.dataset.name == "compcars":
            found.data.height = 72
        return found

    monkeypatch.setattr(config, "load", other)
    after = stage.contents(params, project)
    assert {name for name in before if before[name] != after[name]} == {"dataset/compcars.yaml"}


def test_params_yaml_and_the_data_sets_of_the_package_agree(stage: ModuleType, composed: dict[str, Params]) -> None:
    params = config.load(root=ROOT)
    for name, chosen in composed.items():
        stage.check_dataset(name, chosen, params, composed)
    params.datasets["cub200_448"] = {"reader": "cub200", "images": "birds"}
    with pytest.raises(SettingsError, match=r"datasets\.cub200_448 is .*birds"):
        stage.check_dataset("cub200_448", composed["cub200_448"], params, composed)


def test_data_sets_that_share_a_twin_draw_it_alike(stage: ModuleType, composed: dict[str, Params]) -> None:
    params, other = config.load(root=ROOT), copy.deepcopy(composed["cub200_retrieval"])
    other.twin.difficulty = 3.0
    with pytest.raises(SettingsError, match="drawn with other settings"):
        stage.check_dataset("cub200_retrieval", other, params, composed)
    with pytest.raises(SettingsError, match="twins does not name"):
        stage.check_dataset("cub200_retrieval", composed["cub200_retrieval"], params, {})


def test_a_study_does_not_depend_on_another_studys_rows_or_on_where_it_runs() -> None:
    def content(*overrides: str) -> dict[str, object]:
        params = config.load_study("ablation", list(overrides), root=ROOT)
        return relevance.for_study(params, "ablation", config.methods())

    assert content() == content("compcars.seeds=[5]", "cub200.groups=[]", "cluster.retries=9", "train.workers=3")
    assert content() != content("ablation.seeds=[5]")
    assert content() != content("modern={loss.label_smoothing:0.2}")
