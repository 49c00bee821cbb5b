"""The report and the MLflow UI in a headless Chromium, with real runs: from a number of the page to the run behind it.

A page is at fault when a table is empty, an image broken, something was said on the console or asked for elsewhere, or a
phone would have to scroll it sideways; the tests at the end show that each of these is noticed.
"""

import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd
import pytest
import tiny

from a3m import study
from a3m.record import links, notes, runs

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.cluster,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium"),
]

ROOT = Path(__file__).parents[1]
STUDY, SEEDS = "alpha_beta", (0, 1)
POINTS = ((0.5, 0.5), (0.3, 0.5), (0.5, 0.3))  # alpha, beta: a contour needs two values of each
WIDE: dict[str, Any] = {"viewport": {"width": 1400, "height": 1000}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# What MLflow's own page says on the console, by its words and the path of the address it speaks of, and why that is no fault.
MLFLOW_SAYS = (
    # Asks who is logged in. A server without accounts has no such address.
    (r"Failed to load resource: the server responded with a status of 404 \(Not Found\)", "/ajax-api/2.0/mlflow/users/current"),
    # A browser's word for a layout that is finished in the next frame; slow machines have it more often.
    (r"(null )?ResizeObserver loop completed with undelivered notifications\.", r"/static-files/static/js/main\..*\.js"),
)  # fmt: skip

# Tables without a filled cell in their body, images and drawings without a size, by what a reader could find them by.
LOOKED_AT = """async () => {
  const faults = [];
  for (const table of document.querySelectorAll('table')) {
    const cells = [...table.querySelectorAll('tr')].flatMap(row => [...row.querySelectorAll('td')]);
    if (!cells.some(cell => cell.textContent.trim()))
      faults.push('empty table: ' + table.textContent.trim().slice(0, 80));
  }
  const loads = address => new Promise(resolve => {
    const image = new Image();
    image.onload = () => resolve(image.naturalWidth > 0);
    image.onerror = () => resolve(false);
    image.src = address;
  });
  for (const image of document.images)
    if (!await loads(image.currentSrc || image.src)) faults.push('broken image: ' + (image.alt || image.src).slice(0, 80));
  for (const image of document.querySelectorAll('svg image'))
    if (!await loads(image.href.baseVal)) faults.push('broken image in a drawing: ' + image.href.baseVal.slice(0, 80));
  for (const drawing of document.querySelectorAll('svg')) {
    const {width, height} = drawing.getBoundingClientRect();
    if (drawing.checkVisibility() && !(width > 0 && height > 0 && drawing.childElementCount))
      faults.push('drawing without size or content: ' + drawing.outerHTML.slice(0, 80));
  }
  return faults;
}"""


# --- a browser that takes notes ------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A page and what was said and asked for on it: console errors, uncaught exceptions, requests that left this machine."""

    page: Any
    faults: list[str] = field(default_factory=list)

    def heard(self, message: Any) -> None:
        where = message.location.get("url", "")
        expected = any(
            re.fullmatch(words, message.text) and re.fullmatch(path, urlsplit(where).path)
            for words, path in MLFLOW_SAYS
        )
        if message.type == "error" and not expected:
            self.faults.append(f"console: {message.text} ({where})")

    def asked(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("file", "data", "blob") and address.hostname not in ("127.0.0.1", "localhost"):
            self.faults.append(f"asked for elsewhere: {request.url}")

    def look(self) -> list[str]:
        """What is at fault on the page as it is shown, and what was since it was opened."""
        width = self.page.viewport_size["width"]
        needed = self.page.evaluate("document.documentElement.scrollWidth")
        sideways = [f"scrolls sideways: {needed} of {width} pixels"] if needed > width else []
        return [*self.page.evaluate(LOOKED_AT), *sideways, *self.faults]


@contextmanager
def opened(address: str, **screen: Any) -> Iterator[Watched]:
    """A page in a new browser of its own. Playwright's event loop would stop others of this thread: it ends with the page."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            context = browser.new_context(**screen)
            context.set_default_timeout(30_000)
            watched = Watched(context.new_page())
            context.on("console", watched.heard)
            context.on("weberror", lambda raised: watched.faults.append(f"exception: {raised.error}"))
            context.on("request", watched.asked)
            watched.page.goto(address)
            yield watched
        finally:
            browser.close()


def press_until(page: Any, selector: str, most: int = 60) -> None:
    """Goes on with the Tab key to the first element of this kind."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached with {most} Tabs")


# --- runs, their report and their server ---------------------------------------------------------------------------------


@dataclass
class Project:
    folder: Path
    server: str  # address of the MLflow UI
    experiment: str
    trials: pd.DataFrame  # results/<study>.csv with the id of each trial's run

    @property
    def report(self) -> str:
        return (self.folder / "reports" / "index.html").as_uri()

    def run(self, name: str) -> str:
        """The address of a run's page."""
        return f"{self.server}/#/experiments/{self.experiment}/runs/{name}{links.AS_TRAINING}"

    def filtered(self, words: str) -> str:
        """The address of the list of the runs that a filter finds."""
        asked = f"searchFilter={quote(words, safe='')}&workflowType=machine_learning"
        return f"{self.server}/#/experiments/{self.experiment}/runs?{asked}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A study of six trials, its report as the stages write it, and the MLflow UI that the report's links lead to."""
    root = tmp_path_factory.mktemp("browser")
    prepared = root / "data" / "prepared" / "tiny"
    tiny.write_pack(prepared)
    for path in (prepared / "packed").iterdir():
        path.rename(prepared / path.name)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "pipelines", root / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))

    settings = tiny.params()
    settings.alpha_beta.seeds, settings.alpha_beta.values = list(SEEDS), sorted({alpha for alpha, _ in POINTS})
    study.run(settings, root, STUDY, [{"loss.alpha": alpha, "loss.beta": beta} for alpha, beta in POINTS])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "UI", address)
        for stage, *arguments in (("tables",), ("figures", "figure7", STUDY), ("report",)):
            runpy.run_path(str(root / "pipelines" / f"{stage}.py"))["main"](root, *arguments)
    trials = pd.read_csv(root / "results" / f"{STUDY}.csv").merge(
        pd.read_csv(root / "results" / f"{STUDY}.runs.csv")[["key", "run_id"]], on="key"
    )
    assert len(trials) == len(SEEDS) * len(POINTS)
    experiment = runs.open_store("", root).experiment("tiny", root, create=False)
    with served(root, port):
        yield Project(root, address, experiment, trials)


@contextmanager
def served(root: Path, port: int) -> Iterator[None]:
    """`a3m ui` on this project, from its first answer on; its processes are ended with it."""
    log = root / "ui.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        ui = subprocess.Popen(
            [sys.executable, "-m", "a3m", "ui", f"port={port}"],
            cwd=root, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert ui.poll() is None, f"a3m ui ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"a3m ui does not answer:\n{log.read_text()}"
            time.sleep(0.2)
        yield
    finally:
        os.killpg(ui.pid, signal.SIGINT)
        try:
            ui.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(ui)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


def kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(20)


# --- the report ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_report_shows_its_tables_and_figures_and_needs_nothing_else(
    project: Project, screen: dict[str, Any]
) -> None:
    with opened(project.report, **screen) as watched:
        page = watched.page
        assert page.locator("main table").count() >= 3, "Figure 7's numbers, their cost, the runs"
        assert page.locator("main svg").count() == 1
        assert page.locator("td button").count() >= 2 * len(POINTS)
        assert watched.look() == []
        for closed in page.locator("details:not([open]) > summary").all():
            closed.click()
        assert page.get_by_role("rowheader").filter(has_text=str(project.trials["key"][0])).last.is_visible()
        assert watched.look() == []


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_number_opens_the_list_of_its_runs_by_keyboard_and_escape_closes_it(
    project: Project, screen: dict[str, Any]
) -> None:
    with opened(project.report, **screen) as watched:
        page = watched.page
        press_until(page, "td button")
        listed = page.locator("[popover]:popover-open")
        assert listed.count() == 0
        row = page.locator("tr", has=page.locator("button:focus"))
        alpha, beta = (float(row.get_by_role("cell").nth(i).inner_text()) for i in (0, 1))
        page.keyboard.press("Enter")
        listed.wait_for()
        behind = project.trials[(project.trials["loss.alpha"] == alpha) & (project.trials["loss.beta"] == beta)]
        assert len(behind) == len(SEEDS)
        assert {link.inner_text() for link in listed.get_by_role("link").all()} == set(behind["key"])
        box = listed.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= screen["viewport"]["width"]
        assert watched.look() == []
        page.keyboard.press("Escape")
        listed.wait_for(state="detached")
        assert page.evaluate("document.activeElement.matches('td button')"), "back where the reader was"


# --- MLflow --------------------------------------------------------------------------------------------------------------


def test_a_number_leads_to_its_run_with_metric_and_artifacts(project: Project) -> None:
    with opened(project.report, **WIDE) as watched:
        page = watched.page
        press_until(page, "td button")
        page.keyboard.press("Enter")
        press_until(page, "[popover]:popover-open a[href^=http]")
        key = page.evaluate("document.activeElement.textContent")
        page.keyboard.press("Enter")
        (trial,) = project.trials[project.trials["key"] == key].to_dict("records")
        name = f"a3m alpha={trial['loss.alpha']} beta={trial['loss.beta']} seed={trial['seed']}"
        page.get_by_role("heading", name=name).wait_for()
        assert page.url == project.run(trial["run_id"])

        metric = page.get_by_role("row").filter(has=page.get_by_role("link", name="test/accuracy", exact=True))
        assert float(metric.get_by_role("cell").last.inner_text()) == pytest.approx(trial["test/accuracy"], abs=1e-4)
        page.get_by_role("link", name=STUDY, exact=True).wait_for()

        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("shown", exact=True).click()
        page.get_by_text("ranked.png", exact=True).click()
        page.wait_for_function(
            "[...document.images].some(image => image.src.startsWith('blob:') && image.naturalWidth > 300)"
        )
        page.get_by_text("model", exact=True).click()
        page.get_by_text("MLmodel", exact=True).wait_for()
        page.get_by_text("class_probability").wait_for()
        assert watched.look() == []


def test_a_study_and_its_trials_are_found_by_filter(project: Project) -> None:
    with opened(project.filtered(f"tags.study = '{STUDY}'"), **WIDE) as watched:
        page = watched.page
        page.get_by_text("1 matching run", exact=True).wait_for()
        page.get_by_role("link", name=STUDY, exact=True).click()
        page.get_by_role("heading", name=STUDY, exact=True).wait_for()
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("plan.csv", exact=True).wait_for()
        page.get_by_text("report", exact=True).click()
        page.get_by_text("tables", exact=True).wait_for()
        page.get_by_text("figures", exact=True).click()
        page.get_by_text("figure7.svg", exact=True).wait_for()
        assert watched.look() == []
    with opened(f"{project.server}/{notes.link(project.experiment, STUDY)}", **WIDE) as watched:
        page = watched.page
        page.get_by_text(f"{len(project.trials) + 1} matching runs", exact=True).wait_for()
        page.get_by_role("row").filter(has_text=STUDY).locator(
            "button"
        ).first.click()  # the plus before the study's name
        for alpha, beta in POINTS:
            for seed in SEEDS:
                page.get_by_role("link", name=f"a3m alpha={alpha} beta={beta} seed={seed}").wait_for()
        assert watched.faults == []


def test_runs_are_compared_by_what_varies(project: Project) -> None:
    listed, within = (quote(json.dumps(names)) for names in (list(project.trials["run_id"]), [project.experiment]))
    address = f"{project.server}/#/compare-runs?runs={listed}&experiments={within}"
    with opened(address, **WIDE) as watched:
        page = watched.page
        page.get_by_role("heading", name=f"Comparing {len(project.trials)} Runs").wait_for()
        axes = page.locator(".parcoords .axis-title")
        axes.first.wait_for()
        *settings, _metric = axes.all_text_contents()
        assert set(settings) == {"loss.alpha", "loss.beta", "seed"}, "what varies, and nothing that all share"
        page.get_by_role("tab", name="Contour Plot").click()
        for axis, name in (("x", "loss.alpha"), ("y", "loss.beta"), ("z", "train/loss")):
            page.locator(f"#{axis}axis-selector").click()
            page.get_by_role("option", name=name, exact=True).click()
        page.locator(".contourlayer path").first.wait_for(state="attached")
        assert page.locator(".xtitle, .ytitle").all_text_contents() == ["loss.alpha", "loss.beta"]
        assert watched.faults == []


# --- what is noticed ------------------------------------------------------------------------------------------------------

FAULTS = {
    "<table><tr><th>method</th><th>rank-1</th></tr><tr><td> </td></tr></table>": "empty table: method",
    "<table><thead><tr><th>none</th></tr></thead><tbody></tbody></table>": "empty table: none",
    '<img alt="a picture" src="nowhere.png">': "broken image: a picture",
    '<img alt="cut" src="data:image/png;base64,iVBORw0KGgo=">': "broken image: cut",
    '<svg width="9" height="9"><image href="data:image/png;base64,iVBORw0KGgo="/></svg>': "broken image in a drawing",
    '<svg style="width: 0"><path d="M0 0L1 1"/></svg>': "drawing without size",
    '<svg width="9" height="9"></svg>': "drawing without size or content",
    "<script>console.error('it failed')</script>": "console: it failed",
    "<script>throw new Error('uncaught')</script>": "exception: uncaught",
    "<script>fetch('http://127.0.0.1:1/').catch(() => 0)</script>": "console: Failed to load resource",
    '<script src="http://an.invalid/x.js"></script>': "asked for elsewhere: http://an.invalid/x.js",
    '<p style="width: 500px">wide</p>': "scrolls sideways",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_with_a_fault_is_noticed(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "index.html"
    path.write_text(f'<!doctype html><meta name="viewport" content="width=device-width"><title>made up</title>{fault}')
    with opened(path.as_uri(), **PHONE) as watched:
        watched.page.wait_for_timeout(200)
        assert [words for words in watched.look() if FAULTS[fault] in words]


def test_a_page_without_fault_is_not_complained_of(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><title>made up</title>'
        "<table><tr><th>method</th><td>1.0</td></tr></table><svg width=9 height=9><path d='M0 0L9 9'/></svg>"
        "<script>console.log('said')</script>"
    )
    with opened(path.as_uri(), **PHONE) as watched:
        assert watched.look() == []
