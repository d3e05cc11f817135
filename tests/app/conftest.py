"""What page tests share: an app as if it had just been started, in this process or in one of its own."""

import signal
from contextlib import contextmanager

import pytest
import streamlit as st
from pages import STARTED

from app.web.jobs import Job
from benchmarks.browser import free_port, wait_for_app


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


HERE = """
import subprocess, sys
from streamlit.web import cli
from app.cli.main import main

def run(command, check):
    sys.argv = command[2:]
    cli.main()

subprocess.run = run
sys.exit(main(["app", "--port", sys.argv[1]]))
"""
"""`vp app` that becomes Streamlit's server itself instead of starting one, so that what is imported already stays."""


@contextmanager
def serving(python, cache):
    """The address of an app in a process of its own, with its own cache folder."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"VP_CACHE_DIR": str(cache), "HF_HUB_OFFLINE": "1", "STREAMLIT_SERVER_HEADLESS": "true"}.items():
            patch.setenv(name, value)
        process = python(HERE, port)
    try:
        wait_for_app(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


@pytest.fixture(scope="session")
def app(python, tmp_path_factory):
    """The address of an app that all tests in a browser share."""
    with serving(python, tmp_path_factory.mktemp("cache")) as url:
        yield url


@pytest.fixture
def own_app(python, tmp_path_factory):
    """The address of an app that no other test, and no earlier try of this one, has asked anything."""
    with serving(python, tmp_path_factory.mktemp("cache")) as url:
        yield url


@pytest.fixture(scope="session")
def tiny_bert(folders, data):
    """What names the tiny BERT and its task in the address of a page."""
    return {"model": str(folders["bert"]), "task": "sst2", "data": str(data)}


@pytest.fixture
def task(folders, data):
    """The arguments that name the same on the command line."""
    return [str(folders["bert"]), "--task", "sst2", "--data", str(data)]
