"""Folders of tiny models to break, and the sentence that comes of it."""

import json

import pytest
from safetensors.torch import load_file, save_file

from vp_core.ground.errors import VPError
from vp_core.loading.load import load_model


def refused(name, message):
    """The sentence with which a model is refused, which matches `message`."""
    with pytest.raises(VPError, match=message) as caught:
        load_model(str(name))
    text = str(caught.value)
    assert "\n" not in text and "\x1b" not in text and "Traceback" not in text and text.endswith(".")
    return text


def configure(folder, file="config.json", **settings):
    """Change settings in a JSON file of the folder; None takes one out."""
    found = json.loads((folder / file).read_text()) | settings
    (folder / file).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return folder


def reweigh(folder, change, file="model.safetensors"):
    """Change the weights, a dict of tensors by name, in place or to what `change` returns."""
    weights = {key: value.clone() for key, value in load_file(folder / file).items()}
    save_file(change(weights) or weights, folder / file, metadata={"format": "pt"})
    return folder
