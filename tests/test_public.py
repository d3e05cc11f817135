"""The public surface: every name is there, says what it is, costs nothing before it is used, and means one thing."""

import ast
import inspect
import itertools
import json
import pydoc
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import vp_core as vp

FOLDER = Path(vp.__file__).parent
IN_THE_WAY = ("torch", "transformers", "numpy", "pandas", "vp_core.study")


def test_importing_costs_nothing_and_a_name_only_what_it_needs():
    code = f"""
import json, sys
import vp_core as vp
first = sorted(name for name in sys.modules if name.startswith("vp_core"))
recipe, listed = vp.RECIPES["best"], set(vp.__all__) <= set(dir(vp))
print(json.dumps([first, listed, recipe.criterion, [name for name in {IN_THE_WAY} if name in sys.modules]]))
"""
    command = [sys.executable, "-c", code]
    fresh = subprocess.run(command, check=False, cwd=FOLDER.parent, capture_output=True, text=True, timeout=120)
    assert json.loads(fresh.stdout) == [["vp_core"], True, "surgeon", []], fresh.stderr


@pytest.mark.parametrize("name", vp.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    found = getattr(vp, name)
    assert getattr(vp, name) is found and name in dir(vp)
    if callable(found):
        assert found.__name__ == name and found.__module__.startswith("vp_core.")
        described = inspect.getdoc(found) or ""
    else:
        described = described_values()[name]
    assert described.strip()[-1] in ".`:" and not described.startswith(f"{name}(")  # which dataclasses write by themselves


def described_values():
    """What stands under the values of modules that have public ones: name → text."""
    texts = {}
    for module in ("ground.names", "recipes"):
        body = ast.parse((FOLDER / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")).body
        for assigned, after in itertools.pairwise(body):
            if isinstance(assigned, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                target = assigned.targets[0] if isinstance(assigned, ast.Assign) else assigned.target
                texts[ast.unparse(target)] = ast.literal_eval(after.value)
    return texts


def test_a_name_means_one_thing():
    assert len(vp.__all__) == len(set(vp.__all__))
    modules = {path.stem for path in FOLDER.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert not modules & set(vp.__all__), "importing the module of that name would hide the public name"


def test_what_is_not_there_is_said_as_usual():
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        vp.prun  # noqa: B018
    assert import_module("vp_core.replacing.prune").prune is vp.prune


def test_the_first_screen_teaches_the_way_through():
    page = pydoc.plain(pydoc.render_doc(vp))  # what `python -m pydoc vp_core` shows
    screen = "\n".join(page.splitlines()[:40])
    places = [screen.find(f"    {room} ") for room in ("model", "asking", "measuring", "ranking", "replacing", "squeezing")]
    assert places == sorted(places) and -1 not in places
    assert 'vp.open_study("demo")' in screen and "class Study" in page and "prune(" in page
