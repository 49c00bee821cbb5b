"""Where a number comes from: for each number of ours a list of its runs, for each difference its pairs of seeds.

They are popovers, which a browser opens and closes by itself: mouse, Enter, Escape and a screen reader work without a script.
Numbers that come from the same trials share one list.
"""

from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd

from a3m.report import names as n
from a3m.report.describe import MINUS, dataset_name
from a3m.report.rows import SATURATED_PARTS, constant, settings_of
from a3m.report.studies import measured_task
from a3m.report.table import DASH, Pair, Table

COMMON = {  # what a list says once when all of its runs have it in common, else in a column
    "host": "host",
    "device": "device",
    "commit": "commit",
}
KEYS_SHOWN = 12  # digits of a digest or commit in print; the whole one is its title


class Dialogs:
    """The lists of a page, in the order in which its numbers first ask for them."""

    def __init__(self, studies: Mapping[str, pd.DataFrame], runs: Mapping[str, pd.DataFrame], links: Mapping[str, str]):
        """studies: checked results. runs: results/<study>.runs.csv as text. links: run id -> its address in MLflow."""
        self.links = links
        self.trials: dict[str, tuple[pd.DataFrame, int]] = {}  # key -> its study's frame and its place there
        for results in studies.values():
            for place, key in enumerate(results["key"]):
                self.trials.setdefault(str(key), (results, place))
        self.runs: dict[str, dict[str, str]] = {}
        for listed in runs.values():
            if "key" in listed:
                for run in listed.to_dict("records"):
                    self.runs.setdefault(str(run["key"]), {str(name): str(cell) for name, cell in run.items()})
        self._of_trials: dict[tuple[str, ...], str] = {}
        self._of_pairs: dict[Pair, str] = {}
        self._written = 0
        self._html: list[str] = []

    def behind(self, table: Table, row: int, column: str) -> str:
        """The id of the list behind a number of ours; '' for one that comes from no trial."""
        if (row, column) in table.trials:
            return self._list(table.trials[row, column], table.names)
        if (row, column) in table.pairs:
            return self._pair(table.pairs[row, column], table.names)
        pairs = {name: pair for (i, name), pair in table.pairs.items() if i == row} if table.pairs else {}
        of_name = next((pair for name, pair in pairs.items() if column.startswith(f"{name},")), None)
        if of_name is None and pairs and column.endswith((" p", " ranking")):
            of_name = next(iter(pairs.values()))
        if of_name is not None:
            return self._pair(of_name, table.names)
        keys = next((keys for (i, _), keys in table.trials.items() if i == row), ())
        return self._list(keys, table.names)

    def written(self) -> str:
        """The lists that were asked for since the last call, as HTML."""
        new, self._html = self._html, []
        return "\n".join(new)

    def run(self, key: str) -> str:
        """A run's link, where it is in the store that links were made of; else the trial's key, which every store knows."""
        run = self.runs.get(key, {})
        address = self.links.get(run.get("run_id", ""), "")
        text = f"<code>{escape(key)}</code>"
        return f'<a href="{escape(address)}">{text}</a>' if address else text

    def _list(self, keys: tuple[str, ...], names: Mapping[tuple[str, ...], str]) -> str:
        known = tuple(key for key in keys if key in self.trials)
        if not known:
            return ""
        if known not in self._of_trials:
            self._of_trials[known] = name = self._name()
            self._html.append(self._list_html(name, known, names.get(keys, "")))
        return self._of_trials[known]

    def _pair(self, pair: Pair, names: Mapping[tuple[str, ...], str]) -> str:
        if pair not in self._of_pairs:
            self._of_pairs[pair] = name = self._name()
            sides = [
                (label, self._list(keys, names))
                for label, keys in zip((pair.ours, pair.reference), pair.keys, strict=True)
            ]
            self._html.append(_pair_html(name, pair, sides, self._source(pair.keys[0])))
        return self._of_pairs[pair]

    def _name(self) -> str:
        self._written += 1
        return f"from-{self._written}"

    def _source(self, keys: Iterable[str]) -> str:
        key = next((key for key in keys if key in self.trials), "")
        if not key:
            return ""
        results, _ = self.trials[key]
        return measured_on(str(results["source"].iloc[0]), dataset_name(results))

    def _list_html(self, name: str, keys: tuple[str, ...], label: str) -> str:
        trials = [self.trials[key][0].iloc[self.trials[key][1]] for key in keys]
        results = self.trials[keys[0]][0]
        metrics, compared = measured_task(results)
        shown = {metric: metrics[metric] for metric in compared if metric in results}
        runs = [self.runs.get(key, {}) for key in keys]
        columns = {what: [run.get(what, "") for run in runs] for what in COMMON}
        apart = [what for what, cells in columns.items() if len(set(cells)) > 1]
        marks = [_saturated(trial) for trial in trials]
        heads = [
            "run",
            "seed",
            *shown.values(),
            *(["attention"] if any(marks) else []),
            "began",
            "took",
            "images/s",
            *apart,
        ]
        body = []
        for i, (key, trial, run) in enumerate(zip(keys, trials, runs, strict=True)):
            cells = [self.run(key), str(trial["seed"])]
            if trial["status"] == "finished":
                cells += [f"{100 * trial[metric]:.2f}" if trial[metric] == trial[metric] else DASH for metric in shown]
            else:
                cells += [escape(str(trial["status"]))] * len(shown)
            cells += [marks[i]] if any(marks) else []
            cells += [escape(run.get("started", "")[:16].replace("T", " ")), took(run.get("seconds", ""))]
            cells += [speed(run.get("images_per_second", ""))]
            cells += [digest(columns[what][i]) for what in apart]
            body.append(
                f"<tr><th scope=row>{cells[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in cells[1:]) + "</tr>"
            )
        said = [
            *_settings(trials[0], results),
            *(f"{what} {digest(cells[0])}" for what, cells in columns.items() if what not in apart and cells[0]),
        ]
        title = f"{len(keys)} run{'s' * (len(keys) != 1)} of {label or n.METHODS[str(trials[0]['method'])]}"
        return _dialog(
            name,
            title,
            f"<p><strong>{escape(self._source(keys))}</strong></p><p>{'; '.join(said)}.</p>"
            f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(title)}"><table><thead><tr>'
            + "".join(f"<th scope=col>{escape(head)}</th>" for head in heads)
            + "</tr></thead><tbody>"
            + "".join(body)
            + "</tbody></table></div>",
        )


def measured_on(source: str, dataset: str) -> str:
    """'Measured on a synthetic twin of CompCars, not on the real data set.'"""
    return {
        "twins": f"Measured on a synthetic twin of {dataset}, not on the real data set.",
        "raw subset": f"Measured on a part of the real {dataset}, or not on its published split.",
        "raw": f"Measured on the real data set {dataset}.",
    }[source]


def took(seconds: str) -> str:
    """'2 min 3 s' of a number of seconds as text; '' of anything else."""
    try:
        whole = round(float(seconds))
    except ValueError:
        return ""
    return duration(whole)


def speed(images: str) -> str:
    """'248' of '248.4' images a second, '7.3' of few; '' of anything but a number."""
    try:
        value = float(images)
    except ValueError:
        return ""
    return "" if value != value else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def digest(text: str) -> str:
    """A digest or commit, cut in print; the whole one is its title."""
    plain = text.removesuffix("-dirty")
    if len(plain) <= 2 * KEYS_SHOWN or not plain.isalnum():
        return escape(text)
    rest = text[len(plain) :]
    return f'<code title="{escape(text)}">{escape(plain[:KEYS_SHOWN])}…{escape(rest)}</code>'


def _dialog(name: str, title: str, content: str) -> str:
    return (
        f'<div popover id="{name}" role="dialog" aria-labelledby="{name}-title">'
        f'<button class="close" popovertarget="{name}" popovertargetaction="hide">Close</button>'
        f'<h4 id="{name}-title">{escape(title)}</h4>{content}</div>'
    )


def _pair_html(name: str, pair: Pair, sides: list[tuple[str, str]], source: str) -> str:
    rows = "".join(
        f"<tr><th scope=row>{seed}</th><td>{100 * ours:.2f}</td><td>{100 * reference:.2f}</td>"
        f"<td>{_signed(ours - reference)}</td></tr>"
        for seed, ours, reference in pair.values
    )
    words = "".join(f"<li>{escape(remark)}</li>" for remark in pair.remarks)
    buttons = " ".join(
        f'<button popovertarget="{target}">runs of {escape(label)}</button>' for label, target in sides if target
    )
    return _dialog(
        name,
        f"{pair.head}: {pair.ours} minus {pair.reference}",
        f"<p><strong>{escape(source)}</strong></p><ul>{words}</ul><p>{buttons}</p>"
        '<div class="scroll"><table><caption>Seed by seed, in percent</caption><thead><tr><th scope=col>seed</th>'
        f"<th scope=col>{escape(pair.ours)}</th><th scope=col>{escape(pair.reference)}</th><th scope=col>Δ</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>",
    )


def _signed(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", MINUS)


def _saturated(trial: pd.Series) -> str:
    parts = [
        f"{part} weights {symbol} saturated (mean {trial[f'test/attention/{part}_mean']:.3f})"
        for part, symbol in SATURATED_PARTS.items()
        if f"test/attention/{part}_mean" in trial
        and constant(
            str(trial["method"]),
            part,
            float(trial[f"test/attention/{part}_mean"]),
            float(trial.get(f"test/attention/{part}_std", float("nan"))),
        )
    ]
    return "; ".join(parts)


def _settings(trial: pd.Series, results: pd.DataFrame) -> list[str]:
    """What the trials of a list have in common: settings, training, data, code."""
    said = [f"{escape(path)} {escape(str(trial[path]))}" for path in settings_of(results) if trial[path]]
    size = f", images {escape(str(trial[n.HEIGHT]))} pixels high" if trial.get(n.HEIGHT) else ""
    said.append(f"trained on {escape(str(trial['train.on']))} for {escape(str(trial['train.epochs']))} epochs{size}")
    said += [f"{what} {digest(str(trial[what]))}" for what in ("data", "code")]
    return [*said, escape(str(trial["versions"]))] if trial["versions"] else said
