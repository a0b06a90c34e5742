"""Text: files to strings, and strings to padded token ids."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from tectum.errors import CheckpointError, ConfigError, MediaError
from tectum.files import write_text
from tectum.media.kinds import audio_format, image_format, is_text
from tectum.media.source import display, open_source

_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """Texts to ids [n, context]: bos, the words' pieces, eos, then pad.

    A text that is too long keeps `bos` first and `eos` in the last slot. `bos` is None for models without one. Pool at the
    *first* `eos`: `pad` may be the same id.

    >>> tok = train_bpe(["a red fox"] * 2, vocab_size=300, context=8)
    >>> tok(["a red fox"]).shape
    torch.Size([1, 8])
    >>> tok.decode(tok(["A  red\\tfox"])[0])
    'a red fox'
    """

    inner: tokenizers.Tokenizer
    bos: int | None
    eos: int
    pad: int
    context: int

    def __post_init__(self) -> None:
        if self.context < 3:
            raise ConfigError(f"a context of {self.context} tokens leaves no room for a word: give at least 3")

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return self.inner.get_vocab_size(with_added_tokens=True)

    def __call__(self, texts: Sequence[str], context: int | None = None) -> Tensor:
        """int64 [n, context]. `context` overrides the tokenizer's own."""
        if isinstance(texts, str):
            raise ConfigError("give a list of texts: a single string would be read as one text per letter")
        context = self.context if context is None else context
        if context < 3:
            raise ConfigError(f"a context of {context} tokens leaves no room for a word: give at least 3")
        out = torch.full((len(texts), context), self.pad, dtype=torch.int64)
        head = [] if self.bos is None else [self.bos]
        for row, encoding in zip(out, self.inner.encode_batch_fast(list(texts), add_special_tokens=False), strict=True):
            ids = [*head, *encoding.ids[: context - 1 - len(head)], self.eos]
            row[: len(ids)] = torch.tensor(ids)
        return out

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of one row, up to its first `eos`."""
        kept: list[int] = []
        for i in map(int, ids):
            if i == self.eos:
                break
            if i not in (self.bos, self.pad):
                kept.append(i)
        return self.inner.decode(kept, skip_special_tokens=False).strip(" ")

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json into `folder`, each beside and then renamed."""
        settings = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "context": self.context}
        os.makedirs(folder, exist_ok=True)
        for name, text in zip(_FILES, (self.inner.to_str(), json.dumps(settings, indent=1)), strict=True):
            write_text(Path(folder) / name, text)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The inverse of `save`. Raises CheckpointError when a file is missing or damaged."""
        inner = _parse(Path(folder) / _FILES[0], tokenizers.Tokenizer.from_str)
        settings = _parse(Path(folder) / _FILES[1], json.loads)
        if set(settings) != {"bos", "eos", "pad", "context"}:
            raise CheckpointError(f"{display(Path(folder) / _FILES[1])} must hold bos, eos, pad and context: save it again")
        return cls(inner=inner, **settings)


def train_bpe(texts: Iterable[str], vocab_size: int, context: int, lowercase: bool = True) -> Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) over bytes, trained on `texts`: any text has ids, none is unknown.

    Text is put in NFC, lower case if wanted, and its white space folded. Pad, bos and eos are ids 0, 1 and 2; no text can
    spell them. The same texts in any order give the same tokenizer. `vocab_size` is an upper bound: few texts have few merges.

    Raises ConfigError when `vocab_size` is below 259 (256 bytes and 3 marks) or no text holds a letter.
    """
    if vocab_size < 259:
        raise ConfigError(f"vocab_size is {vocab_size}: bytes and marks alone need 259")
    inner = tokenizers.Tokenizer(models.BPE())
    fold = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    inner.normalizer = normalizers.Sequence([*([normalizers.Lowercase()] if lowercase else []), normalizers.NFC(), *fold])
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    marks = ["<|pad|>", "<|bos|>", "<|eos|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=marks, initial_alphabet=letters, show_progress=False)
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise ConfigError("no text to train a tokenizer on: give at least one that is not blank")
    inner.train_from_iterator(kept, trainer)
    # As "added" tokens the marks would be found inside a user's text; as mere vocabulary entries nothing merges into them.
    state = json.loads(inner.to_str())
    state["added_tokens"] = []
    return Tokenizer(inner=tokenizers.Tokenizer.from_str(json.dumps(state)), bos=1, eos=2, pad=0, context=context)


def clip_tokenizer(folder: str | Path, context: int = 77, pad: str = "<|endoftext|>") -> Tokenizer:
    """CLIP's tokenizer (Radford et al. 2021) from `vocab.json` and `merges.txt`: lower case, `</w>` ends a word.

    With OpenAI's files bos is 49406 and eos 49407. Hugging Face pads with eos; OpenAI and open_clip pad with id 0, which is
    the token "!": pass `pad="!"`. Unlike OpenAI's code, HTML entities and broken Unicode are left as they are. As there, a
    literal "<|endoftext|>" in a text becomes the mark itself.

    Raises CheckpointError when a file is missing, damaged or lacks a mark.
    """
    vocab = _parse(Path(folder) / "vocab.json", json.loads)
    lines = _parse(Path(folder) / "merges.txt", str.splitlines)
    merges = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    for mark in ("<|startoftext|>", "<|endoftext|>", pad):
        if mark not in vocab:
            raise CheckpointError(f"{display(Path(folder) / 'vocab.json')} has no {mark}: this is no CLIP vocabulary")
    try:
        bpe = models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token="<|endoftext|>",
        )
    except Exception as error:  # the library raises a bare Exception
        raise CheckpointError(f"{display(folder)}: merges.txt does not fit vocab.json ({error}): fetch both again") from error
    inner = tokenizers.Tokenizer(bpe)
    inner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    inner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(words), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    inner.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return Tokenizer(inner=inner, bos=vocab["<|startoftext|>"], eos=vocab["<|endoftext|>"], pad=vocab[pad], context=context)


def read_text(path: str | Path | bytes, *, max_bytes: int = 10 * 2**20) -> str:
    """A text file: UTF-16 and UTF-32 by their byte-order mark, else UTF-8, else Latin-1.

    Raises MediaError: "empty" (nothing but white space), "huge", "mislabelled" (binary), "broken" (bad UTF-16), "unreadable".
    """
    with open_source(path, max_bytes=max_bytes) as file:
        data = file.read()
    if not is_text(data):
        what = "a picture" if image_format(data) else "a sound" if audio_format(data) else "binary data"
        raise MediaError(f"{display(path)} holds {what}, not text: give it the extension of its format", "mislabelled")
    try:
        text = _decode(data)
    except UnicodeDecodeError as error:
        raise MediaError(
            f"{display(path)} starts as {error.encoding} but is damaged at byte {error.start}: save it as UTF-8"
        ) from error
    if not text.strip():
        raise MediaError(f"{display(path)} holds only white space: write something into it or delete it", "empty")
    return text


def _decode(data: bytes) -> str:
    # UTF-32's little-endian mark starts with UTF-16's, so ask for it first.
    for mark, name in ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
                       (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if data.startswith(mark):
            return data.decode(name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _parse(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{display(path)} is missing: give a folder that holds it") from error
    except Exception as error:  # the tokenizers library raises a bare Exception
        raise CheckpointError(f"{display(path)} is damaged ({error}): fetch or save it again") from error
