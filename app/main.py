"""Entry point of the app: `streamlit run app/main.py`, or `vp app`."""

from pathlib import Path

import streamlit as st

# A file of ours: named icons and emoji would be fetched from the network.
st.set_page_config("Variance Pruning explorer", str(Path(__file__).parent / "icon.png"), layout="wide")
st.navigation([st.Page("pages/explore.py", title="Explore", icon=":material/tune:")]).run()
