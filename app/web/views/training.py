"""The page `Training`: models that are pruned while they train, watched, stopped, gone on with, compared and opened."""

from app.web.opening import open_page
from app.web.panels.training import runs, start


def main() -> None:
    study, _ = open_page("What can go while a model trains?", squeezed=True)
    start.start_panel(study)
    runs.runs_panel(study)
    runs.take_away(study)


main()
