"""The published results are those of the published runs."""

from analysis import identity
from benchmarks import snip


def test_the_document_is_that_of_the_logs():
    assert snip.RESULTS.read_text() == snip.page(snip.kept())


def test_every_run_is_one_of_the_table_and_can_be_drawn():
    logs = snip.kept()
    assert set(logs) <= set(snip.names())
    for name, log in logs.items():
        task, mode, *variants = name.split("-")
        asked, found = snip.settings(task, mode, variants), log["settings"]
        assert (found["mode"], found["sn"], tuple(found["k"]), found["theta"], found["l1"]) == (
            asked.mode, asked.sn, asked.k, asked.theta, asked.l1,
        )  # fmt: skip
        assert len(identity.table({name: log})) == len(log["rows"]) >= (2 if "paper" in variants else 5)
        identity.draw_map(log)
