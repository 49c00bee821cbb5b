"""What MLflow runs to load a run's model: "model from code", so that nothing is unpickled.

Takes a column `image` of encoded images (PNG, JPEG, ...; over HTTP in base64) and answers a row an image. An image of a data
set that was cut to boxes is to be cut likewise. The code that builds the network comes with the model; a process that has
imported a3m already uses its own.
"""

import sys
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class ImageModel(PythonModel):
    """Image -> class, probability, attributes with their probabilities, embedding."""

    def load_context(self, context: Any) -> None:
        """Build the network from the files of the model."""
        if "a3m" not in sys.modules:
            sys.path.insert(0, context.artifacts["code"])
        from pathlib import Path

        from a3m.serve.predictor import Predictor

        device = (context.model_config or {}).get("device", "cpu")
        self.predictor = Predictor(
            Path(context.artifacts["weights"]), Path(context.artifacts["description"]), str(device)
        )

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row an image of the column `image`."""
        import numpy as np

        from a3m.serve.answers import rows

        images = np.stack([self.predictor.read(bytes(image)) for image in model_input["image"]])
        return pd.DataFrame(rows(self.predictor, self.predictor(images)))


mlflow.models.set_model(ImageModel())
