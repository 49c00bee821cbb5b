"""Stage `settings`: what DVC reads in params.yaml and what Hydra composes are one truth, and a change touches its own files."""

import copy
import importlib.util
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
