"""A finished trial that answers: an image in; class, attributes and embedding out. And as a model that MLflow loads."""
