"""Entry point of the app: `streamlit run app/main.py`, or `vp app`."""

import streamlit as st

st.set_page_config(page_title="Variance Pruning explorer", page_icon=":material/tune:", layout="wide")
st.navigation([st.Page("pages/explore.py", title="Explore", icon=":material/tune:")]).run()
