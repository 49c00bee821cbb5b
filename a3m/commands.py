"""What the verbs of the console command do."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from a3m import config
from a3m.errors import SettingsError, UserError
from a3m.settings import Params

CHECK = """usage: a3m check <file.csv>

Checks a data set of your own: one CSV and the images that it names, at or below its folder. Opens every image.
Says what it understood, and every problem at once with the line of the file. Exit code 0: fine; 1: there are problems.

  columns   image     path relative to the folder of the CSV
            label     the class (classification, retrieval), or
            identity  the person or object (re-identification); text or whole numbers, 0 = a distractor in the gallery
            split     train, test; with identity: train, query, gallery
            camera    optional, a whole number (re-identification)
            x y w h   optional, the object's box in pixels of the image file
            others    attributes: text or whole numbers, an empty cell = unlabelled

The guide: docs/own-data.md
"""


@config.main()
def train(params: Params, root: Path) -> None:
    """usage: a3m train [setting=value ...]

    Train one trial in this process, without Ray, and print its metrics. Same code, same key, same run as in a sweep; one that has
    finished is not trained again. plan=true says what it would do.

      a3m train dataset=market1501 method=a3m seed=0
      a3m train dataset=cub200 method=baseline1 train.on=train      (measured on the validation part)
    """
    from a3m import work

    outcome = work.train_one(params, root)
    if outcome["outcome"] in ("failed", "lost"):
        again = "retry_failed=true trains it again" if outcome["outcome"] == "failed" else "give the command again"
        raise UserError(f"the trial failed: {outcome['reason']} ({again})")
    for name, value in sorted(outcome.items()):
        if name.startswith(("test/", "val/")) and name.count("/") == 1:
            print(f"  {name:32s} {value:.4f}")
    if outcome["outcome"] == "undelivered":
        raise UserError(
            f"the trial is trained and kept on disk, not yet in MLflow: {outcome['reason']} (the same command delivers it)"
        )


def check() -> None:
    """Check a user's own data set; exit code 0 when fine, 1 with problems."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(CHECK, end="")
        return
    from a3m import check as checking
    from a3m.console import counted

    with config.user_errors():
        if len(arguments) != 1:
            raise SettingsError("a3m check: expected one CSV file, for example data/raw/manifest/manifest.csv")
        with counted("opening images") as progress:
            checked = checking.check(Path(arguments[0]), progress)
        print("\n".join(checking.report(checked)))
        sys.exit(1 if checked.problems else 0)


TABLE = """usage: a3m table <study>

Prints the table of results/<study>.csv, of any study that a sweep has run, and writes it to reports/own/<study>.csv, .md and .tex.
Rows are compared with Baseline-2, else with Baseline-1, else with the study's first method.

  a3m table ablation
"""


def table() -> None:
    """Make the table of one study."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(TABLE, end="")
        return
    with config.user_errors():
        if len(arguments) != 1:
            raise SettingsError("a3m table: expected the name of one study, for example ablation")
        from a3m.report import own

        made, files = own.write(config.running_root(), arguments[0])
        print(made.markdown())
        print(", ".join(str(path) for path in files))


def ui() -> None:
    """Serve the MLflow UI of this project on loopback; `port=5001` chooses another port."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print("usage: a3m ui [port=5000]\n\nServes the MLflow UI of this project's store on loopback until Ctrl-C.")
        return
    from a3m.record import address

    with config.user_errors():
        port = 5000
        for argument in sys.argv[1:]:
            name, _, value = argument.partition("=")
            if name != "port" or not value.isdigit() or not 0 < int(value) < 65536:
                raise SettingsError(f"a3m ui {argument}: expected port=<number> from 1 to 65535")
            port = int(value)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise UserError(
                    f"port {port} is taken ({error.strerror}): choose another one, for example port={port + 1}"
                ) from error
        root = config.running_root()
        uri = address.full_uri(config.load(root=root).store.uri, root)
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            raise UserError(f"{uri.removeprefix('sqlite:///')}: no store yet: `make repro` or `a3m train` makes one")
        # Without the parameter MLflow's page opens on traces of language models instead of runs.
        print(
            f"MLflow UI of {uri} (Ctrl-C ends it):\n  http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning",
            flush=True,
        )
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
        command += ["--host", "127.0.0.1"]  # also where MLFLOW_HOST says otherwise: the UI knows no passwords
        try:
            # Without its job runner, which serves language-model features: two processes instead of ten.
            environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            sys.exit(subprocess.run(command, check=False, env=environment).returncode)
        except KeyboardInterrupt:
            sys.exit(0)


@config.main()
def plan(params: Params, root: Path) -> None:
    """usage: a3m plan [setting=value ...]

    What every study of params.yaml would train: trials, images to be seen, and hours at a measured or stated rate.
    """
    from a3m import study

    study.plan_all(params, root, sys.argv[1:])


@config.main()
def clean(params: Params, root: Path) -> None:
    """usage: a3m clean [plan=true]

    Remove what no trial needs any more: the caches; checkpoints, outputs and spools of trials that MLflow has as finished; what
    interrupted packing and, when no sweep runs, killed drivers left.

    What could not be delivered to MLflow yet is delivered first, and stays where that fails.
    """
    from a3m import work
    from a3m.plan import store_exists
    from a3m.record import runs
    from a3m.state import holder

    state = (root / params.store.state).resolve()
    finished: set[str] = set()
    pending = work.pending(state)
    if pending and params.plan:
        print(f"would deliver {len(pending)} trials to MLflow first")
    if store_exists(params, root) or (pending and not params.plan):
        store = runs.open_store(params.store.uri, root, params.store.patience)
        for key, dataset in pending.items() if not params.plan else ():
            reason = work.deliver_from_disk(store, store.experiment(dataset, root), state, key)
            print(f"{key}: trained before, {f'not delivered to MLflow: {reason}' if reason else 'delivered to MLflow'}")
        finished = {
            key
            for name in {*config.options("dataset"), *pending.values()}
            for key, found in store.find(store.experiment(name, root, create=False)).items()
            if found.status == runs.FINISHED
        }
    kept = 0
    doomed = [state / "cache", root / ".a3m" / "cache"]  # of trials, and what explain, compare and export fetched
    if not any(holder(path) for path in state.glob("leases/*.json")):
        doomed.append(state / "nodes")  # notes of drivers, which a running sweep needs
    for folder in (*state.glob("checkpoints/*"), *state.glob("outputs/*")):
        if folder.name in finished:
            doomed.append(folder)
        else:
            kept += 1
    doomed += [path for path in state.glob("spool/*") if path.name.partition(".")[0] in finished]
    doomed += root.glob("data/prepared/*/.pack.partial")  # of packing that was interrupted
    for path in doomed:
        if path.exists():
            print(f"{'would remove' if params.plan else 'removing'} {path}")
            if not params.plan:
                path.unlink() if path.is_file() else shutil.rmtree(path)
    print(f"kept {kept} folders of trials that are not finished")
