"""`python -m vp_core.demo.making.measured`: the norms that come with the demo and its twin, measured again."""

from pathlib import Path

import vp_core as vp
from vp_core.demo import norms
from vp_core.measuring.spectral_norms import spectral_norms


def write(name: str, path: Path | None = None) -> None:
    """Measure function norms, over the default calibration texts, and spectral norms; store them."""
    study = vp.open_study(name)
    norms.write(name, study.measured().norms(), spectral_norms(study.model), path)


if __name__ == "__main__":
    for each in norms.FOLDERS:
        write(each)
