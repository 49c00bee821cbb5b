"""Fixtures that several test files use: where the real annotation files and images are, if they are here."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = (
    "1"  # before huggingface_hub is imported: else a test that asks for weights waits for a network
)

SHARED = Path(os.environ.get("A3M_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what reads a data set of full size, which takes seconds to lay out: marks on fixtures do nothing.

    Tests on several hosts take minutes: they run where they are asked for.
    """
    if "hosts" not in config.getoption("-m"):
        left_out = [item for item in items if item.get_closest_marker("hosts")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if {"real_names", "real_files"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


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
