"""Settings: what composes, what is refused, and what a trial's key is made of."""

import shutil
import sys
from pathlib import Path

import pytest

from a3m import config, points, relevance, settings
from a3m.errors import SettingsError

ROOT = Path(__file__).parents[1]
PROFILES = ("smoke", "demo", "paper", "modern")
DATASETS = ("market1501", "cub200")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_profile_composes_with_every_data_set_and_method(profile: str, dataset: str) -> None:
    params = config.load([f"profile={profile}", f"dataset={dataset}"], root=ROOT)
    assert (params.profile, params.dataset.name) == (profile, dataset)
    for method in config.methods():
        assert points.varied(params, {"method": method}, config.methods()).method.name == method


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.foo=1", "foo"),
        ("+new=1", "new"),
        ("train.epochs=many", "Integer"),
        ("train.epochs=0", r"train\.epochs=0: must be greater"),
        ("loss.alpha=-1", r"loss\.alpha=-1: must be at least 0$"),
        ("train.momentum=1", r"train\.momentum=1: must be at least 0 and less than 1"),
        ("test.lambda_=2", r"test\.lambda_=2: must be at least 0 and at most 1"),
        ("seed=-1", r"seed=-1: must be at least 0"),
        ("seeds=[0,-1]", "a seed is not negative"),
        ("train.device=gpu", "expected one of auto, cpu, cuda"),
        ("train.on=test", r"expected one of train, train\+val"),
        ("train.augment=[blur]", "blur"),
        ("data.margin=0.5", r"data\.margin"),
        ("data.validation=1.5", r"data\.validation"),
        ("seeds=[1,1]", "each once"),
        ("train.threads=4", "cpus_per_trial"),
        ("profile=none", "profile/none"),
        ("dataset=imagenet", "dataset/imagenet"),
        ("train.epochs", r"train\.epochs"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        config.load([override], root=ROOT)


def test_params_yaml_overrides_the_profile_and_the_command_line_overrides_both(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text + "\ntrain: {epochs: 3}\n")
    assert config.load(root=project).train.epochs == 3
    assert config.load(["train.epochs=4"], root=project).train.epochs == 4
    (project / "params.yaml").write_text(text + "\ntrian: {epochs: 3}\n")
    with pytest.raises(SettingsError, match="trian"):
        config.load(root=project)
    (project / "params.yaml").write_text("defaults: [unclosed")
    with pytest.raises(SettingsError, match=r"params\.yaml"):
        config.load(root=project)


def test_a_study_takes_its_data_set_from_params_yaml(project: Path) -> None:
    assert config.load_study("alpha_beta", root=project).dataset.name == "cub200"
    with pytest.raises(SettingsError, match="studies names no data set for other"):
        config.load_study("other", root=project)


def test_an_override_of_what_the_study_sweeps_is_refused() -> None:
    for given, written in ((["loss.alpha=0.3"], {}), ([], {"loss": {"alpha": 0.3}})):
        with pytest.raises(SettingsError, match=r"this study varies loss\.alpha itself"):
            config.refuse_swept(["loss.alpha"], given, written)
    config.refuse_swept(["loss.alpha"], ["loss.beta=0.3", "train.epochs=3"], {"loss": {"beta": 1}})


def test_an_a3m_imported_from_another_tree_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "a3m").mkdir()
    (project / "sweeps").mkdir()
    monkeypatch.setattr(sys, "argv", [str(project / "sweeps" / "ablation.py")])
    with pytest.raises(SettingsError, match="PYTHONPATH"):
        config.running_root()


@pytest.fixture(scope="module")
def base() -> settings.Params:
    return config.load(["train.device=cpu"], root=ROOT)


def test_the_key_holds_only_what_the_method_reads(base: settings.Params) -> None:
    def at(method: str, **point: object) -> dict[str, object]:
        """A trial's settings at a point whose paths have __ for the dot, which Python's keywords cannot hold."""
        paths = {name.replace("__", "."): value for name, value in point.items()}
        varied = points.varied(base, {"method": method, **paths}, config.methods())
        return relevance.trial_settings(varied, seed=0)

    assert base.method.name == "a3m"
    assert at("baseline1", loss__alpha=0.1) == at("baseline1", loss__beta=0.9)
    assert at("a3m", loss__alpha=0.1) != at("a3m")
    assert at("a3m_unlabelled", loss__beta=0.1) == at("a3m_unlabelled")
    assert at("baseline2", head__normalise_scores=False) == at("baseline2")
    assert at("a3m", head__normalise_scores=False) != at("a3m")
    assert at("a3m", train__workers=3, train__checkpoint_every=2, cluster__retries=9) == at("a3m")
    assert at("a3m", train__momentum=0.1) == at("a3m")  # AdamW has none
    assert at("a3m", baseline1__feature="pooled") == at("a3m")
    for method in ("npair", "lifted", "proxy_anchor", "hdc", "bier"):  # they train no classifier
        assert at(method, loss__label_smoothing=0.1) == at(method, head__dropout=0.5) == at(method)
    for method in ("hdc", "bilinear"):
        assert at(method, head__branch="bn_relu") == at(method)
    assert at("attr_id", loss__label_smoothing=0.1) != at("attr_id")
    assert at("baseline1", train__shuffle_attributes=True) == at("baseline1")
    assert at("baseline2", train__shuffle_attributes=True) != at("baseline2")
    assert at("a3m", head__attributes=7) == at("a3m")  # the data set's own
    assert at("a3m_unlabelled", head__attributes=7) != at("a3m_unlabelled")
    assert at("a3m", test__k1=5) != at("a3m")  # re-ranking is on for re-identification
    assert at("hdc", train__images_per_class=3) == at("hdc")  # its own K goes before


def trial_settings(*overrides: str) -> dict[str, object]:
    return relevance.trial_settings(config.load(["train.device=cpu", *overrides], root=ROOT), seed=0)


def test_a_point_of_a_space_and_the_same_overrides_are_one_trial(base: settings.Params) -> None:
    point = {"method": "baseline2", "head.normalise_scores": False, "loss.alpha": 0.1}
    varied = points.varied(base, point, config.methods())
    overrides = ["method=baseline2", "head.normalise_scores=false", "loss.alpha=0.1"]
    assert trial_settings(*overrides) == relevance.trial_settings(varied, seed=0)


def test_a_form_spelled_out_is_the_form() -> None:
    spelled = [f"head.{name}={str(value).lower()}" for name, value in settings.FORMS["released"].items()]
    assert trial_settings("head.form=released", "head.normalise_scores=null") == trial_settings(*spelled)


def test_a_point_of_a_space_is_checked_like_a_setting() -> None:
    params = config.load(root=ROOT)
    for point, message in (
        ({"loss.gamma": 1.0}, "no such setting"),
        ({"loss.alpha": "high"}, "expected float"),
        ({"method": "a4m"}, "method=a4m"),
        ({"loss": 1}, "a section"),
        ({"head.form": "other"}, "expected one of"),
    ):
        with pytest.raises(SettingsError, match=message):
            points.varied(params, point, config.methods())
    assert points.varied(params, {"loss.alpha": 1}, config.methods()).loss.alpha == 1.0
    assert params.loss.alpha == 0.5
