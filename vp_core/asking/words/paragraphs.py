"""Questions with their paragraphs as a model reads them: question, then as much of the paragraph as there is room for.

A paragraph that is longer than the room is read in windows, each of which begins `stride` tokens behind the last, so that they
overlap (Devlin et al. 2019). A paragraph is tokenised once, whatever number of questions is asked about it; a window is put
together when it is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded, Inputs, padded
from vp_core.asking.reading.squad import Asking
from vp_core.ground.errors import VPError

STRIDE = 128
"""Tokens that a window begins behind the last, as in BERT's own evaluation; half a window where that is less."""
LEAST = 8
"""Tokens of a paragraph that a window has room for at least."""
_PROBES = "a", "b"


@dataclass(frozen=True)
class Frame:
    """What a tokeniser puts `before` a question, `between` it and its paragraph, and `after` that; `segments` are the segment
    ids of before, question, between, paragraph and after (none: the model has no segments)."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    segments: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]] | None
    pad_id: int

    @property
    def special(self) -> int:
        """How many tokens it adds."""
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True, eq=False)
class Paragraphs(Inputs):
    """Windows of questions with their paragraphs.

    `questions[q]` and `paragraphs[p]` are token ids, `offsets[p]` (tokens, 2) the characters at which each token of a paragraph
    begins and ends; `about[q]` is the paragraph of question q. Window i is of question `of[i]` (rising), and reads tokens from
    `begins[i]` to before `ends[i]` of its paragraph; `texts[i]` are question and paragraph, whole. `truncated` is 0: no window
    loses anything.
    """

    asked: Sequence[Asking]
    frame: Frame
    questions: Sequence[np.ndarray]
    paragraphs: Sequence[np.ndarray]
    offsets: Sequence[np.ndarray]
    about: np.ndarray
    of: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    max_length: int
    stride: int | None = None
    texts: Sequence[tuple[str, ...]] | None = None
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.of)

    def parts(self) -> Encoded:
        """Questions and paragraphs by themselves, those that have tokens; the segments that there are stand in a single row."""
        about = {int(p): one.paragraph for p, one in zip(self.about, self.asked, strict=True)}
        texts = *(one.question for one in self.asked), *(about[p] for p in range(len(self.paragraphs)))
        rows = *self.questions, *self.paragraphs
        there = [(row.tolist(), (text,)) for row, text in zip(rows, texts, strict=True) if len(row)]
        types = None
        if self.frame.segments is not None:
            before, question, between, paragraph, after = self.frame.segments
            types = [[*before, question, *between, paragraph, *after]]
        ids, pieces = zip(*there, strict=True)
        return Encoded(ids, types, self.frame.pad_id, 0, self.max_length, pieces)

    def length(self, i: int) -> int:
        """Tokens of window i."""
        return self.frame.special + len(self.questions[self.of[i]]) + int(self.ends[i] - self.begins[i])

    def facts(self) -> tuple[object, ...]:
        """Tokens, segments, and which of them are together."""
        ids = [[row.tolist() for row in part] for part in (self.questions, self.paragraphs)]
        frame = self.frame
        where = self.about.tolist(), self.of.tolist(), self.begins.tolist(), self.ends.tolist()
        return *ids, *where, (frame.before, frame.between, frame.after, frame.segments)

    def together(self, members: Sequence[int]) -> Batch:
        """`input_ids`, `attention_mask` and, of a model with segments, `token_type_ids` (windows, tokens)."""
        ids, mask = padded([self.ids(i) for i in members], self.frame.pad_id)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.frame.segments is not None:
            inputs["token_type_ids"], _ = padded([self._segments(i) for i in members], 0)
        return Batch(inputs, np.array(members), [self.texts[i] for i in members] if self.texts else ())

    def ids(self, i: int) -> list[int]:
        """The token ids of window i."""
        q = self.of[i]
        read = self.paragraphs[self.about[q]][self.begins[i] : self.ends[i]]
        return [*self.frame.before, *self.questions[q].tolist(), *self.frame.between, *read.tolist(), *self.frame.after]

    def first(self, i: int) -> int:
        """The position in window i at which its paragraph's tokens begin."""
        return len(self.frame.before) + len(self.questions[self.of[i]]) + len(self.frame.between)

    def words(self, question: int, start: int, end: int) -> tuple[int, int]:
        """(first character, the one behind the last) of tokens `start` to `end` (with it) of a question's paragraph, without
        white space around: a token may hold the space before its word."""
        p, text = self.about[question], self.asked[question].paragraph
        first, last = int(self.offsets[p][start, 0]), int(self.offsets[p][end, 1])
        inside = text[first:last]
        first += len(inside) - len(inside.lstrip())
        return first, max(first, first + len(inside.strip()))

    def at(self, windows: np.ndarray) -> "Paragraphs":
        """These windows (n,), in rising order, alone, with the questions that they are of."""
        texts = [self.texts[i] for i in windows] if self.texts else None
        asked, of = np.unique(self.of[windows], return_inverse=True)
        about, paragraph = np.unique(self.about[asked], return_inverse=True)
        return Paragraphs(
            [self.asked[q] for q in asked], self.frame, [self.questions[q] for q in asked],
            [self.paragraphs[p] for p in about], [self.offsets[p] for p in about], paragraph, of,
            self.begins[windows], self.ends[windows], self.max_length, self.stride, texts,
        )  # fmt: skip

    def _segments(self, i: int) -> list[int]:
        assert self.frame.segments is not None
        before, question, between, paragraph, after = self.frame.segments
        read = int(self.ends[i] - self.begins[i])
        return [*before, *[question] * len(self.questions[self.of[i]]), *between, *[paragraph] * read, *after]


def windows_of(
    tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asking], max_length: int, stride: int | None = None
) -> Paragraphs:
    """Questions with their paragraphs in windows of at most `max_length` tokens, each `stride` tokens behind the last (None:
    STRIDE, or half of the room for a paragraph where that is less).

    Raises VPError for a tokeniser that does not say which characters its tokens are, a question that leaves no room for a
    paragraph, one with a paragraph of no tokens, and a stride that would leave tokens out.
    """
    frame = frame_of(tokenizer)
    distinct = list(dict.fromkeys(one.paragraph for one in asked))
    numbers = {text: p for p, text in enumerate(distinct)}
    paragraphs, offsets = _tokens(tokenizer, distinct)
    questions, _ = _tokens(tokenizer, [one.question for one in asked])
    about = np.array([numbers[one.paragraph] for one in asked], dtype=int)
    of, begins, ends = list[int](), list[int](), list[int]()
    for q, one in enumerate(asked):
        room, tokens = max_length - frame.special - len(questions[q]), len(paragraphs[about[q]])
        if room < LEAST:
            raise VPError(
                f"The question {one.id!r} has {len(questions[q]):,} tokens, and leaves no room for its paragraph in a "
                f"window of {max_length}: ask for longer windows (--max-length), or shorten the question."
            )
        if not tokens:
            raise VPError(f"The paragraph of the question {one.id!r} has no tokens: give it a text that the tokeniser knows.")
        if stride is not None and not 1 <= stride <= room:
            raise VPError(
                f"The stride {stride} is not between 1 and the {room} tokens of a paragraph that there is room for beside the "
                f"question {one.id!r}: leave it out, or take {STRIDE}."
            )
        for begin in range(0, tokens, stride or min(STRIDE, room // 2)):
            of.append(q)
            begins.append(begin)
            ends.append(min(begin + room, tokens))
            if ends[-1] == tokens:
                break
    made = Paragraphs(
        asked, frame, questions, paragraphs, offsets, about, np.array(of), np.array(begins), np.array(ends), max_length, stride,
        [(asked[q].question, asked[q].paragraph) for q in of],
    )  # fmt: skip
    _check_together(tokenizer, made)
    return made


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """What a tokeniser puts around a question and its paragraph; VPError for one without offsets, or that reads no pairs."""
    if not tokenizer.is_fast:
        raise VPError(
            "This tokeniser does not say which characters its tokens are, so an answer cannot be found in its paragraph: save "
            "the model with a fast tokeniser (tokenizer.json)."
        )
    found = tokenizer(*_PROBES, verbose=False)
    parts, ids = found.sequence_ids(0), list(found["input_ids"])
    if 0 not in parts or 1 not in parts:
        raise VPError("This tokeniser does not read a question with a paragraph: take the one that belongs to the model.")
    first, last, begin, end = parts.index(0), _last(parts, 0), parts.index(1), _last(parts, 1)
    types, segments = found.get("token_type_ids"), None
    if types is not None:
        segments = (
            tuple(types[:first]), types[first], tuple(types[last + 1 : begin]), types[begin], tuple(types[end + 1 :])
        )  # fmt: skip
    pad = tokenizer.pad_token_id
    return Frame(tuple(ids[:first]), tuple(ids[last + 1 : begin]), tuple(ids[end + 1 :]), segments, 0 if pad is None else pad)


def _last(parts: Sequence[int | None], part: int) -> int:
    return len(parts) - 1 - list(reversed(parts)).index(part)


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(token ids (n,), characters (n, 2)) of each text by itself."""
    ids, offsets = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(texts), 1024):
        found = tokenizer(
            list(texts[start : start + 1024]), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids += [np.array(row, dtype=np.int32) for row in found["input_ids"]]
        offsets += [np.array(row, dtype=np.int32).reshape(-1, 2) for row in found["offset_mapping"]]
    return ids, offsets


def _check_together(tokenizer: PreTrainedTokenizerBase, made: Paragraphs) -> None:
    """VPError unless the first window that holds a whole paragraph is what the tokeniser makes of both texts together."""
    for i in range(min(len(made), 64)):
        if made.begins[i] == 0 and made.ends[i] == len(made.paragraphs[made.about[made.of[i]]]):
            one = made.asked[made.of[i]]
            if list(tokenizer(one.question, one.paragraph, verbose=False)["input_ids"]) != made.ids(i):
                raise VPError(
                    "This tokeniser reads a question and a paragraph otherwise together than one by one: take the one that "
                    "belongs to the model."
                )
            return
