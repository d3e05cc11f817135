"""Scans of handwritten digits as scikit-learn carries them: 1,797 of 8 × 8 grey pixels, written down as Parquet with PNGs.

UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, CC BY 4.0), its test set.
"""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WHITE = 16
"""The brightest value of a scan."""


def deal(seed: int, train: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """split ("train", "test") → (grey images (n, 8, 8) uint8, labels (n,)), `train` scans and the others, dealt at random."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / WHITE)).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    parts = {"train": order[:train], "test": order[train:]}
    return {split: (images[part], found.target[part]) for split, part in parts.items()}


def as_parquet(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A Parquet file as `datasets` writes them: columns `image` (bytes of a PNG and a name) and `label` with its names."""
    rows = [{"bytes": as_png(image), "path": f"{i}.png"} for i, image in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels.tolist(), pa.int64())})
    features = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
    about = json.dumps({"info": {"features": features}})
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), out, compression="zstd", use_dictionary=False)
    return out.getvalue()


def as_png(image: np.ndarray) -> bytes:
    """A grey image (height, width) uint8 as a PNG."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=True)
    return out.getvalue()
