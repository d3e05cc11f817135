"""Which models are offered, and the task that goes with one."""

import json
import shutil

import pytest

from app.web import models
from vp_core.ground.store import cache_dir


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def model_folder(folder, model_type="bert", of="BertForSequenceClassification"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": [of]}), encoding="utf-8")
    return folder


def test_folders_that_were_opened_come_back_the_last_first(own_cache):
    one, two = (str(model_folder(own_cache / name)) for name in ("one", "two"))
    for name in (one, two, "demo", "", "some/id", one):
        models.remember_opened(name)
    assert models.opened_before() == [one, two]
    assert models.offered()[one] == "bert, classifier, opened before"
    assert list(models.offered())[:6] == ["demo", "demo-sn", "demo-text", "demo-images", one, two]
    shutil.rmtree(own_cache / "one")
    assert models.opened_before() == [two]  # one that is gone is left out


def test_a_gguf_file_is_remembered_as_a_folder_is(own_cache):
    file = own_cache / "small.gguf"
    file.write_bytes(b"GGUF")
    models.remember_opened(str(file))
    assert models.offered()[str(file)] == "GGUF, opened before"
    assert models.fitting_task(str(file), "sst2") == "demo-text" and models.fitting_task(str(file), "text") == "text"


def test_so_many_are_remembered_and_a_broken_list_begins_anew(own_cache):
    for i in range(models.MOST + 3):
        models.remember_opened(str(model_folder(own_cache / str(i))))
    assert len(models.opened_before()) == models.MOST
    for broken in ("{", '{"a": 1}', "[1, null]"):
        (cache_dir() / "opened.json").write_text(broken, encoding="utf-8")
        assert models.opened_before() == []
    models.remember_opened(str(own_cache / "0"))
    assert models.opened_before() == [str(own_cache / "0")]


def test_what_lies_in_the_hubs_cache_is_offered_if_it_is_supported(own_cache, monkeypatch):
    hub = own_cache / "hub"
    for name, type_, weights in [
        ("a--bert", "bert", "model.safetensors"), ("a--pickled", "bert", "pytorch_model.bin"),
        ("a--other", "mamba", "model.safetensors"),
    ]:  # fmt: skip
        snapshot = model_folder(hub / f"models--{name}" / "snapshots" / "0123456789abcdef", type_, "BertForMaskedLM")
        (snapshot / weights).write_bytes(b"0")
        (hub / f"models--{name}" / "refs").mkdir()
        (hub / f"models--{name}" / "refs" / "main").write_text("0123456789abcdef", encoding="utf-8")
    scan = models.scan_cache_dir
    monkeypatch.setattr(models, "scan_cache_dir", lambda: scan(hub))
    models._scanned.cache_clear()
    assert models.in_hub_cache() == {"a/bert": "bert, masked language model, from the Hub"}
    monkeypatch.setattr(models, "scan_cache_dir", lambda: scan(own_cache / "nowhere"))
    models._scanned.cache_clear()
    assert models.in_hub_cache() == {}
    models._scanned.cache_clear()


def test_a_task_goes_with_a_model(own_cache):
    classifier = str(model_folder(own_cache / "classifier"))
    writer = str(model_folder(own_cache / "writer", "gpt2", "GPT2LMHeadModel"))
    for model, task, fits in [
        ("demo-text", "demo", "demo-text"), ("demo-sn", "text", "demo"), (classifier, "sst2", "sst2"),
        (classifier, "wikitext-2", "demo"), (writer, "mrpc", "demo-text"), (writer, "text", "text"),
        ("no/such-id", "sst2", "sst2"), ("\0", "rte", "rte"), ("", "rte", "rte"),
    ]:  # fmt: skip
        assert models.fitting_task(model, task) == fits, (model, task)
