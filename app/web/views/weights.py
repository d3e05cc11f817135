"""The page `Weights`: the masks themselves, two masks over each other, and what weights alone say."""

from app.web.opening import open_page
from app.web.panels import weight_figures, weights


def main() -> None:
    study, _ = open_page("Which weights go, and what do they have in common?")
    weights.pictures_panel(study)
    weights.overlay_panel(study)
    weight_figures.weights_panel(study)
    weight_figures.answers_panel(study)


main()
