"""The page `Speed`: what squeezing the removed rows out saves on this machine, and the squeezed model to take away."""

from app.web.opening import open_page
from app.web.panels import speed


def main() -> None:
    study, settings = open_page("What does squeezing save on this machine?")
    speed.speed_panel(study)
    speed.save_panel(study, settings)


main()
