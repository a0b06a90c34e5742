"""Commands over a library of media: index, search, similar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tectum.cli.output import complain, print_json
from tectum.cli.results import as_json, print_results, short
from tectum.errors import ConfigError, LibraryError
from tectum.media.source import display

if TYPE_CHECKING:
    from tectum.models.space import Space
    from tectum.search.library import Library
    from tectum.search.report import Query
    from tectum.search.results import IndexReport

SKIPS_SHOWN = 10

At = Annotated[Path, typer.Option("--library", "-l", metavar="FOLDER", envvar="TECTUM_LIBRARY", help="The library.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="A model's name or folder. Default: the library's own.")]
K = Annotated[int, typer.Option("-k", min=1, help="How many hits at most.")]
Kind = Annotated[Literal["image", "audio", "text"] | None, typer.Option(help="Find only these.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Least relevance of a hit; 0 shows everything.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with thumbnails and players.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
DEFAULT_LIBRARY = Path("my.tectum")


def index(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER...", help="Folders or files. Default: what was indexed before.")
    ] = None,
    library: At = DEFAULT_LIBRARY,
    model: Model = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Empty it first; read all folders again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Index folders, or bring their index up to date.

    Only new and changed files are read, and removed ones leave the index. Stop it at any time: the next run goes on.

    \b
    tectum index ~/Pictures ~/Music --library my.tectum
    tectum index                                           the same folders again
    """
    from tectum.search.library import Library

    space = _load(model)
    roots = _roots(library, damaged=rebuild) if rebuild or not folders else []
    wanted = list(dict.fromkeys([*(folders or []), *(root for root in roots if root.exists())]))
    if not wanted:
        raise ConfigError(f"there is nothing to index: give a folder, for example: tectum index ~/Pictures --library {library}")
    for lost in (root for root in roots if not root.exists()):
        complain(f"{lost} is not there: its files {'leave' if rebuild else 'stay in'} the index")
    target = Library.rebuild(library, space) if rebuild else Library(library, space)
    reports = []
    for folder in wanted:
        report = add(target, folder)
        reports.append(report)
        if not as_json:
            print_report(folder, report)
    if as_json:
        print_json([{"folder": folder, **asdict(report)} for folder, report in zip(wanted, reports, strict=True)])


def search(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="A picture to look for.")] = None,
    audio: Annotated[Path | None, typer.Option(metavar="FILE", help="A sound to look for.")] = None,
    library: At = DEFAULT_LIBRARY,
    k: K = 10,
    kind: Kind = None,
    threshold: Threshold = 0.5,
    as_json: AsJson = False,
    html: Html = None,
    model: Model = None,
) -> None:
    """Search by words, a picture, a sound, or all at once.

    Several together are composed: the sum of their vectors is searched for.
    Relevance is the probability that a hit is what you asked for; with no likely hit the answer is "nothing found".

    \b
    tectum search "a dog barking" --library my.tectum
    tectum search "at night" --image street.jpg --kind image --html hits.html
    """
    from tectum.search.library import Library
    from tectum.search.report import Query

    found = Library(library, _load(model)).search(text=text, image=image, audio=audio, k=k, kind=kind, threshold=threshold)
    _answer(Query(results=found, text=text, image=image, audio=audio), as_json, html)


def similar(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture, sound or text; it need not be in the library.")],
    library: At = DEFAULT_LIBRARY,
    k: K = 10,
    kind: Kind = None,
    threshold: Threshold = 0.5,
    as_json: AsJson = False,
    html: Html = None,
    model: Model = None,
) -> None:
    """Find media like a file.

    The file itself and its copies are left out.

    \b
    tectum similar cat.jpg --library my.tectum --kind audio
    """
    from tectum.search.library import Library
    from tectum.search.report import Query

    found = Library(library, _load(model)).similar(file, k=k, kind=kind, threshold=threshold)
    (kind_of_file,) = found.queries
    image, audio = file if kind_of_file == "image" else None, file if kind_of_file == "audio" else None
    text = f"like {display(file)}" if kind_of_file == "text" else None
    _answer(Query(results=found, text=text, image=image, audio=audio), as_json, html)


def add(library: Library, folder: Path) -> IndexReport:
    """`library.add` under a progress bar."""
    from tectum.search.progress import progress_bar

    with _said_on_interrupt(), progress_bar() as progress:
        return library.add(folder, progress=progress)


def print_report(folder: Path, report: IndexReport) -> None:
    """What indexing a folder did, and what was skipped and why."""
    counts = [(report.added, "added"), (report.changed, "changed"), (report.removed, "removed"), (report.unchanged, "unchanged")]
    told = ", ".join(f"{number:,} {name}" for number, name in counts if number) or "no media found"
    rate = (report.added + report.changed) / max(report.seconds, 1e-9)
    print(f"{display(short(folder))}: {told}, in {report.seconds:.1f} s" + (f" ({rate:.0f} files/s)" if rate else ""))
    for kind, build in report.builds.items():
        print(f"  {kind}: {build}")
    if report.skipped:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in report.reasons.items())
        print(f"  skipped: {reasons}")
        for skip in report.skipped[:SKIPS_SHOWN]:
            print(f"    {display(skip.message)}")
        if len(report.skipped) > SKIPS_SHOWN:
            print(f"    … and {len(report.skipped) - SKIPS_SHOWN:,} more: --json lists all")


def _load(model: str | None) -> Space | None:
    if model is None:
        return None
    from tectum import hub

    return hub.load(model)


def _roots(library: Path, damaged: bool) -> list[Path]:
    """What was indexed before; nothing for a library that is not there yet, nor for a damaged one where that is expected."""
    from tectum.search.library import Library

    try:
        return [Path(root) for root in Library(library).info().roots] if library.exists() else []
    except LibraryError:
        if damaged:
            return []
        raise


def _answer(query: Query, as_json_wanted: bool, html: Path | None) -> None:
    """Print the results, and write the page if one is wanted."""
    if html:
        from tectum.search.report import write_report

        write_report(html, [query])
    if as_json_wanted:
        print_json({"text": query.text, "image": query.image, "audio": query.audio, **as_json(query.results)})
        return
    print_results(query.results)
    if html:
        print(f"the page is {display(html)}")


@contextmanager
def _said_on_interrupt() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; what is indexed so far is kept, and the same command goes on from there") from None
