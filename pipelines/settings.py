"""Stage `settings`: compose params.yaml and write what each data set and each study reads to a file of its own.

DVC sees the literal params.yaml only; every later stage depends on its file here, so that a change reruns what it touches.
"""

from pathlib import Path
from typing import Any

import yaml

from a3m import config
from a3m.errors import SettingsError
from a3m.identity import file_digest
from a3m.relevance import for_dataset, for_study
from a3m.settings import Params
from a3m.state import write_atomically
from a3m.weights_source import weights_file


@config.main()
def main(params: Params, root: Path) -> None:
    wanted = contents(params, root)
    for dataset in params.datasets.values():
        # Stages depend on the twin's folder also where nothing is drawn, as for own data.
        (root / "data" / "twins" / dataset["images"]).mkdir(parents=True, exist_ok=True)
    folder = root / "settings"
    for old in folder.rglob("*.yaml"):
        if old.relative_to(folder).as_posix() not in wanted:
            old.unlink()
    for name, content in wanted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, yaml.safe_dump(content, sort_keys=True).encode())
    print(f"settings: {', '.join(sorted(wanted))} (profile {params.profile})")


def contents(params: Params, root: Path) -> dict[str, dict[str, Any]]:
    """File below settings/ -> what is written to it: dataset/<data set>.yaml and study/<study>.yaml, which may share a name."""
    composed = {name: config.load([f"dataset={name}"], root=root) for name in {*params.datasets, *params.twins}}
    for name, chosen in composed.items():
        check_dataset(name, chosen, params, composed)
    for figure, needs in params.figures.items():
        if needs.get("study") not in params.studies:
            raise SettingsError(
                f"params.yaml: figures: {figure} shows study {needs.get('study')}, which studies does not name"
            )
    wanted = {f"dataset/{name}.yaml": for_dataset(chosen) for name, chosen in composed.items()}
    for study in params.studies:
        chosen = config.load_study(study, root=root)
        content = for_study(chosen, study, config.methods())
        weights = weights_file(chosen.backbone.weights, root)
        if weights is not None and weights.is_file():
            content["backbone"]["digest"] = file_digest(weights)
        wanted[f"study/{study}.yaml"] = content
    return wanted


def check_dataset(name: str, chosen: Params, params: Params, composed: dict[str, Params]) -> None:
    """What DVC reads in params.yaml and what Hydra composes must be one truth; data sets of one twin draw it alike."""
    said = params.datasets.get(name, {})
    known = {"reader": chosen.dataset.reader, "images": chosen.dataset.images}
    if said and dict(said) != known:
        raise SettingsError(f"params.yaml: datasets.{name} is {dict(said)}, a3m/conf/dataset/{name}.yaml says {known}")
    layout = composed.get(chosen.dataset.images)
    if chosen.data.source == "twins" and (layout is None or layout.twin != chosen.twin):
        raise SettingsError(
            f"data set {name} uses the twin {chosen.dataset.images}, which "
            + ("params.yaml: twins does not name" if layout is None else "is drawn with other settings of `twin`")
        )


if __name__ == "__main__":
    main()
