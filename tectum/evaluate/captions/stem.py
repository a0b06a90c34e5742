"""The English Snowball stemmer ("Porter2", Porter 2001), in the version that METEOR 1.5 carries; later ones changed some rules.

R1 is what follows the first non-vowel after a vowel, R2 the same of R1; suffixes are cut or replaced where they lie in one of
them, in five steps. https://snowballstem.org/algorithms/english/stemmer.html
"""

from __future__ import annotations

import re
from functools import lru_cache

_VOWEL = "aeiouy"
_DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")
_WHOLE = {
    "skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl", "gently": "gentl",
    "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl", "sky": "sky", "news": "news", "howe": "howe",
    "atlas": "atlas", "cosmos": "cosmos", "bias": "bias", "andes": "andes",
}  # fmt: skip
_AFTER_STEP_1A = ("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed")
# Each table: the longest suffix that fits counts, and no other, even if its condition then fails.
_STEP_2 = {
    "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able", "entli": "ent", "izer": "ize", "ization": "ize",
    "ational": "ate", "ation": "ate", "ator": "ate", "alism": "al", "aliti": "al", "alli": "al", "fulness": "ful", "ousli": "ous",
    "ousness": "ous", "iveness": "ive", "iviti": "ive", "biliti": "ble", "bli": "ble", "ogi": "og", "fulli": "ful",
    "lessli": "less", "li": "",
}  # fmt: skip
_STEP_3 = {
    "tional": "tion", "ational": "ate", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
    "ative": "",
}  # fmt: skip
_STEP_4 = dict.fromkeys(
    (
        "al",
        "ance",
        "ence",
        "er",
        "ic",
        "able",
        "ible",
        "ant",
        "ement",
        "ment",
        "ent",
        "ism",
        "ate",
        "iti",
        "ous",
        "ive",
        "ize",
        "ion",
    ),
    "",
)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a word in lower case.

    >>> [stem(word) for word in ("running", "skies", "generously", "happily", "dogs'", "kite")]
    ['run', 'sky', 'generous', 'happili', 'dog', 'kite']
    """
    if word in _WHOLE:
        return _WHOLE[word]
    if len(word) <= 2:
        return word
    word = _mark_consonant_y(word.removeprefix("'"))
    r1, r2 = _regions(word)
    word = _cut_first(word, ("'s'", "'s", "'"))
    word = _step_1a(word)
    if word in _AFTER_STEP_1A:
        return word
    word = _step_1b(word, r1)
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWEL:
        word = word[:-1] + "i"
    word = _step_2(word, r1)
    word = _step_3(word, r1, r2)
    word = _step_4(word, r2)
    return _step_5(word, r1, r2).lower()


def _mark_consonant_y(word: str) -> str:
    """y as Y where it begins the word or follows a vowel: a consonant there."""
    letters = list(word)
    for i, letter in enumerate(letters):
        if letter == "y" and (i == 0 or letters[i - 1] in _VOWEL):
            letters[i] = "Y"
    return "".join(letters)


def _regions(word: str) -> tuple[int, int]:
    """Where R1 and R2 begin."""

    def after_vowel_and_other(start: int) -> int:
        found = re.search(f"[{_VOWEL}][^{_VOWEL}]", word[start:])
        return start + found.end() if found else len(word)

    special = re.match("gener|commun|arsen", word)
    r1 = special.end() if special else after_vowel_and_other(0)
    return r1, after_vowel_and_other(r1)


def _cut_first(word: str, suffixes: tuple[str, ...]) -> str:
    for suffix in suffixes:
        if word.endswith(suffix):
            return word.removesuffix(suffix)
    return word


def _has_vowel(text: str) -> bool:
    return any(letter in _VOWEL for letter in text)


def _ends_in_short_syllable(word: str) -> bool:
    """A vowel between non-vowels, the last not w, x or Y; or a vowel that begins the word, before a non-vowel that ends it."""
    return bool(re.search(f"[^{_VOWEL}][{_VOWEL}][^{_VOWEL}wxY]$|^[{_VOWEL}][^{_VOWEL}]$", word))


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _has_vowel(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, r1: int) -> str:
    for suffix in ("eedly", "ingly", "edly", "eed", "ing", "ed"):
        if word.endswith(suffix):
            break
    else:
        return word
    base = word.removesuffix(suffix)
    if suffix.startswith("eed"):
        return base + "ee" if len(base) >= r1 else word
    if not _has_vowel(base):
        return word
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if base.endswith(_DOUBLES):
        return base[:-1]
    return base + "e" if len(base) <= r1 and _ends_in_short_syllable(base) else base


def _longest(word: str, suffixes: dict[str, str]) -> str:
    return max((suffix for suffix in suffixes if word.endswith(suffix)), key=len, default="")


def _step_2(word: str, r1: int) -> str:
    suffix = _longest(word, _STEP_2)
    base = word.removesuffix(suffix)
    if not suffix or len(base) < r1:
        return word
    if (suffix == "ogi" and not base.endswith("l")) or (suffix == "li" and base[-1:] not in set("cdeghkmnrt")):
        return word
    return base + _STEP_2[suffix]


def _step_3(word: str, r1: int, r2: int) -> str:
    suffix = _longest(word, _STEP_3)
    base = word.removesuffix(suffix)
    if not suffix or len(base) < (r2 if suffix == "ative" else r1):
        return word
    return base + _STEP_3[suffix]


def _step_4(word: str, r2: int) -> str:
    suffix = _longest(word, _STEP_4)
    base = word.removesuffix(suffix)
    if not suffix or len(base) < r2 or (suffix == "ion" and base[-1:] not in ("s", "t")):
        return word
    return base


def _step_5(word: str, r1: int, r2: int) -> str:
    base = word[:-1]
    if word.endswith("e") and (len(base) >= r2 or (len(base) >= r1 and not _ends_in_short_syllable(base))):
        return base
    if word.endswith("ll") and len(base) >= r2:
        return base
    return word
