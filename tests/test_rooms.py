"""The order of the rooms: who may import from whom, how many files a room has, and how long a chain of imports gets.

Imports are read from the source, those inside functions and under TYPE_CHECKING as well.
"""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STATIONS = (
    "ground", "recipes", "model", "asking", "measuring", "ranking", "replacing", "weights", "comparing", "squeezing",
    "demo", "loading", "carry_out", "study", "opening", "curves", "speed", "training", "identity", "gradual", "movement",
    "running", "check",
)  # fmt: skip
"""Rooms and single files of vp_core in the order of the way of the data: each imports from its own and earlier ones only."""
BUILDERS = ("vp_core.demo.making", "vp_core.demo.writing", "vp_core.demo.digits")
"""Build what the package ships, with all there is; nothing else imports from them."""
FORBIDDEN = {
    "vp_core": ("analysis", "app", "notebooks", "plotly", "streamlit", "ipywidgets", "IPython"),
    "analysis": ("app", "notebooks", "streamlit", "ipywidgets"),
    "app.web": ("app.cli", "notebooks", "ipywidgets"),
    "app.cli": ("app.web", "notebooks", "ipywidgets", "streamlit"),  # `vp app` starts Streamlit as a process of its own
    "notebooks": ("app", "streamlit"),
}
"""Room → what nothing in it imports."""
SINGLE = {"pandas": {"vp_core.curves"}}
"""Library → the only modules of vp_core that import it: a curve is a table."""
SIZES = range(3, 11)
LARGER = {"app.web"}
"""Rooms with more files: what the pages have in common is one room."""
LONGEST = {"vp_core": 15, "": 21}
"""Room (or the whole house) → modules on its longest chain of imports, at most; a smaller number is welcome here."""


def name_of(path):
    """The module in a file: vp_core/ground/store.py → vp_core.ground.store."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    """Name → file of every module of the house."""
    folders = ("vp_core", "analysis", "app", "notebooks")
    return {name_of(path): path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


@cache
def imports(name):
    """What a module imports, ours by module, others by the name that stands there."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively: say the whole path"
            whole = {f"{node.module}.{one.name}" for one in node.names}
            found |= {one if one in modules() else node.module for one in whole}
    return frozenset(found)


def within(name, room):
    return name == room or name.startswith(f"{room}.")


def builds(name):
    return any(within(name, room) for room in BUILDERS)


def station(name):
    """The place of a module of vp_core in STATIONS."""
    return STATIONS.index(name.split(".")[1])


def test_every_room_is_a_station():
    rooms = {name.split(".")[1] for name in modules() if name.startswith("vp_core.")}
    assert rooms == set(STATIONS)


def test_no_module_imports_from_a_later_station():
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        if name.startswith("vp_core.") and not builds(name)
        for other in imports(name)
        if within(other, "vp_core") and (other == "vp_core" or builds(other) or station(other) > station(name))
    ]
    assert wrong == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_what_a_room_does_not_know(room):
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        if within(name, room)
        for other in imports(name)
        if any(within(other, one) for one in FORBIDDEN[room])
    ]
    assert wrong == []


def test_libraries_that_one_module_knows():
    for library, allowed in SINGLE.items():
        users = {name for name in modules() if within(name, "vp_core") and any(within(i, library) for i in imports(name))}
        assert users == allowed


def packages():
    """Rooms with files of their own: name → modules in it, without `__init__`."""
    rooms = [name for name, path in modules().items() if path.name == "__init__.py"]
    files = [name for name in modules() if name not in rooms]
    return {room: [name for name in files if name.rpartition(".")[0] == room] for room in rooms if "." in room}


@pytest.mark.parametrize("room", packages())
def test_a_room_has_three_to_ten_files(room):
    assert room in LARGER or len(packages()[room]) in SIZES, packages()[room]


@pytest.mark.parametrize("room", [room for room in packages() if room != "app.web.views"])  # a file a page, no order
def test_a_room_names_its_files_in_the_order_of_reading(room):
    lines = (ast.get_docstring(ast.parse(modules()[room].read_text(encoding="utf-8"))) or "").splitlines()
    files = [name.rpartition(".")[2] for name in packages()[room]]
    listed = [word for line in lines if line and line[0] != " " and (word := line.split()[0]) in files]
    assert sorted(listed) == sorted(files)
    pairs = [(one, two) for i, one in enumerate(listed) for two in listed[i:]]
    assert [f"{one} imports {two}" for one, two in pairs if f"{room}.{two}" in imports(f"{room}.{one}")] == []


def test_the_documents_name_files_that_are_there():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = re.findall(
            r"`((?:vp_core|analysis|app|notebooks|tests|benchmarks|docs)/[\w./]+)`", page.read_text(encoding="utf-8")
        )
        assert [path for path in named if not (ROOT / path).exists()] == [], page.name


def test_the_documents_name_modules_that_are_there():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = re.findall(r"`(?:python -m )?((?:vp_core|analysis|app)\.[\w.]+)", page.read_text(encoding="utf-8"))
        assert [name for name in named if not {name, name.rpartition(".")[0]} & modules().keys()] == [], page.name


def chain(room=""):
    """The longest chain of modules, each importing the next, from a module of this room on (of any, without)."""
    ours = {name: imports(name) & modules().keys() for name in modules()}
    longest = {}
    for name in TopologicalSorter(ours).static_order():  # CycleError, with the circle, if there is one
        longest[name] = (name, *max((longest[other] for other in sorted(ours[name])), key=len, default=()))
    return max((found for name, found in longest.items() if within(name, room) or not room), key=len)


@pytest.mark.parametrize(("room", "most"), LONGEST.items(), ids=lambda value: str(value) or "house")
def test_the_longest_chain_of_imports(room, most):
    found = chain(room)
    assert len(found) <= most, f"{len(found)} modules: {' → '.join(found)}"
