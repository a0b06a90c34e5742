"""tectum eval, with vectors or a model: their fit, retrieval, minimal pairs, bias, geometry, views, and generated media."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tectum.cli.reports import DEFAULT_MODEL, AsJson, Html, Images, Model, Out, answer, load

if TYPE_CHECKING:
    from tectum.evaluate.measurement import Measurement
    from tectum.evaluate.score import Score


def fit(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help='[{"image": "a.jpg", "caption": "a cat"}, …]')],
    images: Images = Path(),
    model: Model = DEFAULT_MODEL,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """CLIPScore: how well captions fit their pictures; RefCLIPScore where every record has "references"."""
    from tectum.evaluate.image_text import clip_score, ref_clip_score
    from tectum.evaluate.records import read_records
    from tectum.evaluate.report import Report

    records = read_records(results, "image", "caption")
    names = [str(record["image"]) for record in records]
    texts = [str(record["caption"]) for record in records]
    ids = [str(record.get("id", number)) for number, record in enumerate(records)]
    space, files = load(model), [images / name for name in names]
    measured = {"clipscore": clip_score(space, files, texts, ids=ids, groups=names)}
    references = [record.get("references", []) for record in records]
    if all(references):
        measured["refclipscore"] = ref_clip_score(space, files, texts, references, ids=ids, groups=names)
    answer(Report.of(f"{results.name} by {space.name}", measured), out, html, as_json)


def retrieval(
    a: Annotated[Path, typer.Argument(metavar="A.npz", help="vectors [n, d] and groups [n] or paths [n]: see 'tectum embed'")],
    b: Annotated[Path, typer.Argument(metavar="B.npz", help="The same of the other modality, by the same model.")],
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Cross-modal retrieval, both ways: R@1, R@5, R@10, median and mean rank, mAP.

    What belongs together has the same group; without groups, the same file name up to its ending.
    """
    from tectum.cli.vectors import read_vectors
    from tectum.evaluate.cosines import Cosines
    from tectum.evaluate.report import Report
    from tectum.evaluate.retrieval import average_precision, first_hits, mean_rank, median_rank, recall, same_group

    first, second = read_vectors(a), read_vectors(b)
    measured: dict[str, Measurement] = {}
    for name, asked, found in ((f"{a.stem}→{b.stem}", first, second), (f"{b.stem}→{a.stem}", second, first)):
        scores, right = Cosines(asked.vectors, found.vectors), same_group(asked.groups, found.groups)
        hits = first_hits(scores, right, ids=asked.ids, groups=asked.groups)
        several = [recall(hits, k) for k in (1, 5, 10)]
        precision = average_precision(scores, right, ids=asked.ids, groups=asked.groups)
        several += [median_rank(hits), mean_rank(hits), precision]
        measured |= {f"{name} {one.passport.metric}": one for one in several}
    answer(Report.of(f"{a.name} and {b.name}", measured), out, html, as_json)


def zero_shot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of pictures or sounds for each class.")],
    kind: Annotated[Literal["image", "audio"], typer.Option(help="What the files hold.")] = "image",
    model: Model = DEFAULT_MODEL,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Zero-shot accuracy: are files called by the name of their folder? (An underscore is a space.)"""
    from tectum.cli.vectors import labelled_files
    from tectum.evaluate.report import Report
    from tectum.evaluate.zero_shot import accuracy, zero_shot_of

    files = labelled_files(folder, kind)
    labels = sorted(set(files.values()))
    space = load(model)
    ids = [path.relative_to(folder).as_posix() for path in files]
    items: dict[str, Any] = {kind: list(files)}
    hits = zero_shot_of(space, labels, list(files.values()), ids=ids, **items)
    measured = {f"top-{k}": accuracy(hits, k) for k in (1, 5) if k < len(labels)}
    answer(Report.of(f"{folder.name}, {len(labels)} classes, by {space.name}", measured), out, html, as_json)


def pairs(
    file: Annotated[Path, typer.Argument(metavar="PAIRS", help="Pairs of a true and a false caption of a picture.")],
    images: Images = Path(),
    layout: Annotated[Literal["plain", "sugarcrepe", "aro", "winoground"], typer.Option(help="Of the file.")] = "plain",
    model: Model = DEFAULT_MODEL,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Composition: is the true caption closer than one with attributes, objects or relations changed? Beside the blind."""
    from tectum.evaluate import composition
    from tectum.evaluate.baselines import composition_baselines
    from tectum.evaluate.report import Report

    space = load(model)
    similarity = composition.space_similarity(space, images)
    if layout == "winoground":
        quads = composition.read_winoground(file)
        scored = composition.winoground(quads, composition.quad_similarities(quads, similarity))
        report = Report.of(f"{file.name} by {space.name}", scored)
    else:
        readers = {"plain": composition.read_pairs, "sugarcrepe": composition.read_sugarcrepe, "aro": composition.read_aro}
        asked = readers[layout](file)
        measured = composition.composition(asked, composition.pair_similarities(asked, similarity), suite=file.stem)
        blind = composition_baselines(asked, similarity, suite=file.stem)
        beside = {kind: {name: scores[kind] for name, scores in blind.items()} for kind in measured}
        report = Report.of(f"{file.name} by {space.name}", measured, beside)
    answer(report, out, html, as_json)


def generated(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="A folder of real pictures or sounds, those trained on.")],
    made: Annotated[Path, typer.Argument(metavar="GENERATED", help="A folder of generated ones.")],
    kind: Annotated[Literal["image", "audio"], typer.Option(help="What the files hold.")] = "image",
    model: Model = DEFAULT_MODEL,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Fréchet and kernel distances, CMMD, precision, recall, density, coverage, and a check for copies."""
    from tectum.evaluate.features import SpaceExtractor, extract
    from tectum.evaluate.frechet import frechet_distance
    from tectum.evaluate.kernel_distance import cmmd, kernel_distance
    from tectum.evaluate.manifold import manifold
    from tectum.evaluate.memorisation import memorisation
    from tectum.evaluate.report import Report

    extractor = SpaceExtractor(load(model), kind)
    a, b = extract(extractor, real), extract(extractor, made)
    size = min(len(a), len(b))
    k = max(1, min(5, size - 1))
    near = manifold(a, b, k=k)
    measured: dict[str, Measurement | Score] = {
        "fréchet distance": frechet_distance(a, b),
        "kernel distance": kernel_distance(a, b, subset_size=max(2, min(1000, size))),
        "cmmd": cmmd(a, b),
        "precision": near.precision,
        "recall": near.recall,
        "density": near.density,
        "coverage": near.coverage,
        "copying": memorisation(a, b, k=1).copying,
    }
    answer(Report.of(f"{made.name} against {real.name} by {extractor.space.name}", measured), out, html, as_json)


def geometry(
    a: Annotated[Path, typer.Argument(metavar="A.npz", help="vectors [n, d] and groups [n] or paths [n]: see 'tectum embed'")],
    b: Annotated[Path, typer.Argument(metavar="B.npz", help="The same of the other modality, by the same model.")],
    k: Annotated[int, typer.Option("-k", help="Neighbours that count for hubness.")] = 10,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """The shape of a space: modality gap, alignment of what belongs together, uniformity, effective rank, hubness."""
    from tectum.cli.vectors import read_vectors
    from tectum.evaluate import geometry as shape
    from tectum.evaluate.cosines import Cosines
    from tectum.evaluate.report import Report

    first, second = read_vectors(a), read_vectors(b)
    pairs = [(i, j) for i, one in enumerate(first.groups) for j, other in enumerate(second.groups) if one == other]
    measured: dict[str, Measurement | Score] = {"modality gap": shape.modality_gap(first.vectors, second.vectors)}
    if pairs:
        rows, others = (list(part) for part in zip(*pairs, strict=True))
        measured["alignment"] = shape.alignment(first.vectors[rows], second.vectors[others])
    for path, side in ((a, first), (b, second)):
        measured[f"{path.stem} uniformity"] = shape.uniformity(side.vectors)
        measured[f"{path.stem} effective rank"] = shape.effective_rank(side.vectors)
    for name, asked, found in ((f"{a.stem}→{b.stem}", first, second), (f"{b.stem}→{a.stem}", second, first)):
        neighbours = min(k, len(found.ids))
        measured[f"{name} hubness"] = shape.hubness(Cosines(asked.vectors, found.vectors), neighbours, ids=asked.ids)
    answer(Report.of(f"{a.name} and {b.name}", measured), out, html, as_json)


def association(
    sets: Annotated[Path, typer.Argument(metavar="SETS", help='{"x": [targets], "y": […], "a": [attributes], "b": […]}')],
    images: Images = Path(),
    model: Model = DEFAULT_MODEL,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Bias: are targets X nearer to attributes A than to B, compared with targets Y? (WEAT, iEAT)

    An entry is a text, or a picture as {"image": "a.jpg"}. The effect size has an interval, and p is exact where all
    assignments can be looked at.
    """
    from tectum.cli.vectors import read_sets
    from tectum.evaluate import association as bias
    from tectum.evaluate.report import Report
    from tectum.evaluate.score import Passport, Score

    space = load(model)
    x, y, a, b = read_sets(sets, space, images)
    found = bias.association(x, y, a, b)
    how = "all" if found.exact else "drawn"
    p = Score(found.p, None, found.partitions, Passport("association-p", {"partitions": how, "side": "one"}))
    answer(Report.of(f"{sets.name} by {space.name}", {"effect": found.effect, "p": p}), out, html, as_json)


def view(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.npz...", help="Written by 'tectum embed'.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="A page (.html) or a picture (.png).")],
    method: Annotated[Literal["pca", "tsne", "umap"], typer.Option(help="How the vectors are laid out.")] = "pca",
    seed: Annotated[int, typer.Option(help="Of t-SNE and UMAP.")] = 0,
    title: Annotated[str, typer.Option(help="Above the view.")] = "A view of the space",
) -> None:
    """See a space: vectors of several modalities in one plane, as a page to explore or as a picture.

    \b
    tectum embed *.jpg *.wav notes.txt -o vectors.npz
    tectum eval view vectors.npz -o view.html
    """
    from tectum.cli.vectors import by_modality
    from tectum.errors import ConfigError
    from tectum.evaluate.views import project
    from tectum.evaluate.views_page import save_page
    from tectum.evaluate.views_picture import save_picture
    from tectum.media.source import display

    if out.suffix not in (".html", ".png"):
        raise ConfigError(f"{out} is neither a page nor a picture: end its name in .html or .png")
    vectors, labels = by_modality(files)
    plane = project(vectors, labels=labels, method=method, seed=seed)
    (save_page if out.suffix == ".html" else save_picture)(plane, out, title=title)
    print(f"{len(plane.points):,} vectors by {plane.method} are in {display(out)}")
