"""tectum eval from end to end: files in, scores, reports, pages and comparisons out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import Run


def write(name: str, value: Any) -> Path:
    path = Path(name)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def scores(tectum: Run, *arguments: object) -> dict[str, Any]:
    done = tectum("eval", *arguments, "--json")
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out)


def coco(captions: dict[int, str]) -> list[dict[str, Any]]:
    return [{"image_id": key, "caption": text} for key, text in captions.items()]


REFERENCES = {
    "annotations": [
        {"image_id": image, "caption": text}
        for image, texts in {
            1: ["a cat on a mat", "a cat sits on the mat"],
            2: ["two dogs run", "dogs running"],
            3: ["a red bus in the street", "a bus"],
        }.items()
        for text in texts
    ]
}


def test_captions_are_scored_reported_and_compared(tectum: Run) -> None:
    references = write("ref.json", REFERENCES)
    good = write("good.json", coco({1: "a cat on a mat", 2: "two dogs run", 3: "a red bus in the street"}))
    bad = write("bad.json", coco({1: "a dog", 2: "a cat on a mat", 3: "a tree"}))
    assert scores(tectum, "captions", good, references)["bleu-4"]["value"] == pytest.approx(1)
    for name in (good, bad):
        done = tectum("eval", "captions", name, references, "-o", f"{name.stem}.report.json", "--html", f"{name.stem}.html")
        assert done.status == 0 and "cider-d" in done.out
    assert "<!doctype html>" in Path("good.html").read_text()
    found = scores(tectum, "compare", "good.report.json", "bad.report.json", "--score", "rouge-l")
    assert list(found) == ["rouge-l"] and found["rouge-l"]["difference"] > 0.4
    done = tectum("eval", "compare", "good.report.json", "bad.report.json")
    assert done.status == 0 and "A − B" in done.out
    subset = write("subset.json", coco({1: "a cat on a mat"}))
    assert tectum("eval", "captions", subset, references).status == 2
    assert scores(tectum, "captions", subset, references, "--subset")["bleu-1"]["n"] == 1


def test_reports_made_differently_refuse(tectum: Run) -> None:
    write("a.txt", "Hello world\nsecond line")
    write("b.txt", "hello world\nsecond lines")
    tectum("eval", "words", "a.txt", "b.txt", "-o", "r.json")
    report = json.loads(Path("r.json").read_text())
    report["scores"]["wer, raw"]["settings"]["text"] = "other"
    write("s.json", report)
    done = tectum("eval", "compare", "r.json", "s.json")
    assert done.status == 2 and "text is raw in one and other in the other" in done.err and done.err.count("\n") == 1


def test_words_of_lines_and_of_records(tectum: Run) -> None:
    said, heard = write("said.txt", "Hello, duck\ni like python\n"), write("heard.txt", "hello world\ni like monthy python\n")
    found = scores(tectum, "words", said, heard)
    assert found["wer, plain"]["value"] == pytest.approx(2 / 5) and found["wer, raw"]["value"] == pytest.approx(3 / 5)
    records = [{"id": f"line {i}", "text": text} for i, text in enumerate(heard.read_text().splitlines(), 1)]
    lines = "\n".join(map(json.dumps, records))
    assert scores(tectum, "words", said, write("heard.jsonl", lines)) == found


def test_retrieval_of_vectors(tectum: Run) -> None:
    """Two captions of each of three pictures; one picture's captions point at another."""
    pictures = np.eye(3)
    captions = np.array([[1, 0.1, 0], [0.9, 0, 0.2], [0, 1, 0], [0.1, 1, 0], [0, 0.2, 0.1], [0, 1, 0.5]])
    np.savez("images.npz", vectors=pictures, paths=np.array(["x/1.jpg", "x/2.png", "3.jpg"]))
    np.savez("texts.npz", vectors=captions, groups=np.array(["1", "1", "2", "2", "3", "3"]))
    found = scores(tectum, "retrieval", "images.npz", "texts.npz")
    assert found["images→texts recall@1"]["value"] == 1
    assert found["texts→images recall@1"]["value"] == pytest.approx(4 / 6)
    assert found["texts→images median-rank"]["value"] == 1


def test_a_model_is_measured_on_folders(tectum: Run) -> None:
    rng = np.random.default_rng(0)
    for name in ("real/red_cube", "real/blue ball", "made/x"):
        Path(name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(f"{name}/{number}.png")
    found = scores(tectum, "zero-shot", "real")
    assert found["top-1"]["n"] == 8 and 0 <= found["top-1"]["value"] <= 1
    found = scores(tectum, "generated", "real", "made")
    assert {"fréchet distance", "kernel distance", "cmmd", "coverage", "copying"} <= found.keys()
    same = scores(tectum, "generated", "real", "real")
    assert same["fréchet distance"]["value"] == pytest.approx(0, abs=1e-6) and same["coverage"]["value"] == 1
    records = [{"image": f"real/red_cube/{i}.png", "caption": "a red cube", "references": ["a cube"]} for i in range(4)]
    assert scores(tectum, "fit", write("fit.json", records)).keys() == {"clipscore", "refclipscore"}
    asked = [
        {"image": f"real/{name}/0.png", "positive": name, "negative": other, "kind": "replace"}
        for name, other in (("red_cube", "blue ball"), ("blue ball", "red cube"))
    ]
    found = scores(tectum, "pairs", write("pairs.json", asked))
    assert {"text-only-shorter", "text-only-longer", "image-only", "shuffled-pairs"} <= found["all"]["beside"].keys()


def test_questions_stand_beside_the_blind(tectum: Run) -> None:
    people = [{"answer": "yes"}] * 10
    write("annotations.json", {"annotations": [{"question_id": i, "answers": people} for i in range(4)]})
    write("questions.json", {"questions": [{"question_id": i, "question": "is it?", "image_id": i} for i in range(4)]})
    write("results.json", [{"question_id": i, "answer": "yes" if i else "no"} for i in range(4)])
    found = scores(tectum, "vqa", "results.json", "annotations.json", "--questions", "questions.json")["vqa-accuracy"]
    assert found["value"] == 0.75 and found["beside"]["majority"]["value"] == 1
    labels = {i: "yes" if i % 2 else "no" for i in range(4)}
    write("pope.json", [{"question_id": i, "image": f"{i}.jpg", "text": "Is there a dog?", "label": labels[i]} for i in labels])
    write("answers.json", [{"question_id": i, "answer": "Yes, there is." if i % 2 else "No."} for i in range(4)])
    found = scores(tectum, "pope", "answers.json", "pope.json")
    assert found["pope-f1"]["value"] == 1 and found["pope-accuracy"]["beside"]["majority"]["value"] == 0.5


def test_objects_and_boxes(tectum: Run) -> None:
    write("said.json", [{"image_id": 1, "caption": "a cat and two dogs"}, {"image_id": 2, "caption": "a bus"}])
    write("held.json", [{"image_id": 1, "objects": ["cat"]}, {"image_id": 2, "objects": ["bus", "person"]}])
    found = scores(tectum, "chair", "said.json", "held.json")
    assert found["chair-i"]["value"] == pytest.approx(1 / 3) and found["chair-s"]["value"] == 0.5
    write("words.json", {"objects": {"cat": [], "bus": [], "person": ["dogs"]}})
    found = scores(tectum, "chair", "said.json", "held.json", "--vocabulary", "words.json")
    assert found["chair-recall"]["value"] == pytest.approx(2 / 3)
    write("truth.json", [{"id": "a", "box": [0, 0, 2, 2]}, {"id": "b", "box": [[0, 0, 2, 2], [5, 5, 6, 6]]}])
    write("boxes.json", [{"id": "a", "box": [0, 0, 2, 1]}, {"id": "b", "box": None}])
    found = scores(tectum, "boxes", "boxes.json", "truth.json")
    assert found["accuracy@0.5"]["value"] == 0.5 and found["mean-iou"]["value"] == 0.25
    assert scores(tectum, "boxes", "boxes.json", "truth.json", "--threshold", "0.6")["accuracy@0.6"]["value"] == 0


def test_the_shape_of_a_space_and_a_view_of_it(tectum: Run) -> None:
    np.savez("a.npz", vectors=np.eye(6)[:3], groups=np.array(["1", "2", "3"]))
    np.savez("b.npz", vectors=np.eye(6)[3:], groups=np.array(["1", "2", "3"]), kinds=np.array(["text"] * 3))
    found = scores(tectum, "geometry", "a.npz", "b.npz")
    assert found["modality gap"]["value"] == pytest.approx((2 / 3) ** 0.5) and found["alignment"]["value"] == pytest.approx(2)
    assert found["a effective rank"]["value"] == pytest.approx(3) and found["b uniformity"]["value"] == pytest.approx(-4)
    done = tectum("eval", "view", "a.npz", "b.npz", "-o", "view.html", "--title", "Six")
    assert done.status == 0 and "6 vectors by PCA" in done.out
    page = Path("view.html").read_text()
    assert "<title>Six</title>" in page and '"name":"text"' in page and '"name":"a"' in page
    assert tectum("eval", "view", "a.npz", "b.npz", "-o", "view.png").status == 0
    with Image.open("view.png") as picture:
        assert picture.size == (1200, 900)
    assert "end its name in .html or .png" in tectum("eval", "view", "a.npz", "-o", "view.pdf").err


def test_bias_of_a_model(tectum: Run) -> None:
    Image.fromarray(np.full((20, 20, 3), 200, np.uint8)).save("grey.png")
    sets = {"x": ["rose", "tulip", "daisy"], "y": ["wasp", "spider", {"image": "grey.png"}], "a": ["love"], "b": ["pain"]}
    found = scores(tectum, "association", write("sets.json", sets))
    assert -2 <= found["effect"]["value"] <= 2 and found["p"]["value"] * 20 == pytest.approx(round(found["p"]["value"] * 20))
    done = tectum("eval", "association", write("three.json", {"x": ["a"], "y": ["b"], "a": ["c"]}))
    assert done.status == 2 and "needs four lists" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("captions", "none.json", "ref.json"), "none.json"),
        (("compare", "none.json", "none.json"), "is no report"),
        (("retrieval", "ref.json", "ref.json"), "is no .npz file of vectors"),
        (("zero-shot", "nowhere"), "is no folder"),
        (("zero-shot", "."), "fewer than two classes"),
        (("generated", ".", "."), "holds no image file"),
        (("words", "latin.txt", "latin.txt"), "save it as UTF-8"),
        (("pope", "ref.json", "ref.json"), "no field 'question_id'"),
    ],
)
def test_mistakes_are_one_line(tectum: Run, arguments: tuple[str, ...], words: str) -> None:
    write("ref.json", REFERENCES)
    Path("latin.txt").write_bytes("größe".encode("latin-1"))
    done = tectum("eval", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1 and words in done.err
