"""What a visitor can choose on the page Training, each choice declared once; `app.web.settings.Settings` has all of it."""

from dataclasses import dataclass

from app.web import settings_fields as kind
from app.web.settings_fields import setting
from vp_core.ground.errors import VPError
from vp_core.ground.names import METHODS

_SHARES = (*(f"{i / 10:g}" for i in range(1, 10)), "0.95")
_RATES = ("1e-05", "2e-05", "3e-05", "5e-05", "0.0001", "0.0002", "0.0003", "0.0005", "0.001")


def check_share(text: str) -> float:
    """A share between 0 and 1, neither of them; VPError otherwise."""
    return _between(text, "share to be gone", "0.5")


def check_rate(text: str) -> float:
    """A learning rate between 0 and 1, neither of them; VPError otherwise."""
    return _between(text, "learning rate", "5e-5")


def _between(text: str, what: str, usual: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not 0 < found < 1:
        raise VPError(f"The {what} {text!r} is no number between 0 and 1: use {usual}.")
    return found


@dataclass(frozen=True)
class TrainingChoices:
    """How to train, how to prune meanwhile, and which runs are looked at."""

    # fmt: off
    method: str = setting(kind.OneOf(
        "variance", tuple(METHODS), folded=True, label="Method",
        help="How the training prunes. " + " ".join(f"**{name}**: {about}." for name, about in METHODS.items()),
    ))
    until: float = setting(kind.Number(
        0.5, _SHARES, check=check_share, names={text: f"{100 * float(text):g} %" for text in _SHARES}, label="Share to be gone",
        help="At the end of the training: of rows, of single weights, or by learned scores of the encoder's linear "
        "parameters.",
    ))
    cuts: int = setting(kind.Whole(
        5, least=1, most=100, label="Cuts",
        help="In so many cuts; five, as in the paper. With 1 everything goes at once. Learned scores make no cuts.",
    ))
    first: int | None = setting(kind.OpenWhole(
        None, least=0, label="First cut", placeholder="spread",
        help="After so many steps, 500 in the paper. Empty: cuts are spread over the first half of the training.",
    ))
    every: int | None = setting(kind.OpenWhole(
        None, least=1, label="Every", placeholder="spread",
        help="So many steps between two cuts, 500 in the paper. Empty: they are spread over the first half of the training.",
    ))
    squeeze: bool = setting(kind.Switch(
        False, label="Squeeze at once",
        help="Once the last rows are gone, train on in the smaller model: the same numbers up to rounding, in less time.",
    ))
    teacher: bool = setting(kind.Switch(
        False, label="Teacher", help="Half of what is learned are the answers of a teacher, softened at temperature 2.",
    ))
    teacher_model: str = setting(kind.Text(
        "", label="Teacher's model", placeholder="empty: itself, as it is",
        help="Empty: the model in hand, as it is now. Or "
        "another of the same task, labels and tokeniser: `demo`, a folder, or an id of the Hub.",
    ))
    train_steps: int = setting(kind.Whole(200, least=1, label="Steps", help="So many steps of the optimiser, AdamW."))
    examples: int | None = setting(kind.OpenWhole(
        None, least=2, label="Examples", placeholder="all", help="Of so many training texts, drawn anew for each pass.",
    ))
    mini_batch: int = setting(kind.Whole(16, least=1, label="Texts a step", help="A mini-batch; the papers take 32."))
    lr: float = setting(kind.Number(
        5e-5, _RATES, check=check_rate, label="Learning rate", help="Its highest: it warms up over a tenth of the steps, and "
        "falls to 0 at the end.",
    ))
    seed: int = setting(kind.Whole(0, least=0, label="Seed", help="Of the order of texts, of dropout and of random rows."))
    training: str = setting(kind.Text(
        "", label="Run", help="The run that is shown in full: its buttons, and the heat map beside the lines.",
    ))
    compared: tuple[str, ...] = setting(kind.SomeOf(
        (), (), check=tuple, label="Compared with", help="Runs whose lines are drawn as well.",
    ))
    # fmt: on
