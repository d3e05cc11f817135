"""What a visitor takes away. Made when a button is pressed and outside a script run: everything comes in as a value."""

import io
import os
import re
import shlex
import tempfile
import zipfile
from pathlib import Path

from app.web.settings import Settings
from vp_core.squeezing.folder import save_pruned
from vp_core.study import Study


def folder_name(study: Study) -> str:
    """The folder in the zip file, named after the model."""
    return re.sub(r"[^\w.-]+", "-", Path(study.loaded.name).name).strip("-.") + "-squeezed"


def squeezed_zip(study: Study, settings: Settings) -> bytes:
    """A zip file of the folder that `save_pruned` writes, with the model squeezed at the slider's sparsity."""
    recipe, sparsity = settings.recipe, settings.sparsity
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / folder_name(study)
        save_pruned(study.squeezed(recipe, sparsity), folder, study.loaded.reader, study.about(recipe, sparsity))
        content = io.BytesIO()
        # Stored as they are: weights hardly get smaller by packing.
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(base))
    return content.getvalue()


def how_to_load(study: Study, settings: Settings) -> tuple[str, str]:
    """The line of Python, and the command, that open what is in the zip file."""
    folder = folder_name(study)
    options = {"task": settings.task, "data": settings.data, "text": settings.text}
    options |= {"label": settings.label if settings.text else "", "labels": settings.labels}
    options |= {"separator": settings.separator, "max-length": str(settings.max_length or "")}
    options |= {"stride": str(settings.stride or ""), "most-tokens": str(settings.most_tokens or "")}
    options |= {"sentences": str(settings.sentences or ""), "metric": settings.metric}
    if settings.task == "own":  # as the command line that started the app named it
        metric, _, data = os.environ.get("VP_OWN", "").partition(",")
        options |= {"metric": metric, "data": data}
    command = ["vp", "eval", folder]
    for name, value in options.items():
        if value:  # one word where the value would look like an option
            command += [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
    return f'from vp_core.squeezing.folder import load_pruned; model = load_pruned("{folder}")', shlex.join(command)
