"""`python -m vp_core.demo.making.measured`: the norms that come with the demo and its twin, measured again."""

from pathlib import Path

from vp_core.demo import norms
from vp_core.measuring.spectral_norms import spectral_norms
from vp_core.study import open_study


def write(name: str, path: Path | None = None) -> None:
    """Measure function norms, over the default calibration texts, and spectral norms; store them."""
    study = open_study(name)
    norms.write(name, study.measured().norms(), spectral_norms(study.model), path)


if __name__ == "__main__":
    for each in norms.FOLDERS:
        write(each)
