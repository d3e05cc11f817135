"""What page tests share: an app as if it had just been started."""

import pytest
import streamlit as st

from app import jobs


@pytest.fixture(scope="module")
def fresh_app(tmp_path_factory):
    """Nothing was computed before: no files, and nothing that earlier test files left in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VP_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(jobs, "ABANDONED_AFTER", 10.0)  # what a test began and left should not slow the next ones down
        st.cache_resource.clear()
        yield
