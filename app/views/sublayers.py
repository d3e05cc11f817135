"""The page `Sub-layers`: which heads, attention blocks and feed-forward networks do nothing, and what is lost without them."""

from app import sublayer_panels, sublayer_runs
from app.opening import open_page


def main() -> None:
    study, _ = open_page("Which sub-layers do nothing?")
    sublayer_panels.threshold_panel(study)
    sublayer_runs.runs_panel(study)


main()
