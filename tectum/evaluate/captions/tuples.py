"""Tuple F: objects, attributes and relations that a caption shares with its references, read by simple rules.

In the manner of SPICE (Anderson et al. 2016, arXiv:1607.08822), but not SPICE: no parser, no WordNet, English only. A caption
is read from left to right with a list of closed-class words and of verbs that captions use:

- words between determiners, prepositions, conjunctions and verbs are a noun phrase. Its last word is an object `(bench,)`, the
  words before it are attributes `(bench, wooden)`; numbers too. "A group of", "a pair of" … count as determiners. An adjective
  known as one is no object: alone it is an attribute of the object before it, "the cat is black".
- a preposition relates the objects on its two sides, `(man, on, bench)`. "in front of", "on top of", "next to" … are one.
- a verb after an object is an attribute of it, `(man, sit)`, or relates it to the object that follows at once, `(man, ride,
  horse)`. After a determiner a form in -ing or -ed is an attribute of what follows: "a smiling child".
- words are compared by their Snowball stems, irregular plurals and past forms resolved.

The tuples of all references are one set R, those of the candidate a set C, and F = 2 |C ∩ R| / (|C| + |R|).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tectum.evaluate.captions.lexicon import (
    ADJECTIVES,
    DETERMINERS,
    IRREGULAR,
    NOT_ADVERBS,
    NOUNS_IN_ING,
    NUMBERS,
    PHRASES,
    PREPOSITIONS,
    QUANTITIES,
    SKIPPED,
    VERBS,
)
from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.captions.stem import stem
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport

_VERB_ROOTS = frozenset(map(stem, VERBS))


def tuple_f(captions: Captions) -> Measurement:
    """Tuple F, in [0, 1]; 0 where a caption or its references say nothing.

    >>> captions = Captions.of({"a": "a black dog sits on a bench"}, {"a": ["the dog is sitting on a wooden bench"]})
    >>> round(tuple_f(captions).score().value, 4)  # dog, bench, (dog, sit), (dog, on, bench); black and wooden are not shared
    0.8
    """
    items = len(captions.ids)
    referenced: list[set[tuple[str, ...]]] = [set() for _ in range(items)]
    for caption in captions.references.tolist():
        referenced[captions.owner[caption]] |= scene_tuples(captions.tokens[caption])
    values = np.zeros(items)
    for item in range(items):
        said = scene_tuples(captions.tokens[item])
        shared = len(said & referenced[item])
        values[item] = 2 * shared / (len(said) + len(referenced[item])) if shared else 0.0
    return Measurement.mean(Passport("tuple-f", {"tokenizer": captions.tokenizer, "rules": 1}), captions.ids, values)


def scene_tuples(words: Sequence[str]) -> set[tuple[str, ...]]:
    """The objects (o,), attributes (o, a) and relations (o, r, o) of a caption.

    >>> sorted(scene_tuples("two men riding a brown horse in front of a barn".split()))
    [('barn',), ('hors',), ('hors', 'befor', 'barn'), ('hors', 'brown'), ('man',), ('man', '2'), ('man', 'ride', 'hors')]
    """
    reader = _Reader()
    words = list(words)
    at = 0
    while at < len(words):
        length, name = _preposition(words, at)
        if words[at] in QUANTITIES and words[at + 1 : at + 2] == ["of"]:
            reader.determine()
            length = 2
        elif length:
            reader.relate(name)
        else:
            reader.read(words[at])
            length = 1
        at += length
    reader.end_phrase()
    reader.end_verb()
    return reader.tuples


def _preposition(words: Sequence[str], at: int) -> tuple[int, str]:
    for length in (4, 3, 2):
        name = PHRASES.get(tuple(words[at : at + length]))
        if name:
            return length, name
    return (1, words[at]) if words[at] in PREPOSITIONS else (0, "")


def _root(word: str) -> str:
    return stem(IRREGULAR.get(word, NUMBERS.get(word, word)))


class _Reader:
    """What has been read of a caption: the noun phrase so far, the object before it, and what waits for the next object."""

    def __init__(self) -> None:
        self.tuples: set[tuple[str, ...]] = set()
        self.phrase: list[str] = []
        self.determined = False
        self.left = ""
        self.relation = ""
        self.verb = ""

    def read(self, word: str) -> None:
        if word in DETERMINERS:
            self.determine()
        elif word in SKIPPED:
            # "black and white dog": colours go on across the conjunction.
            if not (word in ("and", "or") and self.phrase and ADJECTIVES.issuperset(self.phrase)):
                self.end_phrase()
                self.end_verb()
                self.relation = ""
        elif self._is_verb(word):
            self.end_phrase()
            self.end_verb()
            self.verb, self.relation, self.determined = _root(word), "", False
        elif not word.endswith("ly") or word in NOT_ADVERBS:
            self.phrase.append(word)

    def determine(self) -> None:
        """Another noun phrase begins."""
        self.end_phrase()
        self.determined = True

    def relate(self, name: str) -> None:
        """A preposition."""
        self.end_phrase()
        self.end_verb()
        self.relation, self.determined = _root(name), False

    def end_phrase(self) -> None:
        if not self.phrase:
            return
        nouns = [at for at, word in enumerate(self.phrase) if word not in ADJECTIVES]
        roots = [_root(word) for word in self.phrase]
        self.phrase = []
        if not nouns:
            self.tuples |= {(self.left, root) for root in roots if self.left}
            return
        head = roots.pop(nouns[-1])
        self.tuples.add((head,))
        self.tuples |= {(head, attribute) for attribute in roots}
        relation = self.verb or self.relation
        if self.left and relation:
            self.tuples.add((self.left, relation, head))
        self.left, self.relation, self.verb, self.determined = head, "", "", False

    def end_verb(self) -> None:
        """A verb that no object follows at once says something of its subject alone."""
        if self.verb and self.left:
            self.tuples.add((self.left, self.verb))
        self.verb = ""

    def _is_verb(self, word: str) -> bool:
        begun = any(word not in ADJECTIVES and word not in NUMBERS for word in self.phrase)
        if word.endswith("ing"):
            return word not in NOUNS_IN_ING and (begun or not self.determined)
        if _root(word) not in _VERB_ROOTS:
            return False
        if not begun:
            return not (self.determined or self.phrase) and bool(self.left)
        if word.endswith(("s", "ed")) or (word in IRREGULAR):
            return True
        return self.phrase[-1].endswith("s") or IRREGULAR.get(self.phrase[-1]) in ("man", "woman", "child", "person")
