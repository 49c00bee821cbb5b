"""MATLAB 5 files whose bytes depend on nothing but their content."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io


def write_mat(path: Path, content: dict[str, Any], about: str) -> None:
    """Write a MATLAB 5 file. Equal content gives equal bytes, which scipy alone does not do."""
    file = io.BytesIO()
    scipy.io.savemat(file, content, format="5")
    # scipy writes the time into the first 116 bytes, which hold free text: equal settings shall give equal bytes.
    path.write_bytes(f"MATLAB 5.0 MAT-file, {about}".encode().ljust(116) + file.getvalue()[116:])


def cells(values: Sequence[Any], *, column: bool = False) -> np.ndarray:
    """A cell array of one row, or of one column; None is an empty cell."""
    row = np.empty((1, len(values)), dtype=object)
    row[0, :] = [np.zeros((0, 0)) if value is None else value for value in values]
    return row.T if column else row
