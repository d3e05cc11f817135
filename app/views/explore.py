"""The page `Explore`: slide the sparsity of a model and watch its accuracy, with the figures that explain it."""

import streamlit as st

from app import panels, unit_panels
from app.opening import open_page


def main() -> None:
    study, _ = open_page("What does a Transformer lose when its least useful parts go?")
    left, right = st.columns([5, 8], gap="large")
    with left:
        panels.score_panel(study)
    with right:
        panels.curve_panel(study)
        panels.curve_csv()
    unit_panels.mask_panel(study)
    unit_panels.neuron_panel(study)


main()
