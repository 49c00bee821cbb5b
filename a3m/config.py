"""How settings are composed from params.yaml, a3m/conf and the command line.

params.yaml in the project's root is Hydra's primary configuration and DVC's parameter file at once. A profile chooses the
size of everything; `a3m/conf/recipe/<profile>/<data set>.yaml` holds what a profile means for one data set. Unknown settings
and wrong types are refused, because the dataclasses of `a3m.settings` are the schema.

This is the only module that names Hydra.
"""

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

import a3m
from a3m.errors import SettingsError, UserError
from a3m.points import check
from a3m.settings import Method, Params

# --- the project's root -------------------------------------------------------------------------------------------------


def project_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds params.yaml and dvc.yaml."""
    for folder in (start, *start.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise SettingsError(
        f"{start}: neither this folder nor one above it holds params.yaml and dvc.yaml: go to the project"
    )


def running_root() -> Path:
    """The root of the project whose script is running: the parent of the script's folder; else looked for from here upwards.

    Raises SettingsError when the imported a3m belongs to another tree: its code would train under this tree's settings.
    """
    script = Path(sys.argv[0]).resolve()
    of_the_project = script.parent.name in ("sweeps", "pipelines", "benchmarks")
    root = script.parent.parent if of_the_project else project_root(Path.cwd())
    imported = Path(a3m.__file__).resolve().parents[1]
    if (root / "a3m").is_dir() and (root / "a3m").resolve() != imported / "a3m":
        raise SettingsError(
            f"the a3m that Python imports lies in {imported}, not in this project ({root}): "
            f"run `make venv` here, or set PYTHONPATH={root}; experiments run in the workspace, not with `dvc exp run --temp`"
        )
    return root


GROUPS = ("profile", "dataset", "method", "backbone")


# --- composing ----------------------------------------------------------------------------------------------------------


def register_schema() -> None:
    """Make the dataclasses known to Hydra under the name that params.yaml's defaults list uses."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store("schema", Params)


def load(overrides: Sequence[str] = (), *, root: Path | None = None) -> Params:
    """Compose params.yaml with `overrides` (Hydra's grammar) and return it checked. Raises SettingsError."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register_schema()
    root = root or running_root()
    # Inside a command Hydra is running already and would refuse to compose once more.
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(root), version_base="1.3"):
            composed = compose("params", list(overrides))
        return check(_typed(composed))
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(f"{root / 'params.yaml'}: {_first_lines(error)}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{root / 'params.yaml'}: not YAML: {_first_lines(error)}") from error
    finally:
        GlobalHydra.instance().hydra = running


def _typed(composed: Any) -> Params:
    """The composed configuration as Params; merged into the schema once more, since `+new=1` slips past Hydra's own check."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    params = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), plain))
    assert isinstance(params, Params)
    return params


def _first_lines(error: BaseException) -> str:
    """Hydra's and OmegaConf's messages without their inner workings, on one line."""
    cause = error.__cause__ if error.__cause__ is not None else error
    text = f"{error}\n{cause}".split("Config search path:")[0]
    lines = [line.strip() for line in text.splitlines()]
    inner = r"full_key|reference_type|object_type|To append to your config|Set the environment variable"
    return "; ".join(dict.fromkeys(line for line in lines if line and not re.match(inner, line)))


def literal(root: Path) -> dict[str, Any]:
    """params.yaml as DVC sees it: without what Hydra composes."""
    try:
        return yaml.safe_load((root / "params.yaml").read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{root / 'params.yaml'}: {_first_lines(error)}") from error


def dataset_of(study: str, root: Path) -> str:
    """The data set that params.yaml gives to a study."""
    studies = literal(root).get("studies") or {}
    if study not in studies:
        raise SettingsError(f"{root / 'params.yaml'}: studies names no data set for {study}; add `{study}: <data set>`")
    return str(studies[study])


@functools.cache
def methods() -> dict[str, Method]:
    """The methods of a3m/conf/method by name."""
    folder = Path(a3m.__file__).parent / "conf" / "method"
    return {path.stem: Method(**yaml.safe_load(path.read_text())) for path in sorted(folder.glob("*.yaml"))}


def load_study(study: str, overrides: Sequence[str] = (), *, root: Path | None = None) -> Params:
    """The settings of a study, composed with its own data set."""
    root = root or running_root()
    return load([f"dataset={dataset_of(study, root)}", *overrides], root=root)


def main(
    *, study: str | None = None, dataset: str | None = None, swept: Sequence[str] = ()
) -> Callable[[Callable[[Params, Path], None]], Callable[[], None]]:
    """Make a function of (settings, project root) a command with Hydra's grammar and flags, such as `--cfg job`.

    `study` composes with that study's data set, `dataset` with this one, where the command names none; an override of a
    `swept` setting is refused. A UserError is printed as one message and ends the command with its exit code.
    """

    def decorate(function: Callable[[Params, Path], None]) -> Callable[[], None]:
        # functools.wraps: Hydra reads the help text and the job's name from the wrapped function.
        @functools.wraps(function)
        def command() -> None:
            with user_errors():
                root = running_root()
                arguments = sys.argv[1:]
                if {"-h", "--help"} & set(arguments):
                    print(help_text(function.__doc__ or sys.modules[function.__module__].__doc__ or "", root))
                    return
                if {"-m", "--multirun"} & set(arguments):
                    raise SettingsError("--multirun is refused: a sweep schedules its own trials; run it once")
                refuse_swept(swept, arguments, literal(root))
                named = dataset_of(study, root) if study is not None else dataset
                if named is not None and not any(argument.startswith("dataset=") for argument in arguments):
                    sys.argv.append(f"dataset={named}")
                if not any(argument.startswith("-") for argument in arguments):
                    load(
                        sys.argv[1:], root=root
                    )  # the same composition, with one line instead of Hydra's page if it fails
                _run_hydra(function, root)

        return command

    return decorate


def options(group: str) -> list[str]:
    """The names that a group of a3m/conf offers, such as those of the data sets."""
    return sorted(path.stem for path in (Path(a3m.__file__).parent / "conf" / group).glob("*.yaml"))


def help_text(doc: str, root: Path) -> str:
    """What --help prints. Hydra's own would look for configuration groups in every folder of the project, .venv included."""
    groups = {name: ", ".join(options(name)) for name in GROUPS}
    chosen = "\n".join(f"  {name + '=':12}{options}" for name, options in groups.items())
    return (
        f"{inspect.cleandoc(doc)}\n\n"
        f"Settings are given as path=value (Hydra's grammar); {root / 'params.yaml'} holds the standing ones.\n"
        f"{chosen}\n  train.epochs=5, seeds=[0,1], plan=true ...: `--cfg job` prints every setting and its value.\n"
        "Documentation of each: a3m/settings.py."
    )


def refuse_swept(swept: Sequence[str], arguments: Sequence[str], written: dict[str, Any]) -> None:
    """Raise SettingsError when the command line or params.yaml sets what the study itself varies."""
    for path in swept:
        value: Any = written
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        given = [argument for argument in arguments if re.match(rf"\+{{0,2}}{re.escape(path)}[.=]", argument)]
        if given or value is not None:
            where = given[0] if given else f"params.yaml: {path}"
            raise SettingsError(f"{where}: this study varies {path} itself; leave it out")


def _run_hydra(function: Callable[[Params, Path], None], root: Path) -> None:
    import hydra
    from omegaconf.errors import OmegaConfBaseException

    register_schema()

    @functools.wraps(function)
    def task(composed: Any) -> None:
        with user_errors():
            try:
                params = _typed(composed)
            except OmegaConfBaseException as error:
                raise SettingsError(_first_lines(error)) from error
            function(check(params), root)

    hydra.main(config_path=str(root), config_name="params", version_base="1.3")(task)()


class user_errors:  # noqa: N801 - a context manager that reads like a statement
    """Print a UserError as one message on stderr and exit with its code; A3M_TRACEBACK=1 shows where it came from."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            print(
                "interrupted: nothing that was finished is lost; give the same command again to go on", file=sys.stderr
            )
            sys.exit(130)
        if isinstance(error, UserError) and not os.environ.get("A3M_TRACEBACK"):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.code)
