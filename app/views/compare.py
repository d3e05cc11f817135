"""The page `Compare`: whole recipes against each other, by what squeezing takes out."""

from app import compare_panels
from app.opening import open_page


def main() -> None:
    study, _ = open_page("Which recipe loses least?")
    compare_panels.compare_panel(study)
    compare_panels.compare_csv(study)


main()
