"""Folders of models whose single weights are gone: small, to the bit what they were, refused where they are broken."""

import json
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from vp_core.ground.errors import VPError
from vp_core.model.projections import find_projections, weight_of
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES as RECIPES_BY_NAME
from vp_core.recipes import Recipe
from vp_core.squeezing import folder as module
from vp_core.squeezing.folder import FORMAT, FORMAT_SPARSE, load_pruned, save_pruned
from vp_core.squeezing.squeeze import squeeze_masked
from vp_core.weights.compressed import bytes_compressed, bytes_dense
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices
from vp_core.weights.prune import masked

FAMILIES = ("bert", "gpt2", "llama", "t5", "albert", *tiny.SEEING)


def sparse(family, dtype=torch.float32, share=0.7, rows=0.0):
    """A model of which this share of single weights is gone, and some of what is left is −0.0; squeezed if rows are gone."""
    model, draw, keep = tiny.transformer(family, dtype=dtype), torch.Generator().manual_seed(1), {}
    types = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out") + ("word_embeddings",) * (
        family not in tiny.SEEING
    )
    for matrix in find_matrices(model, types):
        keep[matrix.name] = torch.rand(matrix.shape, generator=draw) >= share
        if matrix.type != "word_embeddings":
            keep[matrix.name][torch.rand(matrix.rows, generator=draw) < rows] = False
    with torch.no_grad():
        for p in find_projections(model):
            weight_of(model, p)[:, 3] = -0.0
    masks = Masks.of(keep)
    return squeeze_masked(masked(model, find_matrices(model, types), masks), masks)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders by name, with inputs and logits of what was saved, and all of its weights, beside each."""
    base = tmp_path_factory.mktemp("sparse")
    for name, model in {
        **{family: sparse(family) for family in FAMILIES},
        **{f"{family}-squeezed": sparse(family, rows=0.4) for family in FAMILIES},
    }.items():
        inputs = tiny.inputs(name.removesuffix("-squeezed"), torch.float32)
        save_pruned(model, base / name, about={"from": "a tiny model"})
        with torch.no_grad():
            save_file(inputs | {"logits": model(**inputs).logits.contiguous()}, base / f"{name}.safetensors")
        save_file({n: t.detach().clone().contiguous() for n, t in module.named_tensors(model)}, base / f"{name}.whole")
    return base


ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from vp_core.squeezing.folder import load_pruned, named_tensors
torch.set_num_threads(1)
found = {}
for folder in filter(Path.is_dir, Path(sys.argv[1]).iterdir()):
    given, whole, model = load_file(f"{folder}.safetensors"), load_file(f"{folder}.whole"), load_pruned(folder)
    expected = given.pop("logits")
    here = dict(named_tensors(model))
    same = here.keys() == whole.keys() and all(
        t.dtype == whole[n].dtype and t.detach().numpy().tobytes() == whole[n].numpy().tobytes() for n, t in here.items()
    )
    negative = any(bool(torch.logical_and(t == 0, torch.signbit(t)).any()) for t in here.values() if t.is_floating_point())
    with torch.no_grad():
        found[folder.name] = [torch.equal(model(**given).logits, expected), same, negative]
print(json.dumps(found))
"""


def test_a_fresh_process_gets_the_same_bits(saved, python):
    out, err = python(ELSEWHERE, saved).communicate(timeout=600)
    folders = [path.name for path in saved.iterdir() if path.is_dir()]
    assert len(folders) == 2 * len(FAMILIES)
    assert json.loads(out.splitlines()[-1]) == dict.fromkeys(folders, [True] * 3), err
    assert not [path for path in saved.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".py")]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_small_and_known_again(saved, family):
    model, found = sparse(family), load_pruned(saved / family)
    facts = json.loads((saved / family / "pruned.json").read_text())
    assert facts["format"] == FORMAT_SPARSE and facts["squeezed"]["sparse"] is True and facts["compressed"]
    assert found.squeezed == model.squeezed and tiny.sha(found) == tiny.sha(model) and tiny.in_memory(found)
    size, header = (saved / family / "pruned.safetensors").stat().st_size, 30_000
    assert bytes_compressed(model) <= size < bytes_compressed(model) + header
    assert bytes_compressed(model) < 0.55 * bytes_dense(model)
    again = save_pruned(found, saved.parent / f"{family}-again")  # what was loaded can be saved
    first, second = (load_file(folder / "pruned.safetensors") for folder in (saved / family, again))
    assert first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_matrix_is_compressed_only_where_that_is_smaller(tmp_path):
    model = tiny.transformer("bert", dtype=torch.float32)
    keep = {m.name: torch.ones(m.shape, dtype=torch.bool) for m in find_matrices(model)}
    keep["0.query"][::2] = False
    masks = Masks.of({n: k for n, k in keep.items() if n in ("0.query", "0.key")})
    matrices = [m for m in find_matrices(model) if m.name in masks.bits]
    model = masked(model, matrices, masks)
    small = squeeze_masked(model, Masks.of({"0.key": keep["0.key"]}))  # rows of the query that are gone are not known here
    save_pruned(small, tmp_path / "small")
    facts = json.loads((tmp_path / "small" / "pruned.json").read_text())
    # padding tokens are zero in nobody's embeddings here
    assert list(facts["compressed"]) == ["bert.encoder.layer.0.attention.self.query.weight"]


def test_without_zeros_the_format_is_the_old_one(tmp_path):
    model = tiny.transformer("bert", dtype=torch.float32)
    model.get_input_embeddings().weight.data.normal_()
    small = squeeze_masked(model, Masks.of({}))
    save_pruned(small, tmp_path / "small")
    facts = json.loads((tmp_path / "small" / "pruned.json").read_text())
    assert facts["format"] == FORMAT and "compressed" not in facts
    assert tiny.sha(load_pruned(tmp_path / "small")) == tiny.sha(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_numbers(tmp_path, dtype):
    model = sparse("bert", dtype)
    save_pruned(model, tmp_path / "small")
    found = load_pruned(tmp_path / "small")
    there = dict(module.named_tensors(model))
    for name, tensor in module.named_tensors(found):
        assert tensor.dtype == there[name].dtype and torch.equal(tensor, there[name])


def facts(change):
    """Change what pruned.json says."""

    def write(folder):
        path = folder / "pruned.json"
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))

    return write


def parts(change):
    """Change the tensors of the file, with a checksum that fits."""

    def write(folder):
        tensors = load_file(folder / "pruned.safetensors")
        change(tensors)
        save_file(tensors, folder / "pruned.safetensors", metadata={"kind": "squeezed model"})
        facts(lambda about: about.update(sha256=module._sha256(folder / "pruned.safetensors")))(folder)

    return write


NAME = "bert.encoder.layer.0.attention.self.query.weight"


def shape(rows, columns):
    return facts(lambda about: about["compressed"].update({NAME: [rows, columns]}))


def flip(tensors):
    tensors[f"{NAME}:bits"][5] ^= 1


def cut(name, end=-1):
    return parts(lambda t: t.update({NAME + name: t[NAME + name][:end].clone()}))


def huge(folder):
    """A matrix that no model of this configuration has, for which bits are there."""
    parts(lambda t: t.update({f"{NAME}:bits": torch.zeros(4800 * 4800 // 8, dtype=torch.uint8)}))(folder)
    shape(4800, 4800)(folder)


BROKEN = {
    "a matrix beyond all bits": (shape(10**9, 10**9), "10{18}|1,000,000,000,000,000,000 weights, and has 288 bytes"),
    "a matrix beyond the model": (huge, r"has the shape \(4800, 4800\) instead of \(48, 48\)"),
    "other sides of the same area": (shape(24, 96), r"has the shape \(24, 96\) instead of \(48, 48\)"),
    "a side that is none": (shape(-48, -48), "has no size"),
    "a side of text": (shape("48", "48"), "has no size"),
    "a bit that is no value": (parts(flip), "values for"),
    "a value too few": (cut(":values"), "values for"),
    "a byte too few": (cut(":bits"), "weights, and has 287 bytes"),
    "bits of another type": (parts(lambda t: t.update({f"{NAME}:bits": t[f"{NAME}:bits"].view(torch.int8)})), "are broken"),
    "values of another type": (parts(lambda t: t.update({f"{NAME}:values": t[f"{NAME}:values"].long()})), "cannot be those"),
    "no values": (parts(lambda t: t.pop(f"{NAME}:values")), "query.weight:values is missing"),
    "no bits": (parts(lambda t: t.pop(f"{NAME}:bits")), "query.weight:bits is missing"),
    "a matrix twice": (parts(lambda t: t.update({NAME: torch.zeros(48, 48)})), "are broken"),
    "a matrix of no model": (facts(lambda about: about["compressed"].update(other=[8, 8])), "other:bits is missing"),
    "a list of matrices": (facts(lambda about: about.update(compressed=["a", "b"])), "are broken"),
    "a number of matrices": (facts(lambda about: about.update(compressed=7)), "are broken"),
    "matrices not said": (facts(lambda about: about.pop("compressed")), "cannot be loaded"),
    "a later format": (
        facts(lambda about: about.update(format="variance-pruning squeezed model 5")),
        "this version reads 'variance-pruning squeezed model 1', 'variance-pruning squeezed model 2', "
        "'variance-pruning squeezed model 3' and 'variance-pruning squeezed model 4'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_sentence_for_what_is_broken(saved, tmp_path, case):
    folder = shutil.copytree(saved / "bert", tmp_path / "model")
    damage, says = BROKEN[case]
    damage(folder)
    with pytest.raises(VPError, match=says) as caught:
        load_pruned(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and "Traceback" not in sentence and sentence.endswith(".") and len(sentence) < 500


RECIPES = {
    "weights": Recipe("magnitude", scope="per matrix", replacement="zero", units=("weights",)),
    "columns": Recipe("magnitude", scope="per matrix", replacement="zero", units=("columns",)),
    "blocks": Recipe("magnitude", scope="global", replacement="zero", units=("blocks 8xall",)),
    "coreset": RECIPES_BY_NAME["coreset"],
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_study_of_a_sparse_folder(studies, data, tmp_path, family, name):
    study, recipe = studies[family], RECIPES[name]
    squeezed = study.squeezed(recipe, 0.6)
    save_pruned(squeezed, tmp_path / "small", study.loaded.tokenizer)
    small = open_study(str(tmp_path / "small"), "sst2", data)
    expected, found = study.score(recipe, 0.6), small.score(Recipe(), 0)
    assert found.right.tolist() == expected.right.tolist() and found.value == expected.value
    assert small.cost(Recipe(), 0) == study.cost(recipe, 0.6)
    with pytest.raises(VPError, match="squeezed already"):
        small.score(Recipe(), 0.3)
