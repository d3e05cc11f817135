"""docs/library.md: every public name has its place there, and what the examples print is true."""

import doctest
import re
import tempfile
from pathlib import Path

import pytest

import vp_core as vp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "library.md"
SECTIONS = re.split(r"^(?=##)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
OTHERS = ("README.md", "docs/*.md", "notebooks/*.ipynb")


def test_every_public_name_has_its_place_and_an_example():
    titles = {section.splitlines()[0]: section for section in SECTIONS if section.startswith("###")}
    named = [name for title in titles for name in re.findall(r"`(\w+)`", title)]
    assert sorted(named) == sorted(vp.__all__)
    assert [title for title, section in titles.items() if "\n>>> " not in section] == []


def test_the_examples_print_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # a fence is where an output ends, not its last line
    text = re.sub(r"^```.*$", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told, session = [], doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(session.examples) > 50
    found = doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(session, out=told.append)
    assert found.failed == 0, "".join(told)


@pytest.mark.parametrize("path", [path for one in OTHERS for path in sorted(ROOT.glob(one))], ids=lambda path: path.name)
def test_what_documents_and_notebooks_use_is_public(path):
    assert set(re.findall(r"\bvp\.(\w+)", path.read_text(encoding="utf-8"))) <= set(vp.__all__) | {"NAME"}
