"""The documentation: what it tells to type exists, what it names exists, and the site is built without a warning or a network."""

import importlib
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from a3m import __main__, config, points
from a3m.errors import UserError
from a3m.relevance import trial_settings
from a3m.settings import Params

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {field.name for field in fields(Params)}
DEFAULTS = Params()
MADE_BY_THE_USER = {"sweeps/merge.py"}  # what a page tells to write
DVC = {"repro", "exp", "metrics", "plots", "remote", "push", "pull", "status"}


def blocks(path: Path, *languages: str) -> Iterator[str]:
    for found in FENCE.finditer(path.read_text()):
        if found[1] in languages:
            yield found[2]


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every line of the fenced blocks without a language that begins with a program of ours."""
    found = []
    for page in PAGES:
        for block in blocks(page, "", "bash", "sh"):
            for line in block.splitlines():
                if not re.match(r"(python|a3m|make|dvc) \S", line):
                    continue
                # Two blanks or more part a command from what is said of it.
                words = shlex.split(re.split(r"\s{2,}| && ", line)[0], comments=True)
                found.append((page.relative_to(ROOT).as_posix(), words))
    return found


def settings_of(words: list[str]) -> list[str]:
    """Those of the words that are settings; a value in angle brackets is the reader's own."""
    given = [word for word in words if re.match(r"^\+{0,2}[a-z_0-9.]+=", word) and "<" not in word]
    return [word.removeprefix("+") for word in given]


COMMANDS = commands()


def test_the_pages_tell_commands() -> None:
    programs = {words[0] for _, words in COMMANDS}
    assert programs == {"python", "a3m", "make", "dvc"}
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in COMMANDS if w[0] == "python"])
def test_a_script_is_there_and_takes_its_settings(page: str, words: list[str]) -> None:
    script = words[1]
    if script == "-m" or "<" in script or script in MADE_BY_THE_USER:
        return
    assert (ROOT / script).is_file(), script
    if script.startswith(("sweeps/", "pipelines/")):
        compose(words[2:], script)


def compose(words: list[str], script: str) -> None:
    """Compose and check the settings as the command would, with the data set that it would take."""
    given = [word for word in settings_of(words) if not word.startswith("study=")]
    study = Path(script).stem
    if script.startswith("sweeps/") and not any(word.startswith("dataset=") for word in given):
        known = config.literal(ROOT)["studies"]
        given.append(f"dataset={known.get(study, 'cub200')}")
    config.load(given, root=ROOT)


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in COMMANDS if w[0] == "a3m"])
def test_a_verb_is_there_and_takes_its_settings(page: str, words: list[str]) -> None:
    verb = words[1]
    assert re.search(rf"^  {verb} ", __main__.HELP, re.MULTILINE), verb
    if verb in ("train", "plan", "clean"):
        config.load(settings_of(words[2:]), root=ROOT)


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in COMMANDS if w[0] == "make"])
def test_a_target_is_there(page: str, words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        pattern = rf"^{name} \?=|\$\({name}\)" if equals else rf"^{re.escape(name)}:"
        assert re.search(pattern, makefile, re.MULTILINE), word


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, w in COMMANDS if w[0] == "dvc"])
def test_a_stage_is_there(page: str, words: list[str]) -> None:
    assert words[1] in DVC
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    if words[1] == "repro":
        for word in words[2:]:
            assert word.partition("@")[0] in stages, word
    for flag, word in itertools.pairwise(words):
        if flag == "-S" and not word.startswith("defaults."):
            config.load([word.lstrip("+")], root=ROOT)


def test_what_the_pages_name_in_the_text_is_there() -> None:
    """Settings such as `loss.alpha` and paths such as `a3m/fit.py` between backticks."""
    lacking = []
    for page in PAGES:
        text = FENCE.sub("", page.read_text())
        for word in re.findall(r"`([^`\n]+)`", text):
            setting = re.match(r"^([a-z_0-9]+(?:\.[a-z_0-9]+)+)(?:=\S*)?$", word)
            if setting and word.partition(".")[0] in SECTIONS and not re.search(r"\.(csv|md|py|yaml|npz)\b", word):
                try:
                    points.get(DEFAULTS, setting[1])
                except UserError:
                    lacking.append(f"{page.name}: {word}")
            path = re.match(r"^(?:a3m|docs|sweeps|pipelines|tests|benchmarks)/[\w./-]+$", word)
            if path and word not in MADE_BY_THE_USER and not (ROOT / word).exists():
                lacking.append(f"{page.name}: {word}")
    assert not lacking


def test_readme_says_where_every_module_of_the_package_lies() -> None:
    """The subpackages and the modules beside them; that errors.py holds errors says its name."""
    readme = (ROOT / "README.md").read_text()
    modules = {path.name for path in (ROOT / "a3m").glob("*.py")} - {
        "__init__.py", "__main__.py", "console.py", "errors.py"
    }  # fmt: skip
    packages = {f"{path.parent.name}/" for path in (ROOT / "a3m").glob("*/__init__.py")}
    assert len(modules) > 20
    assert len(packages) > 8
    assert {name for name in modules | packages if not re.search(rf"\b{re.escape(name)}", readme)} == set()


def leaves(tree: Any, path: str = "") -> Iterator[str]:
    if isinstance(tree, dict) and (path == "" or points_to_a_section(path)):
        for name, value in tree.items():
            yield from leaves(value, f"{path}.{name}" if path else str(name))
    else:
        yield path


def points_to_a_section(path: str) -> bool:
    return "." not in path and not isinstance(getattr(DEFAULTS, path, {}), dict)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_yaml_are_settings(page: Path) -> None:
    for block in blocks(page, "yaml"):
        for tree in yaml.safe_load_all(block) if "{literalinclude}" not in block else ():
            if isinstance(tree, dict) and set(tree) & SECTIONS and set(tree) <= SECTIONS | {"defaults"}:
                for path in leaves({name: value for name, value in tree.items() if name != "defaults"}):
                    points.get(DEFAULTS, path)


# --- the tutorial -------------------------------------------------------------------------------------------------------

TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """A project whose params.yaml is what the tutorial makes of it."""
    written = yaml.safe_load((ROOT / "params.yaml").read_text().replace("profile: demo", "profile: smoke"))
    told = yaml.safe_load(next(blocks(TUTORIAL, "yaml")))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(written | told, sort_keys=False))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


def test_the_settings_of_the_tutorial_compose(followed: Path) -> None:
    params = config.load_study("ablation", root=followed)
    assert (params.profile, params.dataset.name, params.data.source) == ("smoke", "manifest", "raw")
    assert (params.train.epochs, params.seeds) == (10, [0, 1, 2])


def test_the_tutorials_study_shares_two_of_its_three_rows_with_the_ablation(followed: Path) -> None:
    code = next(block for block in blocks(TUTORIAL, "python") if "SPACE" in block)
    study: dict[str, Any] = {"__name__": "merge"}
    exec(compile(code, "sweeps/merge.py", "exec"), study)
    params = config.load(["dataset=manifest"], root=followed)
    methods = config.methods()

    def settings(point: dict[str, Any]) -> dict[str, Any]:
        return trial_settings(points.varied(params, point, methods), 0)

    ablation = [
        settings({"method": name}) for name in ("baseline1", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")
    ]
    shared = [settings(point) in ablation for point in study["SPACE"]]
    assert shared == [True, True, False]


# --- the site -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does; a warning, such as a link that leads nowhere, is an error."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(folder)]
    ended = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_every_setting_of_the_reference_has_a_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the table that docs/reference/settings.md is made with: path, meaning, default, type."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_site"))
    generated = importlib.import_module("generated")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in generated.settings().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert all(len(row) == 4 for row in rows)
    assert [path.strip() for path, meaning, *_ in rows if len(meaning.strip()) < 4] == []


@pytest.mark.slow
def test_the_site_asks_for_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and images are its own: it can be read without a network."""
    asking = re.compile(
        r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*?(?:src|href|srcset|data)=[\"']?(?:https?:)?//[^>]*>",
        re.IGNORECASE,
    )
    for path in site.rglob("*.html"):
        assert not asking.findall(path.read_text()), path
    for path in site.rglob("*.css"):
        text = path.read_text()
        assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", text), path


@pytest.mark.slow
def test_the_site_has_every_page_setting_and_equation(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    sources = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sources - pages == set()
    method = (site / "method.html").read_text()
    assert [number for number in range(1, 12) if f'id="equation-{number}"' in method] == list(range(1, 12))
    assert "<math " in method
    assert "$" not in re.sub(r"<(script|style)\b.*?</\1>", "", method, flags=re.DOTALL)
    settings = (site / "reference" / "settings.html").read_text()
    for path in ("loss.alpha", "head.normalise_scores", "store.patience", "&lt;study&gt;.seeds", "retry_failed"):
        assert f">{path}<" in settings, path
    every = "".join(path.read_text() for path in site.rglob("*.html"))
    assert 'class="problematic"' not in every
    assert "<!-- made" not in every  # the marks of docs/_site/generated.py
