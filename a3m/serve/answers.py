"""What a predictor says, in words: the names behind its numbers."""

from typing import Any

import numpy as np

from a3m.serve.predictor import Answers, Predictor


def rows(predictor: Predictor, answers: Answers) -> list[dict[str, Any]]:
    """A dict an image: class and class_probability, attributes and attribute_probabilities by name, embedding.

    What the method has not, such as classes where only embeddings are compared, is left out.
    """
    return [_row(predictor, answers, number) for number in range(len(answers.embedding))]


def _row(predictor: Predictor, answers: Answers, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if answers.classes is not None:
        best = int(np.argmax(answers.classes[number]))
        row |= {"class": predictor.classes[best], "class_probability": float(answers.classes[number, best])}
    if answers.attributes:
        likely = [probabilities[number] for probabilities in answers.attributes]
        named = list(zip(predictor.attributes.items(), likely, strict=True))
        row["attributes"] = {name: values[int(np.argmax(p))] for (name, values), p in named}
        row["attribute_probabilities"] = {name: float(p.max()) for (name, _), p in named}
    row["embedding"] = [float(value) for value in answers.embedding[number]]
    return row
