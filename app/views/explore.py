"""The page `Explore`: slide the sparsity of a model and watch its accuracy, with the figures that explain it."""

import streamlit as st

from app import panels
from app.opening import open_page


def main() -> None:
    study, settings = open_page("What does a Transformer lose when its least varying rows go?")
    left, right = st.columns([5, 8], gap="large")
    with left:
        panels.score_panel(study)
    with right:
        panels.curve_panel(study)
        panels.curve_csv()
    panels.mask_panel(study, settings)
    panels.neuron_panel(study)


main()
