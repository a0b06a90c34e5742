"""Tokenizer files as transformers writes them, to and from our `Tokenizer`."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers, processors

from tectum.errors import CheckpointError, ConfigError
from tectum.hub.files import read_json, write_json
from tectum.media.text import Tokenizer, clip_tokenizer

_LEFT = ("Siglip2Tokenizer",)  # classes that pad on the left unless told otherwise


def read_tokenizer(folder: Path, positions: int, *, pads: bool) -> Tokenizer:
    """The tokenizer of a checkpoint: tokenizer.json, or CLIP's vocab.json and merges.txt, with what tokenizer_config.json says.

    Which marks stand before and after a text is asked of the tokenizer itself; `add_bos_token` and `add_eos_token` go before it,
    as they do in transformers. A `do_lower_case` that tokenizer.json ignores is carried out: SigLIP 2 was trained so.

    Args:
        folder: where the files are.
        positions: how many tokens the model has positions for.
        pads: whether padding reaches the vectors (SigLIP), so that it must be known.

    Raises:
        CheckpointError: if a file is missing or damaged, or does not say what the vectors depend on.
    """
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            settings |= read_json(folder / name)
    limit = settings.get("model_max_length")
    context = min(positions, int(limit)) if isinstance(limit, int | float) and limit >= 1 else positions
    try:
        if not (folder / "tokenizer.json").exists():
            return _from_vocabulary(folder, settings, context)
        return _from_json(folder, settings, context, pads)
    except ConfigError as error:
        raise CheckpointError(f"{folder} has a tokenizer that cannot be used: {error}") from error


def write_tokenizer(tokenizer: Tokenizer, folder: Path, *, masks: bool = False) -> None:
    """Writes tokenizer.json and tokenizer_config.json so that transformers' AutoTokenizer gives the same ids.

    `masks` says that it is also to tell padding apart: RoBERTa must not see it, SigLIP must, and before CLIP's end it never is.
    """
    inner = tokenizers.Tokenizer.from_str(tokenizer.inner.to_str())
    bos, eos, pad = ("" if i is None else inner.id_to_token(i) for i in (tokenizer.bos, tokenizer.eos, tokenizer.pad))
    marks = [(mark, i) for mark, i in ((bos, tokenizer.bos), (eos, tokenizer.eos)) if mark]
    inner.post_processor = processors.TemplateProcessing(single=[*([bos] if bos else []), "$A", eos], special_tokens=marks)
    (folder / "tokenizer.json").write_text(inner.to_str(pretty=True), encoding="utf-8")
    named = {"bos_token": bos} if bos else {}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "eos_token": eos,
        "pad_token": pad,
        "padding_side": "right",
        "model_max_length": tokenizer.context,
        "model_input_names": ["input_ids", *(["attention_mask"] if masks else [])],
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", settings)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def _from_vocabulary(folder: Path, settings: dict[str, Any], context: int) -> Tokenizer:
    if not (folder / "vocab.json").exists():
        raise CheckpointError(
            f"{folder} has no tokenizer.json, nor vocab.json and merges.txt: fetch the tokenizer too; one that has only a "
            "SentencePiece model is converted by AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    return clip_tokenizer(folder, context, _mark(settings, "pad_token") or "<|endoftext|>")


def _from_json(folder: Path, settings: dict[str, Any], context: int, pads: bool) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises a bare Exception
        raise CheckpointError(f"{path} is damaged ({error}): fetch it again") from error
    padding = inner.padding or {}
    inner.no_padding()
    inner.no_truncation()
    lowers = settings.get("do_lower_case") or settings.get("tokenizer_class") == "Siglip2Tokenizer"
    if lowers and '"Lowercase"' not in json.dumps(json.loads(inner.to_str())["normalizer"]):
        rest = [] if inner.normalizer is None else [inner.normalizer]
        inner.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])

    bos, eos = _marks_around(inner, path)
    if "add_bos_token" in settings or "add_eos_token" in settings:
        bos = _id(inner, settings, "bos_token") if settings.get("add_bos_token") else None
        eos = _id(inner, settings, "eos_token") if settings.get("add_eos_token") else None
    if eos is None:
        raise CheckpointError(f"{path} ends no text with an end token: set add_eos_token and eos_token in tokenizer_config.json")
    pad = _id(inner, settings, "pad_token")
    pad = padding.get("pad_id") if pad is None else pad
    class_side = "left" if settings.get("tokenizer_class") in _LEFT else "right"
    if pads and settings.get("padding_side", padding.get("direction", class_side)) == "left":
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'} pads on the left (as {settings.get('tokenizer_class')} does unless told), but "
            "the last token is pooled and SigLIP was trained padded on the right: set padding_side to 'right'"
        )
    if pads and pad is None:
        raise CheckpointError(f"{folder} names no pad_token, and SigLIP sees padding: set it in tokenizer_config.json")
    return Tokenizer(inner=inner, bos=bos, eos=eos, pad=eos if pad is None else pad, context=context)


def _marks_around(inner: tokenizers.Tokenizer, path: Path) -> tuple[int | None, int | None]:
    """The ids that the tokenizer itself puts before and after a text."""
    plain, full = (inner.encode("a", add_special_tokens=marked).ids for marked in (False, True))
    starts = [at for at in range(len(full) - len(plain) + 1) if full[at : at + len(plain)] == plain]
    if not starts or starts[0] > 1 or len(full) - len(plain) - starts[0] > 1:
        raise CheckpointError(f"{path} puts more than one token before or after a text ({full}): this is no CLIP or SigLIP one")
    head, tail = full[: starts[0]], full[starts[0] + len(plain) :]
    return (head[0] if head else None), (tail[0] if tail else None)


def _mark(settings: dict[str, Any], name: str) -> str | None:
    value = settings.get(name)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _id(inner: tokenizers.Tokenizer, settings: dict[str, Any], name: str) -> int | None:
    mark = _mark(settings, name)
    if mark is None:
        return None
    if (found := inner.token_to_id(mark)) is None:
        raise CheckpointError(f"tokenizer_config.json names {mark!r} as {name}, which tokenizer.json lacks: fetch both again")
    return found
