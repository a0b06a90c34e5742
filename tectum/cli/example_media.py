"""Media to try the library on: photographs that come inside the scikit-image package, sounds made here, three notes."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tectum.errors import DataError
from tectum.files import written_beside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIBRARY, QUESTIONS = "library", "questions"
# Only files that are inside the wheel; others of that package would be downloaded.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
QUESTION_PHOTOGRAPHS = ("motorcycle_right.png", "moon.png")
SOUNDS = ("rain", "sea_waves", "clock", "fire", "helicopter", "chainsaw", "dog", "rooster", "crying_baby")
QUESTION_SOUNDS = ("rain",)
_ANOTHER_SEED = 50

NOTES = {
    "shopping.txt": "Coffee beans, milk, oat biscuits, and a new cup for the one that broke.\n",
    "garden.txt": "The dog next door barked all night. Rain at last: the grass is green again.\n",
    "workshop.txt": "Motorcycle: change the oil, tighten the chain, order a left mirror.\n",
}


def make_example_media(folder: Path) -> Path:
    """Fill `folder` with example media, the same every time, and return its part that is meant to be indexed.

    `folder/library` holds pictures, sounds and notes; `folder/questions` other pictures and sounds, to search by. Files that are
    there already are left alone.

    Raises:
        DataError: if scikit-image is not installed.
    """
    from tectum.cli import example_sounds

    library, questions = folder / LIBRARY, folder / QUESTIONS
    photographs = _photographs()
    for target, names in ((library / "pictures", PHOTOGRAPHS), (questions, QUESTION_PHOTOGRAPHS)):
        for name in names:
            _place(target / name, (photographs / name).read_bytes)
    for name in SOUNDS:
        _place(library / "sounds" / f"{name}.wav", partial(_wav, getattr(example_sounds, name)))
    for name in QUESTION_SOUNDS:
        _place(questions / f"{name}.wav", partial(_wav, partial(getattr(example_sounds, name), seed=_ANOTHER_SEED)))
    for name, text in NOTES.items():
        _place(library / "notes" / name, text.encode)
    return library


def _photographs() -> Path:
    """The folder of photographs of the installed scikit-image, found without importing it."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError("the example photographs need scikit-image: pip install 'tectum[demo]', or give a folder with --media")
    return Path(spec.origin).parent / "data"


def _wav(make: Callable[[], NDArray[np.float32]]) -> bytes:
    """A made sound as 16-bit WAV."""
    import soundfile

    from tectum.cli.example_sounds import RATE

    buffer = io.BytesIO()
    soundfile.write(buffer, make(), RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _place(target: Path, content: Callable[[], bytes]) -> None:
    """Write a file whole, unless it is there."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(target) as file:
            file.write(content())
