"""`python -m benchmarks [NAME …]`: every figure of one run, as ratios where two sides are compared.

The checkpoint is minilm-sst2 in the folder that VP_SHARED names, if it is there, else the demo.
"""

import os
import platform
import sys
from pathlib import Path

import torch

from benchmarks import (
    app,
    evaluation,
    generation,
    heat_map,
    identity,
    images,
    imports,
    peers,
    replacement,
    sparse,
    squeezing,
    statistics,
    training,
)  # fmt: skip
from vp_core.asking.examples import open_examples
from vp_core.ground.names import CALIBRATION
from vp_core.ground.parallel import WORKERS
from vp_core.opening.study import open_study

_ALL = [
    "statistics", "evaluation", "heat_map", "squeezing", "sparse", "peers", "replacement", "identity", "training", "table2",
    "generation", "images", "imports", "app",
]  # fmt: skip


def main(chosen: list[str]) -> None:
    print(f"torch {torch.__version__}, {WORKERS} cores, {platform.processor() or platform.machine()}")
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    place = ("demo", "demo", None)
    if (shared / "models" / "minilm-sst2").is_dir():
        place = (str(shared / "models" / "minilm-sst2"), "sst2", str(shared / "data"))
    study = open_study(*place)
    print(f"model {Path(place[0]).name}, task {place[1]}")
    if "statistics" in chosen:
        statistics.run(study)
    if "evaluation" in chosen:
        evaluation.run(study, [text[0] for text in open_examples(place[1], "dev", place[2]).texts])
    if "images" in chosen:
        images.run()
    if "heat_map" in chosen:
        heat_map.run()
    if "squeezing" in chosen:
        squeezing.run(study)
    if "sparse" in chosen:
        sparse.run(study)
    if "peers" in chosen:
        dev, train = (open_examples(place[1], split, place[2]) for split in ("dev", "train"))
        peers.run(study, train.sample_like(dev, CALIBRATION).labels)
    if "replacement" in chosen:
        replacement.run(place)
    if "identity" in chosen:
        identity.run(study)
    if "training" in chosen:
        training.run()
    if "table2" in chosen:
        training.write_table()
    if "generation" in chosen:
        generation.run()
    if "imports" in chosen:
        imports.run()
    if "app" in chosen:
        app.run()


if __name__ == "__main__":
    main(sys.argv[1:] or _ALL)
