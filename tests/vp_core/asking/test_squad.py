"""SQuAD's JSON: both versions, folders and files, and everything that may be wrong with them."""

import json
import re

import marking
import pytest

from vp_core.asking.reading.squad import check_places, open_questions, read_questions
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError

FIRST, SECOND = TASKS["squad"], TASKS["squad2"]


def changed(change, n=6, **how):
    """Content of a file with one thing changed."""
    content = marking.squad(n, **how)
    paragraph = content["data"][0]["paragraphs"][0]
    change(content, paragraph, paragraph["qas"][0])
    return content


def test_what_a_file_says(tmp_path):
    content = marking.squad(7)
    found = read_questions(marking.write(tmp_path / "q.json", content), FIRST)
    asked = [(q, p) for p in content["data"][0]["paragraphs"] for q in p["qas"]]
    assert [(one.id, one.question, one.paragraph) for one in found.asked] == [
        (q["id"], q["question"], p["context"]) for q, p in asked
    ]
    assert [list(zip(one.golds, one.starts, strict=True)) for one in found.asked] == [
        [(a["text"], a["answer_start"]) for a in q["answers"]] for q, _ in asked
    ]
    assert found.notes == ()
    check_places(found)


@pytest.mark.parametrize("task", [FIRST, SECOND], ids=lambda task: task.name)
def test_folders_by_the_files_names(tmp_path, task):
    version = "v2.0" if task is SECOND else "v1.1"
    for folder in (tmp_path / "a", tmp_path / "b" / task.folders[0]):
        for name, seed in ((f"dev-{version}", 1), (f"train-{version}", 2)):
            marking.write(folder / f"{name}.json", marking.squad(6, seed))
    for place in (tmp_path / "a", tmp_path / "b"):
        for split, seed in (("dev", 1), ("train", 2)):
            found = open_questions(task, place, split)
            assert found.asked[0].id == f"{seed}-0" and found.source.endswith(f"{split}-{version}.json")
    with pytest.raises(VPError, match=f"There is no dev-{version}.json in .*--data"):
        open_questions(task, tmp_path, "dev")


def test_the_version_that_the_task_names_comes_first(tmp_path):
    marking.write(tmp_path / "dev-v1.1.json", marking.squad(6, 1))
    marking.write(tmp_path / "dev-v2.0.json", marking.squad(6, 2))
    assert [open_questions(task, tmp_path, "dev").asked[0].id for task in (FIRST, SECOND)] == ["1-0", "2-0"]


def test_a_sample_is_the_same_every_time_and_in_order(tmp_path):
    found = read_questions(marking.write(tmp_path / "q.json", marking.squad(30)), FIRST)
    ids = [one.id for one in found.sample(10).asked]
    assert len(ids) == 10 and ids == [one.id for one in found.sample(10).asked]
    assert [one.id for one in found.asked if one.id in ids] == ids
    assert found.sample(30) is found


def test_version_2_given_as_1(tmp_path):
    path = marking.write(tmp_path / "q.json", marking.squad(30, unanswered=0.5))
    with pytest.raises(VPError, match=r"\d+ of the 30 questions in .* have no answer \(such as .*--task squad2"):
        read_questions(path, FIRST)
    found = read_questions(path, SECOND)
    assert found.notes == () and any(not one.golds for one in found.asked)


def test_version_1_given_as_2_is_told(tmp_path):
    (note,) = read_questions(marking.write(tmp_path / "q.json", marking.squad(6)), SECOND).notes
    assert note.startswith("Every question in ")


def test_an_answer_that_is_not_in_its_paragraph(tmp_path):
    """It is told where answers are scored, and refused where they are learnt."""
    for change in ({"answer_start": 3}, {"text": "nowhere"}, {"answer_start": -2}, {"answer_start": 10**9}):
        content = changed(lambda c, p, q, change=change: q["answers"][0].update(change))
        found = read_questions(marking.write(tmp_path / "q.json", content), FIRST)
        assert "1 of the 6 questions have an answer that does not stand in its paragraph" in found.notes[0]
        assert "'0-0'" in found.notes[0] and len(found) == 6
        with pytest.raises(VPError, match=r"of the question '0-0' in .* does not stand in its paragraph at its answer_start"):
            check_places(found)


BROKEN = {
    "no JSON": ("{", "no JSON"),
    "a list": ([], "no JSON object"),
    "no data": ({"version": "1.1"}, "no SQuAD JSON"),
    "data that is text": ({"data": "x"}, "its data is no list of articles"),
    "no paragraphs": ({"data": [{"title": "x"}]}, "an article has no list of paragraphs"),
    "no questions": ({"data": []}, "There are no questions in"),
    "no context": (changed(lambda c, p, q: p.pop("context")), "a paragraph has no context"),
    "no qas": (changed(lambda c, p, q: p.pop("qas")), "a paragraph has no list of qas"),
    "no id": (changed(lambda c, p, q: q.pop("id")), "a question has no id"),
    "a question that is text": (changed(lambda c, p, q: p["qas"].append("why?")), "a question has no id"),
    "no question": (changed(lambda c, p, q: q.pop("question")), "the question '0-0' has no question"),
    "answers that are text": (changed(lambda c, p, q: q.update(answers="x")), "the question '0-0' has no list of answers"),
    "an answer that is text": (changed(lambda c, p, q: q.update(answers=["x"])), "an answer of the question '0-0' has no text"),
    "no start": (changed(lambda c, p, q: q["answers"][0].pop("answer_start")), "'0-0' has no answer_start"),
    "a start that is a share": (changed(lambda c, p, q: q["answers"][0].update(answer_start=0.5)), "has no answer_start"),
    "the same id twice": (changed(lambda c, p, q: q.update(id="0-1")), "The question '0-1' stands 2 times"),
    "an empty paragraph": (changed(lambda c, p, q: p.update(context=" \n")), "The paragraph of the question '0-0' in .* empty"),
    "no answers": (changed(lambda c, p, q: q.update(answers=[])), "1 of the 6 questions in .* have no answer"),
    "none and an answer": (changed(lambda c, p, q: q.update(is_impossible=True)), "says that it has no answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_refused(tmp_path, name):
    content, sentence = BROKEN[name]
    path = tmp_path / "q.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(VPError) as told:
        read_questions(path, FIRST)
    assert re.search(sentence, str(told.value)) and str(told.value).endswith(".") and "\n" not in str(told.value)


def test_files_that_are_none(tmp_path):
    for place in (tmp_path / "nothing.json", "/dev/null"):
        with pytest.raises(VPError):
            open_questions(FIRST, place, "dev")


def test_an_empty_question_is_told(tmp_path):
    found = read_questions(marking.write(tmp_path / "q.json", changed(lambda c, p, q: q.update(question="  "))), FIRST)
    assert found.notes == ("1 of the 6 questions are empty.",) and len(found) == 6


def test_without_a_folder_the_hub_is_asked():
    with pytest.raises(VPError, match="squad"):
        open_questions(FIRST, None, "dev")
