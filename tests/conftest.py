"""Fixtures for every test: tiny models of each family on disk and loaded, a data folder, a study; no network."""
# ruff: noqa: E402 (the environment is set before the libraries are imported)

import os
import tempfile

os.environ.setdefault("VP_CACHE_DIR", tempfile.mkdtemp(prefix="vp-tests-"))
for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[_name] = "1"  # read by the libraries when they are imported
if "PYTEST_XDIST_WORKER" in os.environ:
    # Kernels and commands that tests start on several cores at once: threads of each that wait for cores slow down all.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import HealthCheck, settings
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.modernbert import modeling_modernbert
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm
from zygote import Zygote

from vp_core.ground.store import DEMO_DIR
from vp_core.loading.load import load_model
from vp_core.opening.study import open_study

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # tiny matrices; the tool's own workers have one thread each anyway
settings.register_profile("vp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("vp")


LONG = ("web", "notebooks", "real", "cli")
"""Folders whose tests take longest: with several processes they begin first, so that none waits for the last of them."""
QUICK_FAMILIES = ("bert", "gpt2", "bart", "llama")
"""One of each kind: norms after or before the sum, a decoder with cross attention, rotary positions with a gated FFN."""
WIDE = {
    "test_any_plan",
    "test_any_plan_in_float32",
    "test_named_plans",
    "test_every_recipe_on_every_family",
    "test_every_family",
    "test_every_mode",
    "test_a_measured_loss_is_that_of_a_whole_forward_pass",
    "test_sparsity_0_is_the_dense_model_and_nothing_changes_it",
    "test_weights_come_back_to_where_they_were_cut_from",
}
"""The widest tests by family: of these the other families are slow, for `make test-slow`."""


@pytest.hookimpl(tryfirst=True)  # before pytest picks by mark
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(name) if (name := item.path.parent.name) in LONG else len(LONG))
    for item in items:
        if item.originalname in WIDE and item.callspec.params["family"] not in QUICK_FAMILIES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """family → folder of a tiny two-class model, as `save_pretrained` writes it."""
    base = tmp_path_factory.mktemp("models")
    return {family: tiny.save(base / family, *tiny.make(family)) for family in tiny.FAMILIES}


@pytest.fixture(scope="session")
def loaded(folders):
    """family → LoadedModel."""
    return {family: load_model(str(folder)) for family, folder in folders.items()}


@pytest.fixture(scope="session")
def data(tmp_path_factory, loaded):
    """A folder in GLUE's layout: `sst2` with 210 dev rows (labels: what the tiny BERT says, every seventh turned over)."""
    base, bert = tmp_path_factory.mktemp("data"), loaded["bert"]
    for split, rows, seed in (("dev", 210, 1), ("train", 40, 2)):
        texts = tiny.sentences(rows, seed)
        said = tiny.answers(bert.model, bert.tokenizer, texts).argmax(dim=1).tolist()
        labels = [1 - y if i % 7 == 0 else y for i, y in enumerate(said)]
        tiny.write_tsv(base / "sst2" / f"{split}.tsv", ("sentence", "label"), zip(texts, labels, strict=True))
    return base


@pytest.fixture(scope="session")
def demo():
    """The study of the demo, whose scores are computed once in all tests."""
    return open_study("demo")


@pytest.fixture(scope="session")
def short_demo(tmp_path_factory):
    """What names the demo model and 200 of its dev sentences, as SST-2: the real thing where a tiny model will not do."""
    base = tmp_path_factory.mktemp("short-demo")
    (base / "sst2").mkdir()
    for split, rows in (("dev", 200), ("train", 512)):
        lines = (DEMO_DIR / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (base / "sst2" / f"{split}.tsv").write_text("".join(lines[: 1 + rows]), encoding="utf-8")
    return {"model": "demo", "task": "sst2", "data": str(base)}


@pytest.fixture(scope="session")
def studies(folders, data):
    """family → Study on the tiny SST-2."""
    return {family: open_study(str(folder), "sst2", data) for family, folder in folders.items()}


@pytest.fixture
def study(folders, data):
    """A fresh Study of the tiny BERT: nothing computed yet."""
    return open_study(str(folders["bert"]), "sst2", data)


@pytest.fixture
def exact_norms(monkeypatch):
    """What some families compute in float32 always, in the model's precision: there a difference of 1e-16 may become 6e-8."""

    def forward(norm, x):
        return norm.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    def turn(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = (part.unsqueeze(unsqueeze_dim) for part in (cos, sin))
        return tuple(x * cos + modeling_modernbert.rotate_half(x) * sin for x in (q, k))

    def forward_from_1(norm, x):
        return (1 + norm.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps)

    def attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, softcap=None, **_others):
        key, value = (one.repeat_interleave(module.num_key_value_groups, dim=1) for one in (key, value))
        scores = softcap * torch.tanh(query @ key.transpose(2, 3) * scaling / softcap)
        weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    for norm in (LlamaRMSNorm, T5LayerNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm, Phi3RMSNorm):
        monkeypatch.setattr(norm, "forward", forward)
    for norm in (GemmaRMSNorm, modeling_gemma2.Gemma2RMSNorm, Gemma3RMSNorm):
        monkeypatch.setattr(norm, "forward", forward_from_1)
    monkeypatch.setattr(modeling_gemma2, "eager_attention_forward", attend)
    monkeypatch.setattr(modeling_modernbert, "apply_rotary_pos_emb", turn)


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """Start Python on a piece of code in a process of its own; `.wait()` or `.communicate()` it."""

    def start(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    if sys.platform != "linux":  # where a fork of what is imported may not go well
        yield start
        return
    zygote = Zygote(ROOT, tmp_path_factory.mktemp("zygote") / "here")
    yield zygote.start
    zygote.close()


@pytest.fixture(scope="session")
def fresh_python():
    """What a piece of code prints in an interpreter that has imported nothing before."""

    def printed(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return printed


@pytest.fixture(scope="session")
def vp(python):
    """Start a command of `vp` in a process of its own."""
    return lambda *arguments: python("import sys; from app.cli.main import main; sys.exit(main(sys.argv[1:]))", *arguments)
