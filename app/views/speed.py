"""The page `Speed`: what squeezing the removed rows out saves on this machine, and the squeezed model to take away."""

from app import speed_panels
from app.opening import open_page


def main() -> None:
    study, settings = open_page("What does squeezing save on this machine?")
    speed_panels.speed_panel(study)
    speed_panels.save_panel(study, settings)


main()
