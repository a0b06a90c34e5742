"""The words that the tuple rules know: closed classes, and the verbs and adjectives that captions of photographs use most."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    """a an the this that these those some any each every another other his her its their our my your 's all both several many
    few no more various lots"""
)
QUANTITIES = _words("couple group bunch pair lot lots number variety herd flock row pile stack bunches groups pairs")
PREPOSITIONS = _words(
    """on in at with of by near behind under over above below beside between through across along around against inside outside
    into onto off down up from for to toward towards atop among amongst past beneath underneath without about within
    beyond"""
)
PHRASES = {
    ("in", "front", "of"): "before",
    ("on", "top", "of"): "on",
    ("next", "to"): "beside",
    ("close", "to"): "near",
    ("on", "the", "side", "of"): "beside",
    ("at", "the", "side", "of"): "beside",
    ("to", "the", "side", "of"): "beside",
    ("in", "the", "middle", "of"): "in",
    ("out", "of"): "from",
    ("inside", "of"): "inside",
    ("outside", "of"): "outside",
}
SKIPPED = _words(
    """and or but while as is are was were be been being am has have had do does did can could will would may might must should
    not n't there here it he she they them him who which what where when that's i you we us very so too also just only
    together each other if than then how because"""
)
NUMBERS = {
    word: str(n) for n, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
ADJECTIVES = _words(
    """black white red green blue yellow brown orange purple pink gray grey silver gold tan big large small little tiny huge tall
    short long wide young old new open closed empty full busy wooden metal wet dry dirty clean bright dark colorful
    beautiful"""
)
IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "knives": "knife", "leaves": "leaf", "loaves": "loaf", "shelves": "shelf",
    "halves": "half", "wolves": "wolf", "calves": "calf", "scarves": "scarf", "wives": "wife", "buses": "bus",
    "grey": "gray", "sat": "sit", "stood": "stand", "held": "hold", "rode": "ride", "ran": "run", "ate": "eat",
    "flew": "fly", "drove": "drive", "threw": "throw", "wore": "wear", "hung": "hang", "lying": "lie", "laying": "lie",
    "lay": "lie", "caught": "catch", "swung": "swing", "took": "take", "shown": "show", "seen": "see", "worn": "wear",
    "eaten": "eat", "driven": "drive", "flown": "fly", "taken": "take", "made": "make", "cut": "cut",
}  # fmt: skip
VERBS = _words(
    """sit stand hold ride run walk play look eat fly drive throw wear hang lie catch swing take show see make cut jump ski surf
    skate skateboard watch wait stop park cross carry pull push lean rest sleep graze drink swim stare smile talk read
    cook prepare serve hit kick pose reach touch wash brush feed face fill cover decorate display sell travel move turn
    rise perch gather work use try get put set enjoy climb chase bite lick sniff bark pet hug kiss shake point float sail
    grind slide fall land race contain include feature surround attach line stack tie pass approach enter leave shop slice
    chew nurse snowboard crouch kneel squat bend huddle"""
)
NOUNS_IN_ING = _words(
    """building wing ring king ceiling railing clothing painting evening morning string thing something anything nothing
    everything wedding crossing dressing icing topping awning spring swing lighting landing opening parking siding sling
    earring frosting stuffing pudding sibling dumpling ping ding viking living dining"""
)
NOT_ADVERBS = _words("""fly family belly jelly bully july trolley ally lily""")
