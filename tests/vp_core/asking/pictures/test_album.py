"""Where pictures are and what their classes are: folders, Parquet, splits; and everything that is none of these."""

import json

import numpy as np
import pictures
import pytest
from pictures import NAMES

from vp_core.asking.outputs import Outputs
from vp_core.asking.pictures.album import album_of, open_splits
from vp_core.asking.pictures.folders import choose
from vp_core.asking.pictures.tables import parquet_files
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError

TASK = TASKS["images"]
OUTPUTS = Outputs("classes", NAMES)
LABELS = [i % 7 for i in range(20)]


def opened(data, label="label", outputs=OUTPUTS, labels=()):
    scored, measured = open_splits(TASK, data, label)
    return album_of(TASK, scored, outputs, labels), measured


def refused(say, data, **options):
    with pytest.raises(VPError, match=say) as caught:
        opened(data, **options)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def pixels(stored, i):
    return np.asarray(stored.picture(i))


def test_a_folder_of_folders(tmp_path):
    """In the order of classes, then of names; the numbers are those of the model's outputs."""
    pictures.write_folders(tmp_path, LABELS)
    album, measured = opened(tmp_path)
    drawn = pictures.drawn(20)
    order = sorted(range(20), key=lambda i: (LABELS[i], i))
    assert album.labels.tolist() == [LABELS[i] for i in order] and album.task.labels == NAMES
    assert all(np.array_equal(pixels(album.stored, place), np.asarray(drawn[i])) for place, i in enumerate(order))
    assert measured.stored is album.stored and album.notes == () and album.stored.name(0).endswith("boat/0000.png")


@pytest.mark.parametrize("split", ["test", "validation", "val", "dev"])
def test_train_and_what_is_scored(tmp_path, split):
    pictures.write_folders(tmp_path / "Train", LABELS, seed=1)
    pictures.write_folders(tmp_path / split, LABELS[:9])
    album, measured = opened(tmp_path)
    assert len(album) == 9 and len(measured.stored) == 20 and split in album.source
    (tmp_path / "elsewhere").mkdir()
    assert len(opened(tmp_path)[0]) == 9
    (tmp_path / "elsewhere" / "x.png").write_bytes(b"")
    refused("and beside it elsewhere", tmp_path)


def test_a_split_alone_serves_as_both(tmp_path):
    pictures.write_folders(tmp_path / "train", LABELS)
    album, measured = opened(tmp_path)
    assert measured.stored is album.stored
    assert choose(["test", "train", "validation"], "x") == ("test", "train")
    with pytest.raises(VPError, match="call them train and test"):
        choose(["all"], "x")


def test_classes_are_matched_by_name(tmp_path):
    pictures.write_folders(tmp_path, LABELS)
    turned = Outputs("classes", NAMES[::-1])
    album, _ = opened(tmp_path, outputs=turned)
    assert album.task.labels == NAMES[::-1]
    assert [album.task.labels[i] for i in album.labels] == sorted(NAMES[i] for i in LABELS)
    refused("is none of the model's classes", tmp_path, outputs=Outputs("classes", ("a", *NAMES[1:])))
    numbered, _ = opened(tmp_path, outputs=Outputs("classes", tuple(f"LABEL_{i}" for i in range(7))))
    assert numbered.task.labels == NAMES and any("only numbers its outputs" in note for note in numbered.notes)
    said, _ = opened(tmp_path, labels=NAMES[::-1])
    assert said.task.labels == NAMES[::-1] and said.order == tuple(range(7))


def test_empty_classes_and_what_is_no_image_are_told(tmp_path):
    pictures.write_folders(tmp_path, [0, 1, 0, 1])
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_text("x")
    album, _ = opened(tmp_path)
    assert len(album) == 4
    left, empty, missing = album.notes
    assert left.startswith("1 files of ") and "cat/notes.txt" in left
    assert "without images: dog, elk, fox, gnu, hen" in empty and missing.startswith("Nothing in ")
    for outputs in (OUTPUTS, Outputs("classes", tuple(f"LABEL_{i}" for i in range(7)))):
        assert opened(tmp_path, outputs=outputs)[0].task.labels == NAMES


def test_folders_that_are_none(tmp_path):
    refused("There are no folders in", tmp_path)
    pictures.drawn(1)[0].save(tmp_path / "a.png")
    refused("There are no folders in", tmp_path)
    (tmp_path / "cat").mkdir()
    refused("There are no images in the folders of", tmp_path)
    pictures.drawn(1)[0].save(tmp_path / "cat" / "a.png")
    refused("All 1 images of .* have the class cat", tmp_path)
    (tmp_path / "test").mkdir()
    pictures.drawn(1)[0].save(tmp_path / "test" / "a.png")
    refused("beside it cat", tmp_path)
    (tmp_path / "cat" / "a.png").unlink()
    (tmp_path / "cat").rmdir()
    refused("1 images in .* have no classes", tmp_path)
    refused("Which images", None)
    refused("holds no images", tmp_path / "a.png")
    refused("There is no file", tmp_path / "b.parquet")
    refused("There is nothing at", tmp_path / "b")
    refused("leave out --label kind", pictures.write_folders(tmp_path / "x", LABELS), label="kind")


def test_a_model_of_other_answers(tmp_path):
    pictures.write_folders(tmp_path, LABELS)
    refused("a single value", tmp_path, outputs=Outputs("value", ("x",)))
    refused("several labels at once", tmp_path, outputs=Outputs("labels", NAMES))


def test_five_classes_have_no_top_5(tmp_path):
    pictures.write_folders(tmp_path, [i % 5 for i in range(10)], NAMES[:5])
    album, _ = opened(tmp_path, outputs=Outputs("classes", NAMES[:5]))
    assert album.task.metrics == ("accuracy",) and "Top-5 is left out" in album.notes[-1]
    pictures.write_folders(tmp_path, [i % 6 for i in range(12)], NAMES[:6])
    assert opened(tmp_path, outputs=Outputs("classes", NAMES[:6]))[0].task.metrics == ("accuracy", "top5_accuracy")


def features(names):
    about = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": about}})}


def test_parquet(tmp_path):
    drawn = pictures.drawn(20)
    path = pictures.write_parquet(tmp_path / "a.parquet", drawn, LABELS, metadata=features(NAMES))
    album, measured = opened(path)
    assert album.labels.tolist() == LABELS and measured.stored is album.stored
    assert all(np.array_equal(pixels(album.stored, i), np.asarray(one)) for i, one in enumerate(drawn))
    assert album.stored.name(3) == f"row 4 of {path}"
    names = pictures.write_parquet(tmp_path / "b.parquet", drawn, [NAMES[i] for i in LABELS])
    assert opened(names)[0].labels.tolist() == LABELS
    numbers = pictures.write_parquet(tmp_path / "c.parquet", drawn, LABELS, label="kind", column="picture")
    assert opened(numbers, label="kind")[0].labels.tolist() == LABELS


def test_parquet_as_datasets_writes_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    drawn = pictures.drawn(20)
    kinds = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=list(NAMES))})
    made = datasets.Dataset.from_dict({"img": drawn, "fine": LABELS}, features=kinds)
    made.to_parquet(tmp_path / "test-00000-of-00001.parquet")
    made.select(range(14)).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    album, measured = opened(tmp_path)
    assert album.labels.tolist() == LABELS and len(measured.stored) == 14
    assert np.array_equal(pixels(album.stored, 19), np.asarray(drawn[19]))


def test_large_parquet_is_mapped(tmp_path, monkeypatch):
    """What `datasets` reads has the same pictures, classes and digests."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = pictures.write_parquet(tmp_path / "a.parquet", pictures.drawn(8), LABELS[:8], metadata=features(NAMES))
    small, _ = opened(path)
    monkeypatch.setattr("vp_core.asking.pictures.tables.MOST_IN_MEMORY", 10)
    large, _ = opened(path)
    assert large.labels.tolist() == small.labels.tolist() and large.stored.looked_at() == small.stored.looked_at()


def test_parquet_that_does_not_fit(tmp_path):
    drawn = pictures.drawn(4)
    refused("its columns are image, label", pictures.write_parquet(tmp_path / "a.parquet", drawn, [0, 1, 2, 3]), label="kind")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "b.parquet")
    refused("has no column of images", tmp_path / "b.parquet")
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"], "label": [1]}), tmp_path / "c.parquet")
    refused("several columns of images", tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no table PAR1")
    refused("cannot be read", tmp_path / "d.parquet")
    named = features(NAMES[:2])
    refused("row 3 of .* has no name", pictures.write_parquet(tmp_path / "e.parquet", drawn, [0, 1, 2, 0], metadata=named))
    refused("row 2 of .* is missing", pictures.write_parquet(tmp_path / "f.parquet", drawn, [0, None, 1, 0], metadata=named))
    refused("row 1 of .* is missing", pictures.write_parquet(tmp_path / "g.parquet", drawn, [-1, 1, 1, 0], metadata=named))
    album, _ = opened(pictures.write_parquet(tmp_path / "h.parquet", [drawn[0], None], [0, 1], metadata=features(NAMES)))
    with pytest.raises(VPError, match=r"no image in row 2 of .*h\.parquet"):
        album.stored.looked_at()
    assert parquet_files(tmp_path) == {}


def test_samples_are_the_same_again(tmp_path):
    pictures.write_folders(tmp_path, LABELS)
    album, _ = opened(tmp_path)
    few, again = album.sample(8), album.sample(8)
    assert few.labels.tolist() == again.labels.tolist() and album.sample(99) is album
    assert few.stored.looked_at() == again.stored.looked_at() != album.stored.looked_at()
    places = few.stored.places
    assert places == sorted(places) and few.labels.tolist() == album.labels[places].tolist()
    assert few.stored.name(0) == album.stored.name(places[0])


def test_a_data_set_of_the_hub(monkeypatch):
    """Its splits, classes and pictures, none of which is decoded there; one sentence where it cannot be had."""
    datasets = pytest.importorskip("datasets")
    drawn = pictures.drawn(12)
    kinds = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=list(NAMES))})
    made = datasets.Dataset.from_dict({"img": drawn, "fine": LABELS[:12]}, features=kinds)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: made if split == "validation" else made.select([0, 1, 2]))
    album, measured = opened("somebody/pictures")
    assert (
        album.labels.tolist() == LABELS[:12]
        and len(measured.stored) == 3
        and album.source == "Hub: somebody/pictures validation"
    )
    assert np.array_equal(pixels(album.stored, 11), np.asarray(drawn[11]))

    def fail(name):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "get_dataset_split_names", fail)
    refused("could not be had from the Hub .no network", "somebody/pictures")
