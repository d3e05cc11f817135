"""Windows of a text: every token once, its bytes, samples, and texts that are none."""

import language
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.asking.words.windows import LEAST, around, cut, read_text, sample
from vp_core.ground.errors import VPError

TOKENS = {begins: language.tokenizer(begins) for begins in (False, True)}
TEXT = language.text(300)


@settings(max_examples=60)
@given(st.booleans(), st.integers(LEAST + 1, 60), st.integers(1, 59), st.integers(60, len(TEXT)))
def test_each_token_is_predicted_once_and_knows_its_place(begins, length, stride, characters):
    tokenizer, text = TOKENS[begins], TEXT[:characters]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = int(begins)
    room = length - special
    if len(ids) < room:
        return
    step = min(stride, room)
    windows = cut(tokenizer, text, length, step if stride < room else None)
    seen = []
    for number, (row, start) in enumerate(zip(windows.data.ids, windows.starts, strict=True)):
        begin = number * step
        assert row == [0] * special + ids[begin : begin + room]
        assert start >= 1  # nothing is predicted from nothing
        seen += range(begin + start - special, begin + len(row) - special)
    assert len(seen) == len(set(seen))
    unseen = set(range(len(ids))) - set(seen)
    if begins:
        assert unseen == set()
    elif step < room:
        assert unseen == {0}
    else:  # the first of each window, also of a last one that has no other
        assert unseen == set(range(0, len(ids), room))


def test_bytes_are_those_that_decoding_gives():
    """A token in the middle of a letter counts none: the letter's bytes are all with its first one."""
    for begins, tokenizer in TOKENS.items():
        for stride in (None, 7):
            windows = cut(tokenizer, TEXT, 24, stride)
            for ids, start, size in zip(windows.data.ids, windows.starts, windows.sizes, strict=True):
                said = tokenizer.decode(ids[start:])
                if "�" not in said:
                    assert len(said.encode()) == size
            if begins or stride:
                first = 0 if begins else len(tokenizer.decode(windows.data.ids[0][:1]).encode())
                assert windows.sizes.sum() == len(TEXT.encode()) - first


def test_special_tokens_around_a_text():
    assert around(TOKENS[False]) == ([], []) and around(TOKENS[True]) == ([0], [])
    both = language.tokenizer(True, masks=True)
    assert around(both) == ([0], [1]) and around(both, ends=False) == ([0], [])
    windows = cut(both, TEXT, 24, ends=True)
    assert all(row[0] == 0 and row[-1] == 1 and len(row) <= 24 for row in windows.data.ids)
    inner = [token for row in windows.data.ids for token in row[1:-1]]
    assert inner == both(TEXT, add_special_tokens=False)["input_ids"]


def test_a_tokeniser_without_special_tokens_pads_with_what_is_there():
    bare = language.tokenizer(pads=False)
    assert bare.pad_token_id is None and cut(bare, TEXT, 24).data.pad_id == 0


def test_samples_are_of_the_text_and_spread():
    tokenizer, text = TOKENS[True], language.text(30_000, seed=3)
    found = sample(tokenizer, text, 24, 6)
    assert len(found) == 6 and {len(row) for row in found.data.ids} == {24}
    places = [text.find(tokenizer.decode(row[1:]).rstrip("�")) for row in found.data.ids]
    assert places == sorted(places) and places[0] >= 0 and places[-1] > 0.7 * len(text)
    assert all(text[place - 1] == "\n" for place in places if place)
    again = sample(tokenizer, text, 24, 6)
    assert again.data.ids == found.data.ids
    few = sample(tokenizer, TEXT, 24, 5)  # a short text: of its own windows, first and last among them
    whole = cut(tokenizer, TEXT, 24)
    assert len(few) == 5 and [few.data.ids[0], few.data.ids[-1]] == [whole.data.ids[0], whole.data.ids[-1]]
    assert len(sample(tokenizer, TEXT, 24, 10**6)) == len(whole)


@pytest.mark.parametrize(
    ("length", "stride", "says"),
    [(8, None, "Windows cannot have 8 tokens: choose 9 or more"), (24, 24, "stride 24 is not between 1 and the 23 tokens"),
     (24, 0, "stride 0 is not between"), (10**4, None, "less than one window of 9,999")],
)  # fmt: skip
def test_what_cannot_be_cut(length, stride, says):
    with pytest.raises(VPError, match=says) as raised:
        cut(TOKENS[True], TEXT, length, stride)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_a_tokeniser_that_knows_no_letter():
    class Mute:
        """Makes special tokens only."""

        def __call__(self, _text, **_options):
            return {"input_ids": [0, 1], "special_tokens_mask": [1, 1]}

    with pytest.raises(VPError, match="no word for the letter a"):
        around(Mute())


def test_line_ends_and_a_mark_at_the_beginning_are_no_text(tmp_path):
    for name, content in {
        "plain": TEXT.encode(), "crlf": TEXT.replace("\n", "\r\n").encode(), "bom": b"\xef\xbb\xbf" + TEXT.encode()
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert read_text(tmp_path / name) == TEXT, name


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no text in it"), (b" \n\n", "no text in it"), (TEXT.encode("utf-16"), "UTF-16 text"), (b"abc\0def", "NUL byte"),
     (bytes(range(128, 256)), "not UTF-8 text")],
)  # fmt: skip
def test_files_that_are_no_text(tmp_path, content, says):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(VPError, match=says) as raised:
        read_text(tmp_path / "file")
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_windows_at_positions():
    windows = cut(TOKENS[True], TEXT, 24)
    some = windows.at(np.array([3, 1]))
    assert some.data.ids == [windows.data.ids[3], windows.data.ids[1]] and len(some) == 2
    assert some.sizes.tolist() == windows.sizes[[3, 1]].tolist() and some.data.pad_id == windows.data.pad_id
