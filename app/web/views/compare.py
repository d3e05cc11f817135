"""The page `Compare`: whole recipes against each other, by what squeezing takes out."""

from app.web.opening import open_page
from app.web.panels import compare


def main() -> None:
    study, _ = open_page("Which recipe loses least?")
    compare.compare_panel(study)
    compare.compare_csv(study)


main()
