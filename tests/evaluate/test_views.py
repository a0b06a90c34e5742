"""Views: projections by theorem, a picture by its pixels, a page that carries everything and cannot be broken out of."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tectum.errors import EvaluationError
from tectum.evaluate.views import View, principal_components, project
from tectum.evaluate.views_page import render, save_page
from tectum.evaluate.views_picture import COLORS, draw, save_picture

EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\u2028<!--\ud800'


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def view_of(labels: tuple[str, ...] = (), modalities: tuple[str, ...] = ("image", "text")) -> View:
    n = max(6, len(labels))
    return View(random(n, 2), modalities, np.arange(n) % len(modalities), (*labels, *[""] * (n - len(labels))), "PCA, 80 %")


# Projections


def test_principal_components_are_numpys_svd_and_their_variances_are_sorted() -> None:
    x = random(2500, 7) * [5, 3, 1, 1, 1, 1, 0.1] + 4
    points, shares = principal_components(torch.from_numpy(x), 3)
    centred = x - x.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(points.numpy()) == pytest.approx(np.abs(centred @ directions[:3].T), abs=1e-9)
    assert shares.numpy() == pytest.approx((values**2 / (values**2).sum())[:3])


def test_pca_keeps_the_distances_of_points_in_a_plane_and_repeats_itself() -> None:
    plane = np.linalg.qr(random(9, 9))[0][:2]
    circle = np.stack((np.cos(np.arange(12)), np.sin(np.arange(12))), 1)
    view = project({"image": circle[:5] @ plane, "text": 3 * circle[5:] @ plane}, labels={"text": list("abcdefg")})
    between = np.linalg.norm(view.points[:, None] - view.points[None], axis=2)
    assert between == pytest.approx(np.linalg.norm(circle[:, None] - circle[None], axis=2), abs=1e-9)
    assert view.method == "PCA, 100 % of the variance"
    assert view.modalities == ("image", "text") and view.which.tolist() == [0] * 5 + [1] * 7
    assert view.labels == ("",) * 5 + tuple("abcdefg")
    again = project({"image": circle[:5] @ plane, "text": 3 * circle[5:] @ plane})
    assert (again.points == view.points).all()
    assert np.isfinite(project({"image": np.ones((3, 1))}).points).all()


def test_tsne_keeps_two_groups_apart_and_repeats_itself() -> None:
    pytest.importorskip("sklearn")
    vectors = {"image": random(25, 60) * 0.1 + np.eye(60)[0], "text": random(25, 60, seed=1) * 0.1 + np.eye(60)[1]}
    view = project(vectors, method="tsne")
    assert view.method.startswith("t-SNE, perplexity 16.3333, seed 0, scikit-learn ")
    distances = np.linalg.norm(view.points[:, None] - view.points[None], axis=2) + 1e9 * np.eye(50)
    assert (view.which[distances.argmin(1)] == view.which).mean() > 0.95
    assert (project(vectors, method="tsne").points == view.points).all()
    assert project({"text": random(5, 3)}, method="tsne").points.shape == (5, 2)


def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = (("sklearn", "tsne", r"scikit-learn: pip install 'tectum\[plots\]'"), ("umap", "umap", "umap-learn"))
    for name, method, message in cases:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(EvaluationError, match=message):
            project({"text": random(9, 4)}, method=method)  # type: ignore[arg-type]


def test_umap_is_asked_for_a_seed_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def umap(**settings: object) -> SimpleNamespace:
        asked.update(settings)
        return SimpleNamespace(fit_transform=lambda matrix: matrix[:, :2].astype(np.float32))

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=umap, __version__="0.5"))
    view = project({"text": random(9, 4)}, method="umap", seed=7)
    assert asked == {"n_neighbors": 8, "random_state": 7, "n_jobs": 1} and view.points.dtype == np.float64
    assert view.method == "UMAP, 8 neighbours, seed 7, umap-learn 0.5"


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        ({"a": random(3, 4), "b": random(3, 5)}, {}, r"different lengths \(a 4, b 5\)"),
        ({"a": random(3, 4)}, {"labels": {"a": ["x"]}}, "3 vectors of a need as many labels, not 1"),
        ({"a": random(3, 4)}, {"labels": {"b": ["x"]}}, "labels but no vectors for b"),
        ({"a": random(1, 4)}, {}, "1 vectors are too few for a view by pca"),
        ({"a": random(4, 4)}, {"method": "tsne"}, "4 vectors are too few for a view by tsne"),
        ({}, {}, "0 vectors are too few"),
        ({"a": random(4)}, {}, r"a vectors have the shape \(4,\)"),
        ({"a": [[1.0, np.nan]]}, {}, "a vector 0 is zero or not finite"),
        ({"a": random(3, 4)}, {"method": "lda"}, "no view 'lda'"),
    ],
)
def test_what_does_not_fit_is_told(vectors: dict[str, object], options: dict[str, object], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        project(vectors, **options)  # type: ignore[arg-type]


def test_a_view_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"not \(2, 2\), 1 modality numbers and 2 labels"):
        View(np.zeros((2, 2)), ("a",), np.zeros(1, int), ("", ""), "")
    with pytest.raises(EvaluationError, match="not finite"):
        View(np.full((1, 2), np.nan), ("a",), np.zeros(1, int), ("",), "")


# The picture


def test_every_point_and_every_modality_is_in_the_picture(tmp_path: Path) -> None:
    corners = View(np.array([[0.0, 0.0], [1, 0], [0, 1], [1, 1]]), ("a", "b", "c", "d"), np.arange(4), ("",) * 4, "PCA")
    save_picture(corners, tmp_path / "view.png", size=(640, 480))
    assert [path.name for path in tmp_path.iterdir()] == ["view.png"]
    with Image.open(tmp_path / "view.png") as picture:
        assert picture.size == (640, 480) and picture.mode == "RGB"
        pixels = np.asarray(picture).astype(int)
    for modality, color in enumerate(COLORS[:4]):
        wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        legend = np.abs(pixels[70:95] - wanted).sum(2) < 12
        assert legend.any()
        shade = (wanted * 0xC8 + 255 * (255 - 0xC8)) / 255
        row, column = (np.abs(pixels[108:] - shade).sum(2) < 12).nonzero()
        assert len(row) > 20  # up is up: the second coordinate of a and b is 0, and they are below c and d
        assert (row.mean() > 186) == (modality in (0, 1)) and (column.mean() > 320) == (modality in (1, 3))


def test_the_same_view_gives_the_same_picture_and_labels_are_written() -> None:
    view = view_of(tuple(f"label {i}" for i in range(9)))
    assert draw(view).tobytes() == draw(view).tobytes() != draw(view, labels=0).tobytes()
    hostile = view_of((EVIL, "狗🐕", "\u202eabc", "x" * 5000, "a\nb\tc"), modalities=(EVIL, "y" * 500))
    assert draw(hostile, title=EVIL * 20).size == (1200, 900)
    assert draw(View(np.ones((1, 2)), ("one",), np.zeros(1, int), ("it",), "PCA")).size == (1200, 900)


def test_a_picture_without_room_or_with_a_broken_font_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="100 × 900 has no room"):
        draw(view_of(), size=(100, 900))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(EvaluationError, match=r"broken.ttf' cannot be read"):
        draw(view_of(), font=str(tmp_path / "broken.ttf"))


# The page


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data
        else:
            self.words += data


def test_the_page_carries_its_points_and_loads_nothing(tmp_path: Path) -> None:
    save_page(view_of(("a cat", "a dog")), tmp_path / "view.html", title="My view")
    assert [path.name for path in tmp_path.iterdir()] == ["view.html"]
    html = (tmp_path / "view.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"img", "iframe", "object", "embed", "link", "base", "form"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name in ("src", "href")]
    data = json.loads(page.scripts[0])
    assert data["labels"][:2] == ["a cat", "a dog"] and len(data["x"]) == len(data["y"]) == len(data["which"]) == 6
    assert max(map(abs, data["x"] + data["y"])) == 1
    assert [m["name"] for m in data["modalities"]] == ["image", "text"]
    pressed = [attributes for tag, attributes in page.tags if attributes.get("aria-pressed") == "true"]
    assert len(pressed) == 2 and "My view" in page.words and "image 3" in " ".join(page.words.split())


def test_hostile_labels_stay_data_and_only_our_script_may_run() -> None:
    page = Page(render(view_of((EVIL,), modalities=(EVIL, "text")), title=EVIL))
    assert len(page.scripts) == 2 and not [tag for tag, _ in page.tags if tag == "img"]
    readable = EVIL.replace("\ud800", "\\ud800")
    data = json.loads(page.scripts[0])
    assert data["labels"][0] == readable and data["modalities"][0]["name"] == readable
    policy = next(str(a["content"]) for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    hashed = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'"
    assert "innerHTML" not in page.scripts[1] and "eval" not in page.scripts[1]
