"""Write the list of torchvision's and timm's models that a plan reads: `make model-names`."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "harness" / "experiment" / "published_models.json"


def torchvision_models() -> dict[str, Any]:
    """Return torchvision's classification models, each with the names of its weights."""
    import torchvision
    from torchvision import models

    names = models.list_models(module=models)
    weights = {name: list(models.get_model_weights(name).__members__) for name in names}
    return {"version": torchvision.__version__.partition("+")[0], "models": weights}


def timm_models() -> dict[str, Any]:
    """Return timm's models, without the tags of weights."""
    import timm

    return {"version": timm.__version__, "models": timm.list_models()}


if __name__ == "__main__":
    found = {"torchvision": torchvision_models(), "timm": timm_models()}
    FILE.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
