"""tectum demo: the main job from end to end, on example media or on a folder of one's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tectum.cli.example_media import QUESTIONS, make_example_media
from tectum.cli.library import add, print_report
from tectum.cli.output import megabytes, print_heading
from tectum.cli.results import print_results, short
from tectum.errors import ConfigError
from tectum.media.source import display

if TYPE_CHECKING:
    from tectum.models.space import Space
    from tectum.search.library import Library
    from tectum.search.report import Query

EXAMPLES = Path("examples/media")
HITS = 3
# Things that many folders hold; which of them yours holds is for the search to say.
OWN_WORDS = ("a dog", "flowers", "a car", "rain", "a crying baby")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Words, a picture, a sound, or several of them."""

    text: str | None = None
    image: Path | None = None
    audio: Path | None = None

    def command(self, library: Path) -> str:
        """The command line that asks this."""
        options = [("--image", self.image), ("--audio", self.audio), ("--library", library)]
        words = ["tectum", "search", *([self.text] if self.text else [])]
        return shlex.join([*words, *(str(part) for name, value in options if value for part in (name, value))])

    def ask(self, library: Library) -> Query:
        """Search the library; the command is the note of the result."""
        from tectum.search.report import Query

        results = library.search(self.text, image=self.image, audio=self.audio, k=HITS)
        note = self.command(Path(short(library.path)))
        return Query(results=results, text=self.text, image=self.image, audio=self.audio, note=note)


def demo(
    media: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Your own media instead of the examples.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page with the results.")] = Path("demo.html"),
    model: Annotated[str, typer.Option(metavar="NAME", help="A model's name or folder.")] = "space-mini",
) -> None:
    """See it work: index media, search them, write one page.

    It searches by words, by a picture, by a sound, by a picture and words together, and for something that is not there.

    \b
    tectum demo
    tectum demo --media ~/Pictures
    """
    from tectum import hub
    from tectum.search.report import write_report

    if media is not None and not media.is_dir():
        raise ConfigError(f"{media} is no folder: give one with pictures, sounds or texts in it")
    space = hub.load(model)
    size = sum(parameter.numel() for parameter in space.parameters())
    kinds = ", ".join(space.modalities)
    print(f"{space.name}, a model of {size:,} numbers, puts {kinds} into one space of {space.dim} dimensions.")
    folder = media or make_example_media(EXAMPLES)
    place = Path(f"demo-{media.resolve().name}.tectum") if media else Path("demo.tectum")
    library = _library(place, space)
    report = add(library, folder)
    print_report(folder, report)
    answers = []
    for question in _own_questions(folder, {skip.path for skip in report.skipped}) if media else _example_questions():
        answer = question.ask(library)
        print_heading(f"$ {answer.note}")
        print_results(answer.results)
        answers.append(answer)
    write_report(out, answers, title="tectum demo", summary=_summary(library, space))
    size_of_page = megabytes(out.stat().st_size)
    print_heading(f"{display(short(out.resolve()))} ({size_of_page}) shows all of this with pictures and players.")
    print(f"Next, try:  {Question(text='fire').command(place)}")
    print("       or:  tectum index ~/Pictures --library my.tectum")


def _library(place: Path, space: Space) -> Library:
    """The demo's library; one that another model made is emptied, it holds nothing that cannot be made again."""
    from tectum.search.library import Library

    if place.exists() and Library(place).info().fingerprint != space.fingerprint:
        return Library.rebuild(place, space)
    return Library(place, space)


def _summary(library: Library, space: Space) -> str:
    counts = ", ".join(f"{number:,} {kind}" for kind, number in library.info().files.items())
    return f"{counts} files, found in one space by {space.name}."


def _example_questions() -> Iterator[Question]:
    """By words, by a picture and a sound that are not in the library, by both kinds at once, and for what is not there."""
    asked = EXAMPLES / QUESTIONS
    for words in ("a dog barking", "rain falling", "a fire", "a crying baby"):
        yield Question(text=words)
    yield Question(image=asked / "motorcycle_right.png")
    yield Question(audio=asked / "rain.wav")
    yield Question(text="rain", image=asked / "motorcycle_right.png")
    yield Question(text="a tax return")


def _own_questions(folder: Path, skipped: Collection[str]) -> Iterator[Question]:
    """The middle one of the usable pictures and of the sounds of the folder, and a few words."""
    from tectum.search.scan import kind_of_name, scan

    usable = [entry.path for entry in scan(os.path.abspath(folder)).entries if entry.path not in skipped]
    pictures = [path for path in usable if kind_of_name(path) == "image"]
    sounds = [path for path in usable if kind_of_name(path) == "audio"]
    if pictures:
        yield Question(image=Path(short(pictures[len(pictures) // 2])))
    if sounds:
        yield Question(audio=Path(short(sounds[len(sounds) // 2])))
    for words in OWN_WORDS:
        yield Question(text=words)
