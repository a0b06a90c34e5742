"""Generated worlds: scenes of coloured shapes with everything that is true of them, from a seed, without end.

A `World` says what there may be; `make_scene(world, seed, index)` is a scene, a pure function of its arguments. From a scene:
`picture`, `boxes`, `masks`, `caption`, `sound`; from a world and an index also `minimal_pair`, `ask` and `make_clip`.
`WorldReader` is a world as a dataset. docs/worlds.md shows them.
"""

from tectum.data.worlds.claim import Claim, Noun, caption, captions, claims, holds, say, tell
from tectum.data.worlds.draw import boxes, masks, picture
from tectum.data.worlds.minimal import PAIR_KINDS, MinimalPair, minimal_pair, write_pairs
from tectum.data.worlds.motion import Clip, describe, film, make_clip, tracks
from tectum.data.worlds.question import QUESTION_KINDS, Question, answers, ask
from tectum.data.worlds.reader import WorldReader
from tectum.data.worlds.scene import Scene, Thing, World, crowds, heaps, make_scene, pairs, singles
from tectum.data.worlds.sound import RATE, note, sound

__all__ = [
    "PAIR_KINDS",
    "QUESTION_KINDS",
    "RATE",
    "Claim",
    "Clip",
    "MinimalPair",
    "Noun",
    "Question",
    "Scene",
    "Thing",
    "World",
    "WorldReader",
    "answers",
    "ask",
    "boxes",
    "caption",
    "captions",
    "claims",
    "crowds",
    "describe",
    "film",
    "heaps",
    "holds",
    "make_clip",
    "make_scene",
    "masks",
    "minimal_pair",
    "note",
    "pairs",
    "picture",
    "say",
    "singles",
    "sound",
    "tell",
    "tracks",
    "write_pairs",
]
