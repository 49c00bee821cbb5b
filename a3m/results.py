"""The results of a study as files: a row a trial with its settings, data, code and metrics, and where each row came from."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from a3m.errors import StoreError
from a3m.plan import Planned
from a3m.record import recording, runs
from a3m.settings import Params
from a3m.state import write_atomically
from a3m.work import source_label


def write(params: Params, root: Path, study: str, planned: Sequence[Planned], uri: str, parent: str) -> pd.DataFrame:
    """results/<study>.csv (equal bytes for equal results) and results/<study>.runs.csv (where each came from)."""
    varying = sorted({path for one in planned for path in one.point if path != "method"})
    rows, records = [], []
    for one in planned:
        found = one.found if one.state in ("finished", "older") else None
        settings = recording.flat(one.trial.settings)
        reason = {
            "failed": one.found.failed if one.found else "",
            "interrupted": "interrupted",
            "new": "not trained",
            "undelivered": "trained, not yet delivered to MLflow",
        }
        rows.append(
            {
                "key": one.trial.key,
                "study": study,
                "dataset": params.dataset.name,
                "source": source_label(Path(one.trial.pack).parent),
                "method": settings["method.name"],
                "seed": one.seed,
                **{path: settings.get(path, one.point.get(path)) for path in varying},
                "data.height": params.data.height,
                "train.on": settings["train.on"],
                "train.epochs": settings["train.epochs"],
                "data": one.trial.data,
                "code": found.tags["code"] if found else one.trial.code,
                "versions": ", ".join(
                    f"{name} {found.tags.get(f'version.{name}', 'unknown')}" for name in runs.VERSIONS
                )
                if found
                else "",
                "status": "finished" if found else ("failed" if one.state == "failed" else "missing"),
                "reason": "" if found else reason.get(one.state, one.state),
                **({name: value for name, value in sorted(found.metrics.items()) if _tested(name)} if found else {}),
            }
        )
        if one.found is not None:
            records.append(
                {
                    "key": one.trial.key,
                    "run_id": one.found.run_id,
                    "study_run": parent,
                    "name": one.name,
                    "status": one.found.status,
                    "store": uri.rpartition("@")[2],
                    "host": one.found.tags.get("host", ""),
                    "device": one.found.tags.get("device", settings["train.device"]),
                    "started": pd.Timestamp(one.found.started, unit="s").isoformat(timespec="seconds"),
                    "seconds": round(one.found.ended - one.found.started, 1) if one.found.ended else "",
                    "images_per_second": one.found.tags.get("images_per_second", ""),
                    "commit": one.found.tags.get("mlflow.source.git.commit", ""),
                }
            )
    table = pd.DataFrame(rows).sort_values(["method", *varying, "seed"], kind="stable", na_position="first")
    folder = root / "results"
    try:
        folder.mkdir(exist_ok=True)
        for name, frame in ((f"{study}.csv", table), (f"{study}.runs.csv", pd.DataFrame(records))):
            # Not one temporary name for all: two drivers of a study end at the same time.
            write_atomically(folder / name, frame.to_csv(index=False, lineterminator="\n").encode())
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror})") from error
    return table


def _tested(metric: str) -> bool:
    return metric.startswith(("test/", "val/", "model/"))
