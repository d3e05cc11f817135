"""What page tests share: an app as if it had just been started, in this process or in one of its own."""

import pytest
import streamlit as st
from pages import STARTED

from app.web.jobs import Job
from benchmarks.browser import running_app


@pytest.fixture(scope="module")
def fresh_app(tmp_path_factory):
    """Nothing was computed before: no files, and nothing that earlier test files left in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VP_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        st.cache_resource.clear()
        yield


@pytest.fixture(autouse=True)
def no_job_outlives_its_test(monkeypatch):
    """What a page began would slow the next tests down."""
    start = Job.start

    def noted(job, watcher):
        STARTED.add(job)
        return start(job, watcher)

    monkeypatch.setattr(Job, "start", noted)
    yield
    STARTED.cancel()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The address of an app in its own process, which the tests of a file share."""
    with running_app(tmp_path_factory.mktemp("cache")) as url:
        yield url


@pytest.fixture
def own_app(tmp_path):
    """The address of an app that no other test, and no earlier try of this one, has asked anything."""
    cache = tmp_path / "cache"
    cache.mkdir()
    with running_app(cache) as url:
        yield url


@pytest.fixture(scope="session")
def tiny_bert(folders, data):
    """What names the tiny BERT and its task in the address of a page."""
    return {"model": str(folders["bert"]), "task": "sst2", "data": str(data)}


@pytest.fixture
def task(folders, data):
    """The arguments that name the same on the command line."""
    return [str(folders["bert"]), "--task", "sst2", "--data", str(data)]
