"""Captions to words, as the COCO caption scorers see them.

Those scorers run Stanford's Java PTBTokenizer 3.4.1 in lower case, one caption a line, and drop its punctuation tokens (Chen et
al. 2015, arXiv:1504.00325, §4). This does the same in pure Python, learnt from what that program answers: of the 25,014
captions of COCO val2017 all but one come out the same.

That one is meant. The Java program reads all captions as one text, so that the full stop after a single letter at the end of a
caption ("12th Ave S.") stays or goes by how the *next* caption begins. Here a caption is read by itself, and the stop goes.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from tectum.errors import EvaluationError

Tokenizer = Literal["ptb", "split"]
"""How a caption becomes words: "ptb" as above; "split" at white space, for captions that are tokenised already."""


def tokenize(caption: str, tokenizer: Tokenizer = "ptb") -> list[str]:
    """The words of a caption.

    Raises:
        EvaluationError: if there is no such tokenizer.

    >>> tokenize('A man\\'s dog can\\'t see the "Blvd." sign, upside-down.')
    ['a', 'man', "'s", 'dog', 'ca', "n't", 'see', 'the', 'blvd.', 'sign', 'upside-down']
    >>> tokenize("Blvd. sign.", "split")
    ['Blvd.', 'sign.']
    """
    if tokenizer == "split":
        return caption.split()
    if tokenizer != "ptb":
        raise EvaluationError(f"tokenizer is {tokenizer!r}: choose {' or '.join(get_args(Tokenizer))}")
    if not _PLAIN.issuperset(caption):
        caption = _BEYOND_16_BITS.sub("", _ENTITY.sub(lambda entity: _ENTITIES[entity[1]], caption)).translate(_CHARACTERS)
    words: list[str] = []
    for token in _TOKEN.findall(caption.rstrip()):
        token = token.lower()
        if token in _SPLIT:
            words += _SPLIT[token]
        elif token not in _DROPPED:
            words.append(token if token.isalnum() else token.translate(_BRACKETS))
    return words


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,'-\"")
_DROPPED = frozenset([".", "?", "!", ",", ":", ";", "'", "''", "`", "``", '"', "-"])
_BRACKETS = str.maketrans({"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"})
_SPLIT = {
    "cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "wanna": ("wan", "na"), "lemme": ("lem", "me"),
    "gimme": ("gim", "me"), "more'n": ("more", "'n"), "'tis": ("'t", "is"), "'twas": ("'t", "was"),
}  # fmt: skip

_CHARACTERS = str.maketrans(
    dict.fromkeys("“”«»", '"')
    | dict.fromkeys("’›", "'")
    | dict.fromkeys("‘‹", "`")
    | dict.fromkeys("–—―‒…\u200b\u200c\u200d\ufeff", " ")
    | dict.fromkeys("\u00ad\ufe0e\ufe0f", None)
    | {"€": "$", "£": "#", "¢": " cents ", "½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
)
# Emoji need two of Java's characters, and its tokenizer drops both.
_BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")
_ENTITY = re.compile("&(amp|lt|gt|quot|apos);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def _any(words: str) -> str:
    return "(?:" + "|".join(word.replace(".", r"\.") for word in words.split()) + ")"


# Words that keep their full stop: in any case, with a capital only, before a number only.
_ABBREVIATION = _any(
    """adm al ala apr ariz assn assoc atty aug ave bancorp bhd bldg blvd bros calif capt cf cie cmdr co col colo conn corp cos
    cpl ct dak dec dept dr drs esq est etc ext feb fla fri ft ga gen gov hon inc ind insp intl jan jr jul jun kan kans
    ky lt ltd maj mar md messrs mich minn mlle mme mo mon mont mr mrs ms mt natl neb nev nov oct okla penn ph.d plc pres
    prof pty ptys rd rep reps rev rt sen sep sept seq sgt sq sr st ste supt sys tel tenn thu thurs treas tue tues univ
    va vs vt wed wis wisc wyo"""
)
_CAPITALISED = _any("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash ARK AZ DEL ILL LA MASS MISS ORE PA TEX WASH")
_NUMBERED = _any("art ca figs? nos? pp prop")
# A full stop after a single letter belongs to it ("W. Centre"), unless the caption or a sentence ends there.
_STARTER = _any(
    """A About After An As At But He Her Here If In It Last Many More Now Once One Other She So Some Such That The Their Then
    There These They This We What When While Yet You"""
)
# Letters, and beyond Latin whole blocks, because vowel signs are no letters to `re`.
_L = (
    "[A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u167f\u1681-\u1fff\u2c00-\u2dff\u3040-\ud7ff\uf900-\ufdfb\ufe70-\ufefc"
    "\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc]"
)
_A = rf"(?:{_L}|[0-9])"
_WORD = rf"{_A}+(?:_{_A}+)*"
_CLITIC = rf"(?i:ll|re|ve|s|m|d)(?!{_A})"

_TOKEN = re.compile(
    r"\s*("
    + "|".join(
        [
            # most words of most captions
            r"[A-Za-z]+(?=[ ,]|$)|,",
            # addresses, users, tags; smileys
            r"(?:https?://|www\.)[^\s<>\"]*[\w/]",
            r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*|@[A-Za-z_]\w*|#[A-Za-z]+|</?[A-Za-z]+/?>",
            r"[<>]?[:;=](?:['o*-]?[()DPp|@{\[\\\]]|[O3])(?![A-Za-z0-9])",
            # abbreviations, acronyms, initials
            rf"(?:(?i:{_ABBREVIATION})|{_CAPITALISED})\.(?!{_A})|(?i:{_NUMBERED})\.(?=\s?[0-9])",
            rf"{_L}(?:\.{_L})+\.?(?!{_A})(?:-{_WORD})?",
            rf"{_L}\.(?!{_A}|[\s'\"]*$|\s+{_STARTER}\b)",
            # numbers: 1,000 and 6:55 and 2.5-inch; -5 and .25
            rf"[-+]?[0-9]+(?:[.,:][0-9]+)+(?:-{_L}{_A}*)?|[-+]?\.[0-9]+|[-+][0-9]+",
            # do|n't, he|'s; o'clock, O'Brien, ma'am, 'em, '90s, y'|all
            rf"{_L}+(?=(?i:n't)(?!{_A}))|(?i:n't)(?!{_A})|'{_CLITIC}",
            rf"[Yy]'(?!{_CLITIC})(?={_L})|(?:[A-XZ]|[dlno])'(?!{_CLITIC}){_L}{{2,}}|(?i:[a-z]*[aeiouy]'(?!{_CLITIC})[aeiou][a-z]*)",
            rf"(?i:'(?:em|till?|cause|n'?|tis|twas|[0-9][0-9]s?(?!'s))|(?:ol|somethin|dunkin)'|more'n|s'mores)(?!{_A})",
            # AT&T; parked.A, foo!bar, e.g. what a missing space leaves; state-of-the-art, and/or
            rf"[A-Z]+(?:&[A-Z]+)+|(?:US|[AC])\$|{_L}{_A}*(?:[.!?]{_L}{_A}*)+(?:-{_WORD})*|{_WORD}(?:[-/‐‑]{_WORD})*",
            # what is left: marks, alone or in runs; of hyphens at least five, fewer say nothing
            r"[!?]+|-{5,}|\*+|#+|_+|<<|>>|\S",
        ]
    )
    + ")"
)
