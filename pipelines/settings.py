"""Stage `settings`: compose params.yaml and write what each data set and each study reads to a file of its own.

DVC sees the literal params.yaml only; every later stage depends on its file here, so that a change reruns what it touches.
"""

from pathlib import Path

import yaml

from a3m import config
from a3m.identity import file_digest
from a3m.settings import Params, for_dataset, for_study
from a3m.state import write_atomically


@config.main()
def main(params: Params, root: Path) -> None:
    folder = root / "settings"
    folder.mkdir(exist_ok=True)
    wanted = {f"{name}.yaml": for_dataset(config.load([f"dataset={name}"], root=root)) for name in params.datasets}
    for study in params.studies:
        chosen = config.load_study(study, root=root)
        wanted[f"{study}.yaml"] = for_study(chosen, study, config.methods())
        weights = root / chosen.backbone.weights
        if weights.is_file():
            wanted[f"{study}.yaml"]["backbone"]["digest"] = file_digest(weights)
    for old in folder.glob("*.yaml"):
        if old.name not in wanted:
            old.unlink()
    for name, content in wanted.items():
        write_atomically(folder / name, yaml.safe_dump(content, sort_keys=True).encode())
    print(f"settings: {', '.join(sorted(wanted))} (profile {params.profile})")


if __name__ == "__main__":
    main()
