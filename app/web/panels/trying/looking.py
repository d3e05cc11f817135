"""An image of the visitor's own, or one of those that are scored, with what each model sees in it."""

from collections.abc import Mapping

import streamlit as st
from PIL import Image

from analysis import seen
from app.web import components
from app.web.glossary import TERMS
from app.web.panels.trying.parts import Ask, asked_of_both
from app.web.settings import Settings
from vp_core.asking.kinds.images import ImageClassification
from vp_core.asking.pictures.inputs import Images
from vp_core.asking.pictures.rgb import FORMATS, as_rgb
from vp_core.ground.errors import VPError
from vp_core.ground.store import digest
from vp_core.opening.images import predict_images
from vp_core.study import Study

_WIDTH = 128
_ENDINGS = ["jpg", "jpeg", *(name.lower() for name in FORMATS if name not in ("JPEG", "MPO"))]


def show_seen(study: Study, settings: Settings, called: Mapping[str, str], ask: Ask) -> None:
    """The image and what the models see in it; `called`: which of them are shown, and as what; `ask`: `parts`."""
    question = study.question
    assert isinstance(question, ImageClassification) and isinstance(question.data, Images)
    chosen, dropped = st.columns([1, 1.4], vertical_alignment="bottom")
    with chosen:
        number = st.number_input(
            f"Try one of the {len(question):,} images", 1, len(question), 1, help=TERMS["image"], key="image-number"
        )
    with dropped:
        file = st.file_uploader("… or drop one of your own", _ENDINGS, key="image-file")
    truth = ""
    try:
        if file is not None:
            picture = as_rgb(file.getvalue(), file.name)
        else:
            picture = question.data.stored.picture(int(number) - 1)
            truth = question.task.labels[int(question.labels[int(number) - 1])]
    except VPError as error:
        st.error(str(error))
        return
    st.image(as_seen(picture), caption=f"it is: {truth}" if truth else "yours", width=_WIDTH)
    found = asked_of_both(
        study, settings, called, ask, digest(picture.size, picture.tobytes().hex()),
        lambda model: predict_images(study, model, [picture])[0],
    )  # fmt: skip
    if found:
        st.html(seen.draw(found, question.task.labels))
        components.csv_button("seen", lambda: seen.table(found, question.task.labels))


def as_seen(picture: Image.Image, least: int = _WIDTH) -> Image.Image:
    """The picture in whole multiples of its size, each pixel a square, where it is smaller than it is shown."""
    times = max(least // max(picture.size), 1)
    return picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
