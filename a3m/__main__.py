"""The console command `a3m`: few, plain verbs. Its settings use Hydra's grammar, as the sweeps do."""

import sys

HELP = """usage: a3m <verb> [setting=value ...]

  train   train one trial in this process, without Ray: same code, same key, same run as in a sweep
            a3m train dataset=market1501 method=a3m seed=0
            a3m train dataset=cub200 method=baseline1 train.on=train      (measured on the validation part)
            a3m train --cfg job                                                (every setting and its value)
  check   check a data set of your own: one CSV and its images         a3m check data/raw/manifest/manifest.csv
  plan    trials, images and hours of all studies; a trial that several share counts once     a3m plan profile=paper
  table   the table of any study that has run, also of your own        a3m table ablation
  explain what a run sees in an image: maps, attributes, the nearest images    a3m explain IMAGE --run ID
  compare two runs: settings, metrics with intervals, queries that only one gets right     a3m compare RUN RUN
  export  embeddings and labels, the network as ONNX and torch.export          a3m export RUN
  ui      open the MLflow UI on this project's store                           a3m ui [port=5000]
  clean   remove checkpoints and caches of finished trials                     a3m clean [plan=true]

a3m <verb> --help says more. Sweeps are files: python sweeps/ablation.py --help. The whole pipeline is `dvc repro`.
"""


def main() -> None:
    """Dispatch to a verb; heavy libraries are imported by the verb that needs them."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    from a3m import commands
    from a3m.explore import verbs as exploring

    verbs = {
        "train": commands.train,
        "plan": commands.plan,
        "ui": commands.ui,
        "clean": commands.clean,
        "check": commands.check,
        "table": commands.table,
        "explain": exploring.explain,
        "compare": exploring.compare,
        "export": exploring.export,
    }
    if verb not in verbs:
        print(f"error: a3m {verb}: no such verb; expected one of {', '.join(verbs)} (a3m --help)", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    verbs[verb]()


if __name__ == "__main__":
    main()
