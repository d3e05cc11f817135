"""What cannot be asked of `vp norms`, `vp finetune` and `vp snip`: one sentence each, before anything is computed."""

import pytest
import tiny
import torch
import transformers

from app.cli.main import main


@pytest.fixture
def places(tmp_path, folders, data):
    """Things that are wrong, by name."""
    tok = tiny.tokenizer("bert")
    torch.manual_seed(0)
    settings = tiny.sizes("bert", 32, 56, 2) | {"vocab_size": 420}
    model = transformers.ConvBertForSequenceClassification(transformers.ConvBertConfig(**settings))
    tiny.save(tmp_path / "convbert", model, tok)
    tiny.write_tsv(tmp_path / "one" / "sst2" / "train.tsv", ("sentence", "label"), [("a great film", 1)])
    (tmp_path / "one" / "sst2" / "dev.tsv").write_bytes((data / "sst2" / "dev.tsv").read_bytes())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a file").touch()
    return {"here": tmp_path, "bert": folders["bert"], "roberta": folders["roberta"], "data": data}


TASK = ["--task", "sst2", "--data", "{data}"]
RUN = ["--out", "{here}/x"]
WRONG = {
    "λ no number": (["norms", "demo", "--sn", "abc"], "must be a number above 0, not 'abc'"),
    "λ zero": (["finetune", "demo", "--sn", "0", *RUN], "must be a number above 0, not '0'"),
    "λ negative": (["snip", "demo", "--sn=-5", *RUN], "must be a number above 0, not '-5'"),
    "rescaled to what": (["norms", "demo", "--rescaled"], "add --sn 5"),
    "ε zero": (["norms", "demo", "--epsilon", "0,1"], "ε must be a number above 0, not '0'"),
    "ε three": (["norms", "demo", "--epsilon", "1,2,3"], "give one ε, or two"),
    "θ above 1": (["snip", "demo", "--theta", "1.5", *RUN], "θ must be between 0 and 1, not '1.5'"),
    "θ no number": (["norms", "demo", "--theta", "x"], "θ must be between 0 and 1, not 'x'"),
    "start of nothing": (["snip", "demo", "--start", "rescaled", *RUN], "name λ with --sn 5, or leave it out"),
    "start of nothing, fine-tuned": (["finetune", "demo", "--start", "nearest", *RUN], "name λ with --sn 5, or leave it out"),
    "start": (
        ["finetune", "demo", "--sn", "4", "--start", "far", *RUN],
        "Unknown start 'far': choose one of nearest,",
    ),
    "start of norms": (["norms", "demo", "--sn", "4", "--start", "far"], "Unknown start 'far'"),
    "readings": (["snip", "demo", "--readings", "mine", *RUN], "Unknown readings 'mine': choose one of paper"),
    "identity": (["snip", "demo", "--identity", "median", *RUN], "Unknown identity 'median': choose one of max, mean"),
    "usage": (["snip", "demo", "--usage", "often", *RUN], "Unknown usage 'often': choose one of identity, use"),
    "counted": (["snip", "demo", "--counted", "sheep", *RUN], "Unknown counted 'sheep': choose one of texts, training"),
    "l1 on": (["snip", "demo", "--l1-on", "biases", *RUN], "Unknown l1-on 'biases': choose one of norms, weights"),
    "layer-wise decay": (["finetune", "demo", "--layer-decay", "1.2", *RUN], "The layer-wise decay 1.2 is not above 0"),
    "epsilon": (["snip", "demo", "--adam-epsilon", "x", *RUN], "The epsilon of AdamW 'x' is no number"),
    "k zero": (["snip", "demo", "--k", "0,1", *RUN], "The rank k '0' is no whole number above 0"),
    "k three": (["snip", "demo", "--k", "1,1,1", *RUN], "give one k, or two"),
    "mode": (["snip", "demo", "--mode", "all", *RUN], "Unknown mode 'all': choose one of heads, ffn, joint"),
    "iterations": (["snip", "demo", "--iterations", "0", *RUN], "The number of iterations '0' is no whole number above 0"),
    "at least": (["snip", "demo", "--at-least=-1", *RUN], "The least number of blocks '-1' is no whole number"),
    "least share": (["snip", "demo", "--least-share", "2", *RUN], "is not between 0 and 1"),
    "l1": (["snip", "demo", "--l1", "much", *RUN], "The L1 factor 'much' is no number"),
    "lr": (["finetune", "demo", "--lr", "3", *RUN], "The learning rate 3.0 is not between 0 and 1"),
    "precision": (["finetune", "demo", "--precision", "int8", *RUN], "Unknown precision 'int8'"),
    "first fine-tuning": (["snip", "demo", "--begin-epochs", "0", *RUN], "The number of epochs '0' is no whole number above 0"),
    "seed": (["finetune", "demo", "--seed=-1", *RUN], "The seed '-1' is no whole number"),
    "examples": (["finetune", "demo", "--examples", "few", *RUN], "The number of examples 'few' is no whole number"),
    "batch": (["snip", "demo", "--batch", "1.5", *RUN], "The batch '1.5' is no whole number above 0"),
    "no teacher": (["finetune", "demo", "--alpha", "0.2", *RUN], "--alpha says how to learn from a teacher: name one"),
    "α no number": (["finetune", "demo", "--teacher", "demo", "--alpha", "x", *RUN], "The weight α 'x' is no number"),
    "α above 1": (["finetune", "demo", "--teacher", "demo", "--alpha", "2", *RUN], "The weight α 2.0 of the task's loss"),
    "temperature": (["finetune", "demo", "--teacher", "demo", "--temperature", "0", *RUN], "The temperature must be above 0"),
    "teacher's tokeniser": (["finetune", "{bert}", *TASK, "--teacher", "{roberta}", *RUN], "The teacher's tokeniser"),
    "no such teacher": (["finetune", "{bert}", *TASK, "--teacher", "{here}/nobody", *RUN], "nobody"),
    "family": (["snip", "{here}/convbert", *TASK, *RUN], "The model type 'convbert' is not supported"),
    "one row": (["snip", "{bert}", "--task", "sst2", "--data", "{here}/one", *RUN], "train.tsv' has a single row"),
    "one row, fine-tuned": (["finetune", "{bert}", "--task", "sst2", "--data", "{here}/one", *RUN], "has a single row"),
    "no task": (["snip", "{bert}", *RUN], "Which task?"),
    "other things": (["snip", "{bert}", *TASK, "--out", "{here}/full"], "is not empty and holds no run"),
    "other things, fine-tuned": (["finetune", "{bert}", *TASK, "--out", "{here}/full"], "is not empty: choose a new one"),
    "no folder": (["snip", "{bert}", *TASK, "--out", "{here}/no/where"], "make it first"),
    "a file": (["snip", "{bert}", *TASK, "--out", "{here}/full/a file"], "is a file"),
    "no folder for norms": (["norms", "{bert}", *TASK, "--out", "{here}/no/where"], "make it first"),
    "a folder for a chart": (["norms", "{bert}", *TASK, "--plot", "{here}/full"], "is a folder: name a file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_one_sentence_for_what_is_wrong(capsys, monkeypatch, places, what):
    def too_late(*_, **__):
        raise AssertionError("training has begun")

    monkeypatch.setattr("vp_core.identity.snip.train", too_late)
    monkeypatch.setattr("vp_core.running.finetune.train", too_late)
    before = sorted(str(path) for path in places["here"].rglob("*"))
    command, says = WRONG[what]
    assert main([part.format(**places) for part in command]) == 2
    output = capsys.readouterr()
    (sentence,) = [line for line in output.err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and output.out == "" and "Traceback" not in output.err
    assert sorted(str(path) for path in places["here"].rglob("*")) == before


@pytest.mark.parametrize("command", ["norms", "finetune", "snip"])
def test_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"example:\n  vp {command} demo" in capsys.readouterr().out
