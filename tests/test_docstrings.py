"""The worked examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import analysis
import vp_core

MODULES = [m.name for package in (vp_core, analysis) for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_some():
    finder = doctest.DocTestFinder()
    assert sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name))) > 10
