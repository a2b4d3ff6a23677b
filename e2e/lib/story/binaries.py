"""Where the statically linked programs lie that go into images, and the models that go with them.

Does not build; e2e/images/build does.
"""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TRIPLE = "x86_64-unknown-linux-gnu"
OPERATOR_IMAGE = "espalier.test/espalier:dev"
COMPARER_IMAGE = "espalier.test/comparer:dev"
MODEL_SERVER_IMAGE = "espalier.test/model-server:dev"
MODELS = ROOT / "e2e" / "models"


def target_folder() -> Path:
    """Cargo's build folder for static release programs."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / TRIPLE / "release"


def program(name: str) -> Path:
    """A static program by the name of its package. ESPALIER_OPERATOR_BINARY names another operator, such as a debug build."""
    if name == "espalier" and os.environ.get("ESPALIER_OPERATOR_BINARY"):
        return Path(os.environ["ESPALIER_OPERATOR_BINARY"])
    return target_folder() / name


def model_uri(name: str) -> str:
    """The address of a model, with the digest that models.json has measured."""
    listed = json.loads((MODELS / "models.json").read_text(encoding="utf-8"))["models"]
    digest = next(model["digest"] for model in listed if model["name"] == name)
    return f"oci://models.espalier.test/digits/{name}@{digest}"
