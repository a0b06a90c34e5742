"""Tokenizers against transformers and by construction; text files in every encoding."""

from __future__ import annotations

import codecs
import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from tectum.errors import CheckpointError, ConfigError, MediaError
from tectum.media.text import Tokenizer, clip_tokenizer, read_text, train_bpe

CAPTIONS = ["a red fox in the snow", "a dog barking at night", "rain on a tin roof", "grinning face with smiling eyes",
            "the dog's red ball"]  # fmt: skip


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe(CAPTIONS * 3, vocab_size=400, context=16)


# --- byte-level BPE -------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_has_ids_and_comes_back_folded(bpe: Tokenizer, text: str) -> None:
    ids = bpe([text], context=300)[0]
    assert ids[0] == bpe.bos and int((ids == bpe.eos).sum()) == 1
    assert int(ids.min()) >= 0 and int(ids.max()) < bpe.vocab_size
    if text.isascii():
        assert bpe.decode(ids) == re.sub(r"\s+", " ", text.lower(), flags=re.ASCII).strip(" ")
    assert torch.equal(bpe([bpe.decode(ids)], context=300)[0], ids)


def test_merges_are_the_frequent_pairs() -> None:
    tok = train_bpe(["ab"] * 5 + ["cd"] * 3 + ["ef"], vocab_size=259 + 2, context=8)
    ids = {text: tok([text])[0].tolist() for text in ("ab", "cd", "ef")}
    assert ids["ab"].index(tok.eos) <= 3 and ids["ef"].index(tok.eos) == 4  # " a b" loses one or two pieces, " e f" none
    assert tok.vocab_size == 261


def test_the_layout_is_bos_pieces_eos_pad(bpe: Tokenizer) -> None:
    rows = bpe(["a red fox", "", "dog " * 99, "dog"])
    assert rows.shape == (4, 16) and rows.dtype == torch.int64
    assert rows[1].tolist() == [bpe.bos, bpe.eos] + [bpe.pad] * 14
    assert rows[2, 0] == bpe.bos and rows[2, -1] == bpe.eos and (rows[2, 1:-1] == rows[3, 1]).all()
    assert torch.equal(bpe(["dog " * 99], context=5)[0], torch.cat([rows[2, :4], rows[2, -1:]]))
    assert bpe([]).shape == (0, 16)
    with pytest.raises(ConfigError, match="list of texts"):
        bpe("a red fox")
    with pytest.raises(ConfigError):
        bpe(["a"], context=2)


def test_no_text_can_spell_a_mark(bpe: Tokenizer) -> None:
    for text in ("<|eos|>", "a <|pad|> b", "<|bos|><|eos|>", "<|endoftext|>"):
        inner = bpe([text], context=64)[0].tolist()
        end = inner.index(bpe.eos)
        assert bpe.decode(inner) == text and bpe.bos not in inner[1:] and set(inner[end + 1 :]) == {bpe.pad}


def test_case_and_white_space_and_composition_are_folded(bpe: Tokenizer) -> None:
    same = bpe(["  a \t Café\u00a0dog\n", "a cafe\u0301 dog", "A CAFÉ DOG"])
    assert torch.equal(same[0], same[1]) and torch.equal(same[0], same[2])
    kept = train_bpe(CAPTIONS, vocab_size=300, context=16, lowercase=False)
    assert kept.decode(kept(["A Dog"])[0]) == "A Dog"


def test_training_is_deterministic_in_any_order_and_any_process(bpe: Tokenizer) -> None:
    words = ["red", "green", "dog", "cat", "fox", "snow", "rain", "roof"]
    texts = [" ".join(random.Random(i).choices(words, k=6)) for i in range(300)]
    first = train_bpe(texts, 400, 16).inner.to_str()
    random.Random(0).shuffle(texts)
    assert train_bpe(iter(texts), 400, 16).inner.to_str() == first
    code = (
        "import hashlib, sys, json; from tectum.media.text import train_bpe; texts = json.load(sys.stdin); "
        "print(hashlib.sha256(train_bpe(texts, 400, 16).inner.to_str().encode()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True,
                         env={"RAYON_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}).stdout  # fmt: skip
    assert out.strip() == hashlib.sha256(first.encode()).hexdigest()


def test_saving_and_loading(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "new" / "folder")
    again = Tokenizer.load(tmp_path / "new" / "folder")
    assert (again.bos, again.eos, again.pad, again.context, again.vocab_size) == (bpe.bos, bpe.eos, bpe.pad, 16, bpe.vocab_size)
    assert torch.equal(again([*CAPTIONS, "<|eos|> Ünïcode 🦊"]), bpe([*CAPTIONS, "<|eos|> Ünïcode 🦊"]))
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    with pytest.raises(CheckpointError, match="missing"):
        Tokenizer.load(tmp_path)
    for name, content in (("tokenizer.json", "{"), ("tokenizer_config.json", "[]"), ("tokenizer_config.json", '{"bos": 1}')):
        bpe.save(tmp_path / "bad")
        (tmp_path / "bad" / name).write_text(content)
        with pytest.raises(CheckpointError):
            Tokenizer.load(tmp_path / "bad")


def test_refused_training() -> None:
    for texts, size in ((CAPTIONS, 258), ([], 300), (["  ", "\n"], 300)):
        with pytest.raises(ConfigError):
            train_bpe(texts, size, 16)
    with pytest.raises(ConfigError):
        train_bpe(CAPTIONS, 300, 2)


# --- CLIP -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary in CLIP's layout, with merges drawn at random from the captions' own pieces."""
    from tokenizers.pre_tokenizers import ByteLevel

    rng = random.Random(7)
    letters = sorted(ByteLevel.alphabet())
    pieces = letters + [letter + "</w>" for letter in letters]
    words = [[*word[:-1], word[-1] + "</w>"] for word in " ".join(CAPTIONS).replace("'", " ' ").split()]
    merges: list[tuple[str, str]] = []
    for _ in range(120):
        word = rng.choice([w for w in words if len(w) > 1] or [["a", "b</w>"]])
        i = rng.randrange(len(word) - 1)
        pair = (word[i], word[i + 1])
        if pair not in merges:
            merges.append(pair)
            pieces.append("".join(pair))
        word[i : i + 2] = ["".join(pair)]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path_factory.mktemp("clip")
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n", encoding="utf-8")
    return folder


TRICKY = [*CAPTIONS, "", "  ", "It's  THE\tdog's\n42nd ball!!!", "naïve café ﬁ", "e\u0301", "🦊 fox 狐", "a <|endoftext|> b",
          "<|startoftext|>", "don't we'll I'd they've he's", "x" * 500, "word " * 100, "&amp; <b>", "#version: 0.2"]  # fmt: skip


def test_clip_equals_transformers(clip_folder: Path) -> None:
    peer = CLIPTokenizer.from_pretrained(str(clip_folder))
    ours = clip_tokenizer(clip_folder)
    for context in (77, 8):
        expected = peer(TRICKY, padding="max_length", truncation=True, max_length=context, return_tensors="pt").input_ids
        assert torch.equal(ours(TRICKY, context=context), expected)
    assert (ours.bos, ours.eos, ours.pad, ours.vocab_size) == (peer.bos_token_id, peer.eos_token_id, peer.pad_token_id, len(peer))
    assert ours.decode(ours(["A red FOX"])[0]) == "a red fox"


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=40))
def test_clip_equals_transformers_on_any_text(clip_folder: Path, text: str) -> None:
    peer = _peer(str(clip_folder))
    expected = peer([text], padding="max_length", truncation=True, max_length=32, return_tensors="pt").input_ids
    assert torch.equal(clip_tokenizer(clip_folder, context=32)([text]), expected)


def test_clip_pads_as_told_and_truncation_keeps_the_end(clip_folder: Path) -> None:
    for pad in ("<|endoftext|>", "!"):
        tok = clip_tokenizer(clip_folder, context=10, pad=pad)
        short, long = tok(["dog", "dog " * 50])
        first = int((short == tok.eos).nonzero()[0])
        assert (short[first + 1 :] == tok.pad).all()
        assert long[-1] == tok.eos and tok.eos not in long[:-1]
    assert tok.pad == json.loads((clip_folder / "vocab.json").read_text())["!"]


def test_a_clip_tokenizer_survives_saving(clip_folder: Path, tmp_path: Path) -> None:
    tok = clip_tokenizer(clip_folder, pad="!")
    tok.save(tmp_path)
    assert torch.equal(Tokenizer.load(tmp_path)(TRICKY), tok(TRICKY))


def test_clip_folders_that_are_wrong(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vocab\.json is missing"):
        clip_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(CheckpointError, match="no CLIP vocabulary"):
        clip_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_bytes((clip_folder / "vocab.json").read_bytes())
    (tmp_path / "merges.txt").write_text("qq zz\n")
    with pytest.raises(CheckpointError, match="does not fit"):
        clip_tokenizer(tmp_path)


_peers: dict[str, CLIPTokenizer] = {}


def _peer(folder: str) -> CLIPTokenizer:
    if folder not in _peers:
        _peers[folder] = CLIPTokenizer.from_pretrained(folder)
    return _peers[folder]


# --- files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_every_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a\nb 🦊.txt"
    path.write_bytes("señor Müller\n".encode(encoding))
    assert read_text(path) == "señor Müller\n"
    big = codecs.BOM_UTF16_BE + "狐".encode("utf-16-be")
    assert read_text(big) == "狐"


def test_texts_that_are_none(tmp_path: Path) -> None:
    cases = {
        b"": "empty", b" \n\t\xc2\xa0": "empty", b"\xef\xbb\xbf": "empty", b"\xff\xfea": "broken", b"x" * 2000: "huge",
        b"abc\0def": "mislabelled", bytes(range(256)): "mislabelled", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR": "mislabelled",
    }  # fmt: skip
    for content, expected in cases.items():
        path = tmp_path / "t.txt"
        path.write_bytes(content)
        with pytest.raises(MediaError) as caught:
            read_text(path, max_bytes=1000)
        assert caught.value.reason == expected, content[:10]
    with pytest.raises(MediaError):
        read_text(tmp_path)
