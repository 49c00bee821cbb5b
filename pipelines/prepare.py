"""Stage `prepare`: read a data set, twin or real, in its original layout; check it; cut the validation part; write its records.

Usage: python pipelines/prepare.py dataset=market1501
"""

from pathlib import Path

from a3m import config
from a3m.data.prepare import prepare
from a3m.settings import Params


@config.main()
def main(params: Params, root: Path) -> None:
    name, dataset = params.dataset.name, params.dataset
    source = root / "data" / params.data.source / dataset.images
    records = root / "data" / "prepared" / name / "records"
    description = prepare(name, dataset.reader, dataset.task, source, params.data, records)
    print(f"prepare: {name} ({params.data.source}): {description['counts']}")


if __name__ == "__main__":
    main()
