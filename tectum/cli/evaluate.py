"""tectum eval: scores with intervals and passports, on disk and on a page, and their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tectum.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tectum.evaluate.measurement import Measurement
    from tectum.evaluate.report import Report
    from tectum.evaluate.score import Score
    from tectum.models.space import Space

Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the report, for 'tectum eval compare'.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Model = Annotated[str, typer.Option(metavar="NAME", help="The model that measures: a name or folder.")]
Images = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the pictures are.")]
DEFAULT_MODEL = "space-mini"


def build() -> typer.Typer:
    """The sub-commands of `tectum eval`."""
    app = typer.Typer(no_args_is_help=True)
    for command in (captions, fit, retrieval, zero_shot, words, vqa, pope, pairs, generated, compare):
        app.command(name=command.__name__.replace("_", "-"))(command)
    app.callback()(_measure)
    return app


def _measure() -> None:
    """Measure models: every score with an interval and a passport.

    \b
    tectum eval captions results.json annotations.json -o mine.json
    tectum eval compare mine.json theirs.json
    """


def captions(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help='[{"image_id": 42, "caption": "a cat"}, …]')],
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="COCO's captions file, or one like it.")],
    subset: Annotated[bool, typer.Option("--subset", help="Score the images of the results only.")] = False,
    meteor_jar: Annotated[Path | None, typer.Option(metavar="JAR", help="METEOR 1.5's program, for meteor-1.5 too.")] = None,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """BLEU, ROUGE-L, CIDEr-D, METEOR's idea and tuple F of captions."""
    from tectum.evaluate.captions.coco import read_coco
    from tectum.evaluate.captions.report import evaluate_captions
    from tectum.evaluate.report import Report

    candidates, references = read_coco(results, annotations, images="results" if subset else "annotated")
    measured = evaluate_captions(candidates, references, meteor_jar=meteor_jar)
    _answer(Report.of(f"{results.name} against {annotations.name}", measured), out, html, as_json)


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
    space, files = _load(model), [images / name for name in names]
    measured = {"clipscore": clip_score(space, files, texts, ids=ids, groups=names)}
    references = [record.get("references", []) for record in records]
    if all(references):
        measured["refclipscore"] = ref_clip_score(space, files, texts, references, ids=ids, groups=names)
    _answer(Report.of(f"{results.name} by {space.name}", measured), out, html, as_json)


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
    _answer(Report.of(f"{a.name} and {b.name}", measured), out, html, as_json)


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
    space = _load(model)
    ids = [path.relative_to(folder).as_posix() for path in files]
    items: dict[str, Any] = {kind: list(files)}
    hits = zero_shot_of(space, labels, list(files.values()), ids=ids, **items)
    measured = {f"top-{k}": accuracy(hits, k) for k in (1, 5) if k < len(labels)}
    _answer(Report.of(f"{folder.name}, {len(labels)} classes, by {space.name}", measured), out, html, as_json)


def words(
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help='Lines of text, or JSON of {"id", "text"}.')],
    hypotheses: Annotated[Path, typer.Argument(metavar="HYPOTHESES", help="The same of what was recognised.")],
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Word and character error rates of transcripts, raw and normalised."""
    from tectum.cli.vectors import read_transcripts
    from tectum.evaluate.answers import PLAIN, RAW
    from tectum.evaluate.report import Report
    from tectum.evaluate.word_errors import character_errors, word_errors

    said, heard = read_transcripts(references), read_transcripts(hypotheses)
    measured: dict[str, Measurement] = {}
    for normalizer in (RAW, PLAIN):
        rates = word_errors(said, heard, normalizer=normalizer)
        rates["cer"] = character_errors(said, heard, normalizer=normalizer)
        measured |= {f"{name}, {normalizer.name}": rate for name, rate in rates.items()}
    _answer(Report.of(f"{hypotheses.name} against {references.name}", measured), out, html, as_json)


def vqa(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help='[{"question_id": 1, "answer": "cat"}, …]')],
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="The official annotations file.")],
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="The questions file, for the blind baselines.")] = None,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """VQA accuracy by the rule of ten people, beside the baselines of the blind."""
    from tectum.evaluate.baselines import blind_predictions
    from tectum.evaluate.report import Report
    from tectum.evaluate.vqa import read_annotations, read_questions, read_results, vqa_accuracy

    answers, predictions = read_annotations(annotations), read_results(results)
    people = {len(given) for given in answers.values()}
    humans = people.pop() if len(people) == 1 else 10
    measured = {"vqa-accuracy": vqa_accuracy(answers, predictions, humans=humans)}
    beside = {}
    if questions:
        texts, pictures = read_questions(questions)
        blind = blind_predictions(answers, predictions, questions=texts, images=pictures)
        beside = {"vqa-accuracy": {name: vqa_accuracy(answers, given, humans=humans) for name, given in blind.items()}}
    _answer(Report.of(f"{results.name} against {annotations.name}", measured, beside), out, html, as_json)


def pope(
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS", help='JSON or JSON lines of {"question_id", "answer"}.')],
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="A question file of POPE.")],
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """POPE: does the model see what is not there? Ambiguous answers are counted apart."""
    from tectum.evaluate.baselines import blind_predictions
    from tectum.evaluate.pope import pope as score
    from tectum.evaluate.pope import read_answers, read_questions
    from tectum.evaluate.report import Report

    asked = read_questions(questions)
    given = read_answers(answers, asked)
    labels = {question.id: question.label for question in asked}
    right = {question.id: ["yes" if question.label else "no"] for question in asked}
    texts, pictures = ({question.id: value(question) for question in asked} for value in (lambda q: q.text, lambda q: q.image))
    blind = blind_predictions(right, given, questions=texts, images=pictures)
    measured = score(labels, given)
    scored = {name: score(labels, predicted) for name, predicted in blind.items()}
    beside = {"pope-accuracy": {name: found["pope-accuracy"] for name, found in scored.items()}}
    _answer(Report.of(f"{answers.name} to {questions.name}", measured, beside), out, html, as_json)


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

    space = _load(model)
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
    _answer(report, out, html, as_json)


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

    extractor = SpaceExtractor(_load(model), kind)
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
    _answer(Report.of(f"{made.name} against {real.name} by {extractor.space.name}", measured), out, html, as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="A report that 'tectum eval … -o' wrote.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="Another, of the same items.")],
    score: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this score; repeat for several.")] = None,
    as_json: AsJson = False,
) -> None:
    """The difference of two reports, A − B, on the same resamples of the same items.

    Scores that were made differently are refused, and the difference is named.
    """
    from dataclasses import asdict

    from tectum.evaluate.report import compare_reports, read_report

    found = compare_reports(read_report(a), read_report(b), score or ())
    if as_json:
        print_json({name: asdict(one) for name, one in found.items()})
        return
    rows = [
        (name, f"{one.difference:+.4f}", _interval(one.interval, sign="+"), f"{one.p:.3g}", f"{one.n:,}")
        for name, one in found.items()
    ]
    print_table(("score", "A − B", "95 % interval", "p", "n"), rows, right=("A − B", "p", "n"))


def _answer(report: Report, out: Path | None, html: Path | None, as_json: bool) -> None:
    """Print the scores and write what was asked for."""
    from tectum.evaluate.report import write_report
    from tectum.evaluate.report_page import write_page

    if out:
        write_report(out, report)
    if html:
        write_page(html, report)
    if as_json:
        beside = report.beside
        print_json(
            {name: {**entry.score.as_json(), "beside": _json(beside.get(name, {}))} for name, entry in report.entries.items()}
        )
        return
    rows = []
    for name, entry in report.entries.items():
        rows.append(_row(name, entry.score))
        rows += [_row(f"  blind: {kind}", score) for kind, score in report.beside.get(name, {}).items()]
    print(report.title)
    print_table(("score", "value", "95 % interval", "n"), rows, right=("value", "n"))


def _json(scores: Mapping[str, Score]) -> dict[str, object]:
    return {name: score.as_json() for name, score in scores.items()}


def _row(name: str, score: Score) -> tuple[str, str, str, str]:
    return name, f"{score.value:.4f}", _interval(score.interval), f"{score.n:,}"


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    return f"{interval[0]:{sign}.4f} – {interval[1]:{sign}.4f}" if interval else ""


def _load(model: str) -> Space:
    from tectum import hub

    return hub.load(model)
