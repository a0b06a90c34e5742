"""tectum eval: scores with intervals and passports, on disk and on a page, and their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tectum.cli import evaluate_spaces as spaces
from tectum.cli.output import print_json, print_table
from tectum.cli.reports import AsJson, Html, Out, answer, interval

if TYPE_CHECKING:
    from tectum.evaluate.measurement import Measurement


def build() -> typer.Typer:
    """The sub-commands of `tectum eval`."""
    app = typer.Typer(no_args_is_help=True)
    for panel, commands in (
        ("Texts and answers", (captions, words, vqa, pope, chair, boxes)),
        ("A model and its vectors", (spaces.fit, spaces.retrieval, spaces.zero_shot, spaces.pairs, spaces.association)),
        ("Vectors", (spaces.geometry, spaces.view)),
        ("Generated media", (spaces.generated,)),
        ("Two reports", (compare,)),
    ):
        for command in commands:
            app.command(name=command.__name__.replace("_", "-"), rich_help_panel=panel)(command)
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
    answer(Report.of(f"{results.name} against {annotations.name}", measured), out, html, as_json)


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
    answer(Report.of(f"{hypotheses.name} against {references.name}", measured), out, html, as_json)


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
    answer(Report.of(f"{results.name} against {annotations.name}", measured, beside), out, html, as_json)


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
    answer(Report.of(f"{answers.name} to {questions.name}", measured, beside), out, html, as_json)


def chair(
    captions: Annotated[Path, typer.Argument(metavar="CAPTIONS", help='[{"image_id": 42, "caption": "a cat"}, …]')],
    objects: Annotated[Path, typer.Argument(metavar="OBJECTS", help='[{"image_id": 42, "objects": ["cat", "bed"]}, …]')],
    vocabulary: Annotated[Path | None, typer.Option(metavar="FILE", help="Objects and their words, if not COCO's 80.")] = None,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """CHAIR: how many of the objects that captions mention are not in the picture, by mention and by caption."""
    from tectum.evaluate import hallucination
    from tectum.evaluate.records import read_by_id
    from tectum.evaluate.report import Report

    words = hallucination.read_vocabulary(vocabulary) if vocabulary else hallucination.coco_objects()
    said, held = read_by_id(captions, "image_id", "caption"), read_by_id(objects, "image_id", "objects")
    measured = hallucination.chair({key: str(text) for key, text in said.items()}, held, words)
    answer(Report.of(f"{captions.name} against {objects.name}", measured), out, html, as_json)


def boxes(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help='[{"id": 7, "box": [left, top, right, bottom]}, …]')],
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="The truth alike: a box, or a list of boxes.")],
    threshold: Annotated[float, typer.Option(help="The intersection over union that is enough.")] = 0.5,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Grounding: is the box where the phrase is? Accuracy at an IoU, and the mean IoU; null is no box, and wrong."""
    from tectum.evaluate.grounding import box_accuracy
    from tectum.evaluate.records import read_by_id
    from tectum.evaluate.report import Report

    measured = box_accuracy(read_by_id(references, "id", "box"), read_by_id(results, "id", "box"), threshold=threshold)
    answer(Report.of(f"{results.name} against {references.name}", measured), out, html, as_json)


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
        (name, f"{one.difference:+.4f}", interval(one.interval, sign="+"), f"{one.p:.3g}", f"{one.n:,}")
        for name, one in found.items()
    ]
    print_table(("score", "A − B", "95 % interval", "p", "n"), rows, right=("A − B", "p", "n"))
