"""Real photographs on a CPU: the CUB-200-2011 classes that are at hand, EfficientNet-Lite0 from ImageNet fine-tuned end to end.

Size: four rows x seeds (profile `finetune`), about 6 minutes a trial and core at 128 pixels for 25 classes. Not part of
`dvc repro`: `make photographs` prepares data/raw/cub200 (data.allow_subset), packs it and runs this.
Expect: nothing of the benchmark: a part of the classes. Seeds differ by 2-3 points, so three of them cannot rank methods.
Lands in: results/photographs.csv, then the report; docs/photographs.md says what came out here.

    make photographs
    python sweeps/photographs.py profile=finetune dataset=cub200_photographs seeds=[0,1,2,3,4,5]
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import Point, methods, rows

SPACE = methods("baseline1", "baseline2", "a3m")


def space(params: Params) -> list[Point]:
    return rows(params.photographs, SPACE)


@config.main(study="photographs", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "photographs", space(params))


if __name__ == "__main__":
    main()
