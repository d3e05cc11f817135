"""A study of pairs of texts: what is read, and what a model is to write about it."""

from vp_core.asking.reading.pairs import TextPairs, read_pairs
from vp_core.asking.sequences.pairs import TARGET_LENGTH, Pairs, encode_pairs
from vp_core.asking.sequences.rouge import words_of
from vp_core.asking.sequences.writing import facts_of
from vp_core.asking.sequences.written import Sequences, ask_about
from vp_core.asking.tasks import Task, with_headline
from vp_core.ground.names import CALIBRATION
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.loading.readers.texts import check_known, check_numbers, check_texts
from vp_core.model.families import longest_input
from vp_core.opening.asked import Asked, of_sample
from vp_core.study import Study


def open_sequences(asked: Asked) -> Study:
    """Of a model that writes about a text; raises VPError as `vp_core.opening.study.open_study` says."""
    asked.check("data", "text", "label", "separator", "max_length", "sentences", "metric")
    assert asked.task is not None
    task = with_headline(asked.task, asked.metric)
    scored = read_pairs(asked.data, "dev", asked.text, asked.label, asked.separator)
    learnt = read_pairs(asked.data, "train", asked.text, asked.label, asked.separator)
    loaded = asked.load()
    few = scored if asked.sentences is None else scored.sample(asked.sentences)
    notes = ("Statistics are taken on the texts that are scored.",) if learnt.source == scored.source else ()
    if few is not scored:
        notes = (*notes, of_sample(few, scored, "texts"))
    return make_sequence_study(
        loaded, few, learnt.sample(asked.calibration or CALIBRATION), task, asked.max_length, notes
    )  # fmt: skip


def make_sequence_study(
    loaded: LoadedModel, scored: TextPairs, calibration: TextPairs, task: Task, max_length: int | None = None,
    notes: tuple[str, ...] = (),
) -> Study:  # fmt: skip
    """A Study from pairs that are there; `notes` are what its user should know of them."""
    data = fit_pairs(loaded, scored, min(max_length or task.max_length, loaded.max_length))
    measured = fit_pairs(loaded, calibration, data.max_length)
    question = ask_about(loaded.model, loaded.tokenizer, data, scored.targets, task)
    answered = []
    if isinstance(question, Sequences) and question.how is not None:
        answered = [list(scored.targets), facts_of(loaded.model, question.how)]
    notes = (*dict.fromkeys((*scored.notes, *calibration.notes)), *notes_of(loaded, data, scored, question.task), *notes)
    return Study(
        loaded=loaded,
        question=question,
        calibration=measured,
        data_id=digest(*data.facts(), *answered, question.task.metrics),
        calibration_id=digest(*measured.facts()),
        source=scored.source,
        notes=(*loaded.notes, *notes),
    )


def fit_pairs(loaded: LoadedModel, pairs: TextPairs, max_length: int) -> Pairs:
    """Pairs as a model's tokens, which it has embeddings and positions for; raises VPError as `encode_pairs` does."""
    most = min(TARGET_LENGTH, longest_input(loaded.model.config))
    found = encode_pairs(loaded.model, loaded.tokenizer, pairs.sources, pairs.targets, max_length, most)
    for side in (found.sources, found.targets):
        check_numbers(loaded.model, loaded.tokenizer, side)
    return found


def notes_of(loaded: LoadedModel, data: Pairs, pairs: TextPairs, task: Task) -> tuple[str, ...]:
    """What is unknown of the pairs, what was cut of them, and what ROUGE does not see."""
    texts = [(text,) for text in pairs.targets]
    found = list(check_texts(loaded.model, loaded.tokenizer, data.sources.texts or (), data.sources))
    found += [f"Targets: {note}" for note in check_known(loaded.tokenizer, texts, data.targets)]
    if data.targets_cut:
        cut = f"{data.targets_cut} of {len(data)} targets were longer than {data.longest_target} tokens and lost their end"
        found.append(f"{cut}; as many tokens are written at most.")
    if task.metric.startswith("rouge") and (silent := sum(not words_of(target) for target in pairs.targets)):
        found.append(f"{silent} of {len(data)} targets have no letter from a to z and no digit: their ROUGE is 0.")
    return (*found, *_prefixes(loaded, pairs))


def _prefixes(loaded: LoadedModel, pairs: TextPairs) -> tuple[str, ...]:
    """A note if the model was made for sources that begin with words of their own (T5's `summarize: `), and none does."""
    tasks = getattr(loaded.model.config, "task_specific_params", None) or {}
    known = [prefix for one in tasks.values() if isinstance(one, dict) and (prefix := one.get("prefix"))]
    if not known or any(text.startswith(prefix) for text in pairs.sources for prefix in known):
        return ()
    return (f"No text begins with {known[0]!r} or the like, as this model's tasks do: nothing was put before the texts.",)
