"""Where the runs of a report are seen in MLflow: an address for every run that is in the store at hand, none for the others."""

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import pandas as pd

from a3m.errors import UserError
from a3m.plan import store_exists
from a3m.record import runs
from a3m.settings import Params

UI = "http://127.0.0.1:5000"  # where `a3m ui` serves a store that has no web page of its own
AS_TRAINING = "?workflowType=machine_learning"  # without it MLflow's page shows a run among those of language models


def run_links(
    params: Params, root: Path, studies: Mapping[str, pd.DataFrame], listed: Mapping[str, pd.DataFrame]
) -> dict[str, str]:
    """Run id -> address in the MLflow UI, of trials and of the studies' own runs.

    studies: checked results. listed: results/<study>.runs.csv as text. A store that is away is a warning: the report then
    names its runs by their keys.
    """
    if not store_exists(params, root):
        return {}
    links: dict[str, str] = {}
    try:
        store = runs.open_store(params.store.uri, root, params.store.patience)
        base = store.uri.rstrip("/") if urlsplit(store.uri).scheme in ("http", "https") else UI
        there: dict[str, tuple[str, set[str]]] = {}  # data set -> experiment, ids of the runs of its trials
        for study, results in studies.items():
            dataset = str(results["dataset"].iloc[0])
            if dataset not in there:
                experiment = store.experiment(dataset, root, create=False)
                there[dataset] = experiment, {found.run_id for found in store.find(experiment).values()}
            experiment, ids = there[dataset]
            of_study = listed.get(study)
            if of_study is None or "run_id" not in of_study:
                continue
            here = of_study[of_study["run_id"].isin(ids)]
            wanted = {*here["run_id"], *here.get("study_run", ())} - {""}
            runs_of = f"{base}/#/experiments/{quote(experiment)}/runs"
            links |= {run: f"{runs_of}/{quote(run)}{AS_TRAINING}" for run in sorted(wanted)}
    except UserError as error:
        print(f"warning: the report names runs by their keys, without links: {error}", file=sys.stderr)
        return {}
    return links
