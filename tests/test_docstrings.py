"""The worked examples in the docstrings are true, everything public has a docstring, and what a text refers to is there."""

import ast
import doctest
import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest

import analysis
import vp_core

ROOT = Path(__file__).parents[1]
MODULES = [m.name for package in (vp_core, analysis) for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
SOURCES = [path for folder in ("vp_core", "analysis", "app") for path in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOTTED = re.compile(r"(?<![\w./])(?:vp_core|analysis|app)(?:\.\w+)+")
"""A module or what is in one, by its whole name."""
PLACE = re.compile(r"(?<![\w./-])(?:vp_core|analysis|app|notebooks|benchmarks|tests|docs)/[\w./-]*\w")
"""A file or a folder, from the root of the repository."""
HEADING = re.compile(r"docs/(\w+\.md)#([\w-]+)")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_some():
    finder = doctest.DocTestFinder()
    assert sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name))) > 10


def definitions(node, above=""):
    """(name, node) of every class and function in a module, methods as well; what a function defines inside is its own."""
    for one in node.body:
        if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{above}{one.name}", one
            if isinstance(one, ast.ClassDef):
                yield from definitions(one, f"{above}{one.name}.")


def public(name):
    return not any(part.startswith("_") for part in name.split("."))


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_everything_public_has_a_docstring():
    silent = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] != "app"
        for name, node in (("the module", parsed(path)), *definitions(parsed(path)))
        if public(name) and not ast.get_docstring(node)
    ]
    assert silent == []


def texts():
    """(file, text) of every page, and of every text in a source that stands where a docstring does."""
    for path in PAGES:
        yield path, path.read_text(encoding="utf-8")
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                yield path, node.value.value


def mentioned(pattern):
    """(file, what it mentions) of all that a pattern finds between two backticks."""
    found = {
        (str(path.relative_to(ROOT)), one) for path, text in texts() for part in re.findall(r"`([^`\n]+)`", text)
        for one in pattern.findall(part)
    }  # fmt: skip
    assert len(found) > 10
    return sorted(found)


def resolves(name):
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_names_that_are_mentioned_are_there():
    assert [(where, name) for where, name in mentioned(DOTTED) if not resolves(name)] == []


def test_files_that_are_mentioned_are_there():
    assert [(where, place) for where, place in mentioned(PLACE) if not (ROOT / place).exists()] == []


def test_headings_that_docstrings_mention_are_there():
    anchors = {
        (page.name, re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-"))
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }
    found = {found for path, text in texts() if path not in PAGES for found in HEADING.findall(text)}
    assert found and found <= anchors
