"""Fixtures that several test files use: where the real annotation files and images are, if they are here."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("A3M_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_annotations() -> Path:
    if not (SHARED / "annotations").is_dir():
        pytest.skip(
            f"the real annotation files are not here ({SHARED / 'annotations'}; set A3M_SHARED to their parent)"
        )
    return SHARED / "annotations"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"the real images are not here ({SHARED / 'data'}; set A3M_SHARED to their parent)")
    return SHARED / "data"
