"""Stage `settings`: compose params.yaml and write what each data set and each study reads to a file of its own.

DVC sees the literal params.yaml only; every later stage depends on its file here, so that a change reruns what it touches.
"""

from pathlib import Path

import yaml

from a3m import config
from a3m.settings import Params, for_dataset, for_study
from a3m.state import write_atomically


@config.main()
def main(params: Params, root: Path) -> None:
    folder = root / "settings"
    folder.mkdir(exist_ok=True)
    wanted = {f"{name}.yaml": for_dataset(config.load([f"dataset={name}"], root=root)) for name in params.datasets}
    wanted |= {f"{name}.yaml": for_study(config.load_study(name, root=root), name) for name in params.studies}
    for old in folder.glob("*.yaml"):
        if old.name not in wanted:
            old.unlink()
    for name, content in wanted.items():
        write_atomically(folder / name, yaml.safe_dump(content, sort_keys=True).encode())
    print(f"settings: {', '.join(sorted(wanted))} (profile {params.profile})")


if __name__ == "__main__":
    main()
