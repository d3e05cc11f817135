"""The page `Sub-layers`: which heads, attention blocks and feed-forward networks do nothing, and what is lost without them."""

from app.web.opening import open_page
from app.web.panels import sublayer_runs, sublayers


def main() -> None:
    study, _ = open_page("Which sub-layers do nothing?")
    sublayers.threshold_panel(study)
    sublayer_runs.runs_panel(study)


main()
