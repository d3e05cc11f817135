"""Entry point of the app: `streamlit run app/web/main.py`, or `vp app`."""

from pathlib import Path

import streamlit as st

# A file of ours: named icons and emoji would be fetched from the network.
st.set_page_config("Variance Pruning explorer", str(Path(__file__).parent / "icon.png"), layout="wide")
# Their folder is not called `pages`: Streamlit would run a page of such a folder by itself for the first visitor who
# opens its address, without this file.
PAGES = [
    st.Page("views/explore.py", title="Explore", icon=":material/tune:"),
    st.Page("views/compare.py", title="Compare", icon=":material/stacked_line_chart:"),
    st.Page("views/weights.py", title="Weights", icon=":material/grid_on:"),
    st.Page("views/sublayers.py", title="Sub-layers", icon=":material/layers:"),
    st.Page("views/training.py", title="Training", icon=":material/model_training:"),
    st.Page("views/speed.py", title="Speed", icon=":material/speed:"),
]
st.navigation(PAGES).run()
