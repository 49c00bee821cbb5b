"""Who may import whom, and that dvc.yaml says what the code does."""

import ast
from pathlib import Path

import pytest
import yaml

from a3m import identity

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "a3m").rglob("*.py"))
SCRIPTS = sorted([*(ROOT / "sweeps").glob("*.py"), *(ROOT / "pipelines").glob("*.py")])


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("ray", "cluster/"),
        ("mlflow", "record/runs.py|record/recording.py|record/failures.py|serve/model.py"),
        ("optuna", "cluster/"),
        ("hydra", "config.py"),
        ("dvc", None),
    ],
)
def test_a_service_library_is_named_in_one_place(library: str, module: str | None) -> None:
    named = {str(path.relative_to(ROOT / "a3m")) for path in MODULES if library in roots(path)}
    allowed = {name for name in named if module and name.startswith(tuple(module.split("|")))}
    assert named == allowed
    assert bool(named) == bool(module)
    assert not [path for path in SCRIPTS if library in roots(path)]


def test_the_package_never_imports_sweeps_or_pipelines_and_these_never_each_other() -> None:
    for path in (*MODULES, *SCRIPTS):
        assert not {"sweeps", "pipelines"} & roots(path), path


def test_what_trains_knows_no_scheduler_no_store_and_no_settings_machinery() -> None:
    above = {
        "a3m.driver",
        "a3m.study",
        "a3m.plan",
        "a3m.work",
        "a3m.config",
        "a3m.settings",
        "a3m.points",
        "a3m.relevance",
        "a3m.space",
        "a3m.cost",
        "a3m.samples",
        "a3m.commands",
    }
    packages = ("a3m.record", "a3m.searching", "a3m.cluster", "a3m.report")
    assert not [name for name in identity.code_modules() if name in above or name.startswith(packages)]
    for name in ("a3m.metrics.ranking", "a3m.metrics.classification", "a3m.metrics.localisation"):
        assert all(module in {"a3m", "a3m.errors", "a3m.metrics"} or module.startswith(name) or ".metrics." in module
                   for module in identity.code_modules(name)), name  # fmt: skip


def test_the_report_reads_data_frames_only() -> None:
    for path in (ROOT / "a3m" / "report").rglob("*.py"):
        assert not {"ray", "mlflow", "hydra", "torch"} & roots(path), path
        assert all(name.startswith(("a3m.report", "a3m.errors", "a3m.state")) or name == "a3m"
                   for name in imported(path) if name.partition(".")[0] == "a3m"), path  # fmt: skip


def test_a_sweep_stage_depends_on_exactly_the_code_that_a_trial_runs() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["sweep"]["do"]
    code = {dep for dep in stage["deps"] if dep.startswith("a3m/")}
    assert code == {str(path.relative_to(ROOT)) for path in identity.code_modules().values()}


FIGURES = sorted(path.stem for path in (ROOT / "a3m" / "report" / "figures").glob("figure?.py"))
# Of every stage: packages hold a docstring, errors only names.
NO_STYLE = {"a3m/__init__.py", "a3m/errors.py", "a3m/report/__init__.py"}


def reached(*entries: str) -> set[str]:
    """Files of a3m that the modules reach by import."""
    modules = (identity.code_modules(entry) for entry in entries)
    return {str(path.relative_to(ROOT)) for found in modules for path in found.values()} - NO_STYLE


def test_a_figure_depends_on_its_own_module_and_what_all_figures_share() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    own = "a3m/report/figures/${key}.py"
    deps = {dep for dep in stages["figure"]["do"]["deps"] if dep.startswith("a3m/")}
    assert own in deps
    script = ("a3m.report.results", "a3m.report.samples", "a3m.report.stage")
    needed = {name: reached(f"a3m.report.figures.{name}", *script) for name in FIGURES}
    shared = set().union(*(files - {f"a3m/report/figures/{name}.py"} for name, files in needed.items()))
    assert deps - {own} == shared
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert sorted(params["figures"]) == FIGURES
    assert not [dep for dep in stages["tables"]["deps"] if "figures" in dep], "a figure's style reruns no table"


@pytest.mark.parametrize(
    ("stage", "modules"),
    [
        ("tables", ("a3m.report.tables", "a3m.report.plots", "a3m.report.stage")),
        ("report", ("a3m.report.page", "a3m.report.tables", "a3m.report.stage")),
    ],
)
def test_tables_and_report_depend_on_what_they_import(stage: str, modules: tuple[str, ...]) -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    assert {dep for dep in deps if dep.endswith(".py") and dep.startswith("a3m/")} == reached(*modules)


def test_no_stage_has_the_users_data_as_an_output_and_tables_keep_their_runs() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        for out in stage.get("do", stage).get("outs", []):
            path = out if isinstance(out, str) else next(iter(out))
            assert not path.startswith("data/raw"), name
    for out in stages["sweep"]["do"]["outs"]:
        assert next(iter(out.values())) == {"persist": True}


def test_every_study_of_params_yaml_has_its_sweep_and_its_section() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for study, dataset in params["studies"].items():
        assert (ROOT / "sweeps" / f"{study}.py").is_file()
        known = yaml.safe_load((ROOT / "a3m" / "conf" / "dataset" / f"{dataset}.yaml").read_text())
        assert params["datasets"][dataset] == {name: known[name] for name in ("reader", "images")}
        assert known["images"] in params["twins"]
    for figure, needs in params["figures"].items():
        assert needs["study"] in params["studies"], figure


def test_every_module_says_what_it_is() -> None:
    for path in (*MODULES, *SCRIPTS):
        tree = ast.parse(path.read_text())
        if tree.body:
            assert ast.get_docstring(tree), path
