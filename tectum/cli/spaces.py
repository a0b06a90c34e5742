"""Commands that use a model without a library: classify, embed, models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tectum.cli.output import complain, megabytes, print_json, print_table
from tectum.errors import ConfigError, MediaError
from tectum.files import written_beside
from tectum.media.source import display

if TYPE_CHECKING:
    from torch import Tensor

    from tectum.models.space import Space

DEFAULT_MODEL = "space-mini"
BATCH = 64

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files; what they hold is read from their bytes.")]
Model = Annotated[str, typer.Option(metavar="NAME", help="A model's name ('tectum models') or folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


def classify(
    files: Files,
    labels: Annotated[str, typer.Option(metavar="A,B,C", help="What it may be, separated by commas.")],
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A prompt with {} for the label; repeat for several. Default: the model's own."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    as_json: AsJson = False,
) -> None:
    """Say which label fits each picture or sound.

    Zero-shot: any labels will do, nothing is trained for them.

    \b
    tectum classify *.jpg *.wav --labels "dog,cat,rain"
    tectum classify x.png --labels "cup,plate" --template "a photo of a {}"
    """
    names = [name.strip() for name in labels.split(",") if name.strip()]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"--labels needs two or more different labels separated by commas, not {labels!r}")
    for text in template or ():
        if "{}" not in text:
            raise ConfigError(f"--template {text!r} has no {{}} where the label goes: write for example 'a photo of a {{}}'")
    space = _load(model)

    def probabilities(kind: str, items: list[Any]) -> Tensor:
        sources: dict[str, Any] = {kind: items}
        return space.classify(names, templates=template, **sources)

    found = _each(space, files, ("image", "audio"), probabilities)
    answers = [(item, row.tolist()) for item, row in found.rows]
    if as_json:
        scored = [(item, dict(zip(names, row, strict=True))) for item, row in answers]
        print_json([{"path": item.path, "kind": item.kind, "labels": labels_of} for item, labels_of in scored])
    else:
        rows = []
        for item, row in answers:
            (best, probability), *others = sorted(zip(names, row, strict=True), key=lambda pair: -pair[1])
            rows.append((str(item.path), best, str(probability), " · ".join(f"{name} {value:.2f}" for name, value in others[:3])))
        print_table(("file", "label", "probability", "else"), rows, bar="probability")
    found.leave()


def embed(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.npz", help="Where the vectors go.")],
    model: Model = DEFAULT_MODEL,
    dim: Annotated[int | None, typer.Option(metavar="N", help="Keep the first N numbers only. Default: all.")] = None,
    dtype: Annotated[Literal["float32", "float16", "int8"], typer.Option(help="What the numbers are kept as.")] = "float32",
) -> None:
    """Write the vectors of files to one .npz file.

    It holds vectors of length 1, their paths and kinds, and the model's name and fingerprint; as int8 also scales to multiply by.

    \b
    tectum embed *.jpg rain.wav notes.txt -o vectors.npz
    tectum embed *.jpg -o small.npz --dim 128 --dtype int8
    python -c "import numpy; print(numpy.load('vectors.npz')['vectors'].shape)"
    """
    import numpy as np
    import torch

    from tectum.models.compact import Int8, compact

    if out.suffix != ".npz":
        raise ConfigError(f"{out} is not the name of an .npz file: write for example -o {out.with_suffix('.npz')}")
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no folder: make it first, or write the vectors elsewhere with -o")
    space = _load(model)
    compact(torch.zeros(0, space.dim), dim, dtype)  # Refuses what does not fit before the work, not after.
    found = _each(space, files, space.modalities, lambda kind, items: space.encode(kind, [space.prepare(kind, x) for x in items]))
    made = compact(torch.stack([row for _, row in found.rows]), dim, dtype)
    arrays: dict[str, Any] = {"vectors": made}
    if isinstance(made, Int8):
        arrays = {"vectors": made.codes, "scales": made.scales[:, 0]}
    with written_beside(out) as file:
        np.savez(
            file,
            **arrays,
            paths=np.array([str(item.path) for item, _ in found.rows]),
            kinds=np.array([item.kind for item, _ in found.rows]),
            model=np.array(space.name),
            fingerprint=np.array(space.fingerprint),
        )
    rows, length = arrays["vectors"].shape
    print(f"{rows} vectors of {length} numbers by {space.name} are in {display(out)}")
    found.leave()


def models(as_json: AsJson = False) -> None:
    """List the models at hand.

    \b
    tectum models
    TECTUM_WEIGHTS=~/models tectum models      looks there first
    """
    from tectum import hub

    found = hub.available()
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        print("no model is at hand: set TECTUM_WEIGHTS to a folder of model folders")
    else:
        rows = [(one.name, " ".join(one.modalities), megabytes(one.bytes), one.description, str(one.path)) for one in found]
        print_table(("model", "kinds", "size", "what it is", "folder"), rows, right=("size",))


@dataclass(frozen=True, slots=True)
class _Item:
    path: Path
    kind: str


@dataclass(frozen=True, slots=True)
class _Found:
    rows: list[tuple[_Item, Tensor]]
    skipped: int

    def leave(self) -> None:
        """Exit with 2 if a file was left out, after the others were told."""
        if self.skipped:
            raise typer.Exit(2)


def _load(model: str) -> Space:
    from tectum import hub

    return hub.load(model)


def _each(space: Space, files: Sequence[Path], kinds: Sequence[str], work: Callable[[str, list[Any]], Tensor]) -> _Found:
    """One row of `work` for each file, in the order given; files that cannot be used are told on stderr and left out."""
    from tectum.media.kinds import sniff

    items: list[_Item] = []
    complaints = 0
    for path in files:
        try:
            kind: str = sniff(path)
            if kind not in kinds or kind not in space.modalities:
                usable = ", ".join(name for name in kinds if name in space.modalities)
                raise MediaError(f"{path} holds {kind}, and this command takes {usable} with {space.name}", "unsupported")
            items.append(_Item(path, kind))
        except MediaError as error:
            complain(str(error))
            complaints += 1
    rows: dict[_Item, Tensor] = {}
    for kind in kinds:
        group = [item for item in dict.fromkeys(items) if item.kind == kind]
        for at in range(0, len(group), BATCH):
            rows.update(_halving(group[at : at + BATCH], work))
    complaints += sum(item not in rows for item in items)
    if not rows:
        raise typer.Exit(2)
    return _Found([(item, rows[item]) for item in items if item in rows], complaints)


def _halving(items: Sequence[_Item], work: Callable[[str, list[Any]], Tensor]) -> Iterator[tuple[_Item, Tensor]]:
    """The rows of one batch of one kind; a batch that a broken file spoils is halved until that file stands alone."""
    try:
        yield from zip(items, work(items[0].kind, [_source(item) for item in items]), strict=True)
    except MediaError as error:
        if len(items) == 1:
            complain(str(error))
            return
        half = len(items) // 2
        yield from _halving(items[:half], work)
        yield from _halving(items[half:], work)


def _source(item: _Item) -> Any:
    if item.kind == "text":
        from tectum.media.text import read_text

        return read_text(item.path)
    return item.path
