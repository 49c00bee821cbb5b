"""A finished trial as an MLflow model: loaded in a clean process that may not unpickle, it answers as the trial's own test did."""

import ast
import base64
import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from safetensors.numpy import load_file

from a3m import config, identity, trial
from a3m.data.pack import Pack
from a3m.serve import package
from a3m.serve.answers import rows
from a3m.serve.predictor import Predictor


def trained(folder: Path, method: str = "a3m", task: str = "classification") -> tuple[Path, Pack]:
    """Outputs of one tiny trial with its `model`, and the pack."""
    tiny.write_pack(folder, task=task)
    settings = tiny.params(epochs=1)
    settings.method = dataclasses.replace(config.methods()[method])
    settings.method.images_per_class = min(settings.method.images_per_class, 2)  # a batch here has eight images
    one = tiny.make_trial(folder, settings)
    trial.train(one)
    pack = Pack(Path(one.pack))
    package.write(one.outputs, pack)
    return one.outputs, pack


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pack]:
    return trained(tmp_path_factory.mktemp("model"))


def predictor(outputs: Path) -> Predictor:
    artifacts = outputs / "model" / "artifacts"
    return Predictor(artifacts / "weights.safetensors", artifacts / "description.json")


CLEAN = """
import ast
import base64, json, sys
import mlflow.pyfunc
import pandas as pd

model = mlflow.pyfunc.load_model(sys.argv[1])
images = pd.DataFrame({"image": [base64.b64decode(text) for text in json.load(sys.stdin)]})
answer = model.predict(images)
example = model.predict(model.input_example)
print(json.dumps({
    "answers": answer.to_dict("records"), "example": len(example), "outputs": model.metadata.signature.outputs.input_names(),
    "from": sys.modules["a3m"].__file__,
}))
"""


def clean_process(uri: str, images: list[bytes], folder: Path, **environment: str) -> dict[str, object]:
    """What a process says that has nothing but MLflow and the model; a3m is hidden from it, and pickle forbidden."""
    hidden = folder / "hidden"
    hidden.mkdir(exist_ok=True)
    # The environment holds an editable a3m: a finder that refuses it unless it comes out of the model's own archive.
    (hidden / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import sys
            sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
            sys.path[:] = [entry for entry in sys.path if "main" not in entry.rpartition("/")[2]]
        """)
    )
    ran = subprocess.run(
        [sys.executable, "-c", CLEAN, uri], input=json.dumps([base64.b64encode(image).decode() for image in images]),
        capture_output=True, text=True, cwd=folder, check=False,
        env=os.environ | {"PYTHONPATH": str(hidden), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,  # else model.py leaves its bytecode in the model
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.strip().splitlines()[-1])


def test_a_clean_process_without_pickle_answers_as_the_trial_was_tested(
    outputs: tuple[Path, Pack], tmp_path: Path
) -> None:
    folder, pack = outputs
    predictions = pd.read_parquet(folder / "predictions.parquet")
    embeddings = load_file(folder / "embeddings.safetensors")
    chosen = [0, 5, 11]
    images = [(Path(pack.path).parents[1] / predictions["id"][place]).read_bytes() for place in chosen]
    said = clean_process(str(folder / "model"), images, tmp_path)
    assert str(said["from"]).startswith(str(folder / "model" / "artifacts" / "code.zip"))
    assert said["example"] == 1
    expected = ["class", "class_probability", "attributes", "attribute_probabilities", "embedding"]
    assert said["outputs"] == expected
    for place, answer in zip(chosen, said["answers"], strict=True):
        assert list(answer) == expected
        assert answer["class"] == str(predictions["prediction"][place])
        colours, marks = pack.description["attributes"].values()
        assert answer["attributes"] == {
            "colour": colours[predictions["predicted.colour"][place]], "mark": marks[predictions["predicted.mark"][place]]
        }  # fmt: skip
        final = embeddings["final"][place]
        np.testing.assert_allclose(answer["embedding"], final / np.linalg.norm(final), atol=1e-5)


def test_no_file_of_a_model_is_a_pickle_and_none_is_kept_twice(outputs: tuple[Path, Pack]) -> None:
    folder, _ = outputs
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name.rpartition(".")[2] for name in files} == {
        "safetensors", "json", "parquet", "yaml", "txt", "py", "zip", "model/MLmodel"
    }  # fmt: skip
    assert [name for name in files if "weights" in name] == ["model/artifacts/weights.safetensors"]
    assert "cloudpickle" not in (folder / "model" / "MLmodel").read_text()
    assert str(folder) not in (folder / "model" / "MLmodel").read_text(), "a model says nothing of where it was made"
    digests = json.loads((folder / "digests.json").read_text())
    assert set(digests) == files - {"digests.json"}
    for name, digest in digests.items():
        assert identity.file_digest(folder / name) == digest


def test_packing_again_changes_nothing_also_when_it_was_interrupted(outputs: tuple[Path, Pack]) -> None:
    folder, pack = outputs
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "digests.json").unlink()
    package.write(folder, pack)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (folder / "model" / "artifacts" / "weights.safetensors").rename(folder / "weights.safetensors")
    (folder / "model" / "MLmodel").unlink()
    package.write(folder, pack)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_archive_holds_what_answering_imports_and_no_training(outputs: tuple[Path, Pack]) -> None:
    with zipfile.ZipFile(outputs[0] / "model" / "artifacts" / "code.zip") as archive:
        names = archive.namelist()
    assert "a3m/serve/answers.py" in names
    assert "a3m/model/network.py" in names
    assert not [name for name in names if name.startswith(("a3m/fit", "a3m/record", "a3m/trial", "a3m/evaluate"))]
    assert package.code() == package.code()


@pytest.mark.parametrize(
    ("method", "task"),
    [
        ("baseline1", "classification"), ("a3m_unlabelled", "re-identification"), ("attr_id", "re-identification"),
        ("npair", "retrieval"), ("bilinear", "classification"), ("hdc", "retrieval"), ("bier", "retrieval"),
    ],
)  # fmt: skip
def test_the_signature_is_what_every_method_answers(tmp_path: Path, method: str, task: str) -> None:
    folder, pack = trained(tmp_path, method, task)
    loaded = predictor(folder)
    order = load_file(folder / "embeddings.safetensors")
    images = np.stack([loaded.crop(pack.image(row)) for row in order["rows"]])
    answers = loaded(images)
    final = order["final"]
    np.testing.assert_allclose(answers.embedding, final / np.linalg.norm(final, axis=1, keepdims=True), atol=1e-5)
    signature = yaml.safe_load((folder / "model" / "MLmodel").read_text())["signature"]
    named = [column["name"] for column in json.loads(signature["outputs"])]
    assert named == list(rows(loaded, answers)[0])
    assert ("attributes" in named) == (method == "attr_id")


def test_maps_are_those_that_the_network_merges(outputs: tuple[Path, Pack]) -> None:
    folder, pack = outputs
    loaded = predictor(folder)
    kept = load_file(folder / "attention.safetensors")
    answers = loaded(np.stack([loaded.crop(pack.image(row)) for row in kept["rows"]]))
    assert answers.maps is not None
    np.testing.assert_allclose(answers.scores, kept["scores"], atol=1e-4)
    np.testing.assert_allclose(answers.maps.max(axis=1), kept["weights"], atol=1e-5)
    np.testing.assert_array_equal(answers.maps.max(axis=1), answers.merged)


def test_attributes_keep_the_order_of_the_network(tmp_path: Path) -> None:
    tiny.write_pack(tmp_path)
    one = tiny.make_trial(tmp_path, tiny.params(epochs=1))
    trial.train(one)
    pack = Pack(Path(one.pack))
    pack.description["attributes"] = {"zebra": ["r", "g", "b"], "apple": ["no", "yes"]}
    package.write(one.outputs, pack)
    assert list(predictor(one.outputs).attributes) == ["zebra", "apple"]


def test_what_a_model_requires_is_what_its_code_imports() -> None:
    modules = identity.code_modules(package.ANSWERS).values()
    imported = {name.partition(".")[0] for path in modules for name in _imported(path)} - set(sys.stdlib_module_names)
    named = {name.lower().replace("-", "_") for name in package.REQUIRED} | {"PIL"}
    assert imported - {"a3m"} <= named


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found
