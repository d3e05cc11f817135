"""The page `Explore`: slide the sparsity of a model and watch its accuracy, with the figures that explain it."""

import streamlit as st

from app.web.opening import open_page
from app.web.panels import explore, units, weights


def main() -> None:
    study, settings = open_page("What does a Transformer lose when its least useful parts go?", squeezed=True)
    if not study.loaded.projections:
        explore.as_it_is_panel(study)
        return
    left, right = st.columns([5, 8], gap="large")
    with left:
        explore.score_panel(study)
    with right:
        explore.curve_panel(study)
        explore.curve_csv()
    units.mask_panel(study)
    if settings.recipe.pattern:
        weights.pattern_panel(study)
    else:
        units.neuron_panel(study)


main()
