"""A long text as windows of tokens, one after another; each token is predicted once.

A window begins, and for an encoder ends, with the special tokens that the tokeniser puts around every text. With a `stride`
below a window's length windows overlap, so that a predicted token has more before it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from vp_core.asking.batches import Encoded
from vp_core.asking.reading.files import read_lines
from vp_core.ground.errors import VPError

LEAST = 8
"""Tokens of text that a window has at least: of fewer there is too little to predict from."""
_PIECE = 12
"""Characters for each token that a piece of text is cut to before it is tokenised: more than any tokeniser needs."""


@dataclass(frozen=True, eq=False)
class Windows:
    """`data`, and in window i the first position `starts[i]` (windows,) whose token has not been predicted before.

    `sizes` (windows,) are the bytes in UTF-8 of the tokens from there on; None for a tokeniser that does not say which.
    """

    data: Encoded
    starts: np.ndarray
    sizes: np.ndarray | None

    def __len__(self) -> int:
        return len(self.data)

    def at(self, places: np.ndarray) -> "Windows":
        """The windows at these positions."""
        ids = [list(self.data.ids[int(i)]) for i in places]
        sizes = None if self.sizes is None else self.sizes[places]
        return Windows(_encoded(ids, self.data.pad_id, self.data.max_length), self.starts[places], sizes)


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, its lines ending in a newline alone whatever wrote them.

    Raises VPError as `vp_core.asking.reading.files.read_lines` does, and if it is empty.
    """
    text = "".join(read_lines(Path(path))).replace("\r\n", "\n")
    if not text.strip():
        raise VPError(f"{str(path)!r} has no text in it: give one with a few thousand words.")
    return text


def around(tokenizer: PreTrainedTokenizerBase, ends: bool = True) -> tuple[list[int], list[int]]:
    """(the tokens that a text begins with, those that it `ends` with); VPError for a tokeniser that knows no letter."""
    found = tokenizer("a", return_special_tokens_mask=True)
    words = [place for place, special in enumerate(found["special_tokens_mask"]) if not special]
    if not words:
        raise VPError("This tokeniser has no word for the letter a: take the one that belongs to the model.")
    return found["input_ids"][: words[0]], found["input_ids"][words[-1] + 1 :] if ends else []


def cut(tokenizer: PreTrainedTokenizerBase, text: str, length: int, stride: int | None = None, ends: bool = False) -> Windows:
    """A whole text as windows of at most `length` tokens; the last one is shorter. `ends`: with the tokens that end a text.

    Without a first special token the first token of the text, and without an overlap that of every window, is not predicted.
    Raises VPError for a text of less than one window, and for a length or a stride that cannot be.
    """
    before, after = around(tokenizer, ends)
    room = check_room(length, len(before) + len(after))
    if stride is not None and not 1 <= stride <= room:
        raise VPError(f"The stride {stride} is not between 1 and the {room} tokens of a window: leave it out, or take half.")
    ids, upto = _tokens(tokenizer, text)
    if len(ids) < room:
        raise VPError(
            f"The text has {len(ids):,} tokens, less than one window of {room:,}: give a longer one, or shorter windows "
            "(--max-length)."
        )
    step, told, rows, starts, sizes = stride or room, 0, list[list[int]](), list[int](), list[int]()
    for begin in range(0, len(ids), step):
        end = min(begin + room, len(ids))
        start = max(told - begin, 0 if before else 1)
        if begin + start < end:
            rows.append([*before, *ids[begin:end], *after])
            starts.append(start + len(before))
            sizes.append(int(upto[end] - upto[begin + start]) if upto is not None else 0)
        if end == len(ids):
            break
        told = end
    data = _encoded(rows, tokenizer.pad_token_id, length)
    return Windows(data, np.array(starts), None if upto is None else np.array(sizes))


def sample(tokenizer: PreTrainedTokenizerBase, text: str, length: int, n: int, ends: bool = False) -> Windows:
    """`n` windows spread evenly over a text, each from the beginning of a line on (all there are of a short one).

    For statistics: only the pieces of the text that are used are tokenised.
    """
    before, after = around(tokenizer, ends)
    room = check_room(length, len(before) + len(after))
    piece = room * _PIECE
    if len(text) < 2 * n * piece:
        whole = cut(tokenizer, text, length, ends=ends)
        return whole.at(np.unique(np.linspace(0, len(whole) - 1, min(n, len(whole))).round().astype(int)))
    rows = []
    for place in np.linspace(0, len(text) - piece - 1, n).astype(int):
        begin = text.find("\n", place) + 1 or int(place)
        ids = tokenizer(text[begin : begin + piece], add_special_tokens=False, verbose=False)["input_ids"][:room]
        if len(ids) >= LEAST:
            rows.append([*before, *ids, *after])
    return Windows(_encoded(rows, tokenizer.pad_token_id, length), np.full(len(rows), max(len(before), 1)), None)


def check_room(length: int, special: int) -> int:
    """The tokens of text in a window of `length`; VPError if there is no room for any."""
    if length - special < LEAST:
        raise VPError(f"Windows cannot have {length} tokens: choose {LEAST + special} or more (--max-length).")
    return length - special


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], np.ndarray | None]:
    """(the token ids (n,) of a text, how many bytes of it lie before each token and before the end (n + 1,))."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    ids: list[int] = found["input_ids"]
    if not tokenizer.is_fast or not ids:
        return ids, None
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)  # a code point each; UTF-8 takes 1 to 4 bytes for it
    upto = np.concatenate([[0], np.cumsum(1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF))])
    last = np.maximum.accumulate(np.array(found["offset_mapping"])[:, 1])
    last[-1] = len(points)  # what stands behind the last token goes with it
    return ids, np.concatenate([[0], upto[last]])


def _encoded(rows: list[list[int]], pad: int | None, length: int) -> Encoded:
    return Encoded(rows, None, 0 if pad is None else pad, 0, length)
