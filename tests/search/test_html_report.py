"""The report is one page that carries everything, loads nothing, and cannot be broken out of."""

from __future__ import annotations

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from small_media import make_picture, make_sound, make_text

from tectum.search.library import Library
from tectum.search.report import Query, render, write_report
from tectum.search.results import LibraryHit, Results

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether the tags are balanced."""

    VOID = frozenset({"meta", "img", "rect"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def results_of(*hits: LibraryHit, best_below: float | None = None) -> Results:
    return Results(hits=hits, considered=1234, best_below=best_below, queries=("text",), threshold=0.5, seconds=0.0)


def hit(path: Path | str, kind: str, **more: object) -> LibraryHit:
    return LibraryHit(**({"path": str(path), "kind": kind, "relevance": 0.87, "cosine": 0.31} | more))  # type: ignore[arg-type]


def data(uri: str | None) -> bytes:
    assert uri is not None and uri.startswith("data:")
    return base64.b64decode(uri.split(",", 1)[1])


def check_whole_and_closed(page: Page) -> None:
    """Balanced, with nothing that runs and nothing from elsewhere."""
    assert not page.open
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "link", "base", "form"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "poster", "data"):
            if name in attributes:
                assert str(attributes[name]).startswith("data:"), (tag, attributes)
        if tag == "a":
            assert str(attributes["href"]).startswith("file:///")
    style = "".join(page.words)
    assert "@import" not in style and "url(" not in style and "http" not in style


def test_hits_of_every_kind_are_shown(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 600, 3), dtype=np.uint8)).save(tmp_path / "big.png")
    make_sound(tmp_path / "long.wav", "low", seconds=30)
    text = make_text(tmp_path / "notes.txt", "a passage about rain")
    page = Page(
        render(
            [
                Query(
                    results=results_of(
                        hit(tmp_path / "big.png", "image", copies=("/a/copy.png",)),
                        hit(tmp_path / "long.wav", "audio"),
                        hit(text, "text", excerpt="a passage about rain"),
                    ),
                    text="rain",
                    image=tmp_path / "big.png",
                    audio=tmp_path / "long.wav",
                    note="tectum search rain",
                ),
                Query(results=results_of(best_below=0.12), text="unicorn"),
            ],
            title="A title",
            summary="A summary.",
        )
    )
    check_whole_and_closed(page)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 and pictures[0]["src"] == pictures[1]["src"] and pictures[1]["alt"] == "big.png"
    with Image.open(io.BytesIO(data(pictures[0]["src"]))) as thumbnail:
        assert max(thumbnail.size) <= 320 and abs(thumbnail.width / thumbnail.height - 600 / 900) < 0.02
    sounds = [attributes for tag, attributes in page.tags if tag == "audio"]
    samples, rate = soundfile.read(io.BytesIO(data(sounds[0]["src"])))
    assert len(sounds) == 2 and "controls" in sounds[0] and samples.ndim == 1 and 9.5 < len(samples) / rate < 10.5
    assert len(str(sounds[0]["src"])) < 250_000
    meters = [attributes for tag, attributes in page.tags if attributes.get("role") == "meter"]
    assert [meter["aria-valuenow"] for meter in meters] == ["0.870"] * 3
    told = ["A title", "A summary.", "rain", "tectum search rain", "a passage about rain", "0.87", "cosine 0.310", "and 1 copy"]
    told += ["the first 10 s of 0:30", "Nothing found among 1,234 files.", "reaches 0.12, and 0.50 is asked for", "unicorn"]
    assert [words for words in told if words not in page.text] == []


def test_hostile_names_words_and_excerpts_stay_text(tmp_path: Path) -> None:
    folder = tmp_path / "<b>bold"
    bad = [
        make_picture(folder / f"{name}.png", "red", i)
        for i, name in enumerate(["'\"&<i>.x", "two\nlines", "🐕 日本", "\x1b[31m", "‮gnp"])
    ]
    raw = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    make_picture(tmp_path / "x.png").rename(raw)
    hits = [hit(path, "image") for path in (*bad, raw)]
    hits += [hit("/x/" + EVIL.replace("/", "∕"), "image"), hit("/gone.txt", "text", excerpt=EVIL + "\udcff")]
    query = Query(results=results_of(*hits), text=EVIL + "\udcff", note=EVIL, image=bad[0])
    html = render([query], title=EVIL, summary=EVIL)
    html.encode("utf-8")
    page = Page(html)
    check_whole_and_closed(page)
    assert page.text.count("<script>alert(1)</script>") == 6
    assert sum(tag == "img" for tag, _ in page.tags) == 7
    assert "\x1b" not in html and "‮" not in html and "two\\nlines.png" in page.text
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert f"file://{tmp_path}/%FF%FE.png" in links


def test_files_that_are_gone_or_broken_are_still_listed(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page = Page(render([Query(results=results_of(hit(tmp_path / "gone.png", "image"), hit(tmp_path / "gone.wav", "audio"),
                                                 hit(tmp_path / "broken.png", "image")), text="x")]))  # fmt: skip
    check_whole_and_closed(page)
    assert page.text.count("unreadable") == 2 and "broken" in page.text and "gone.png" in page.text


def test_a_report_of_a_real_search_is_written_whole_or_not_at_all(library: Library, media: Path, tmp_path: Path) -> None:
    library.add(media)
    target = tmp_path / "out.html"
    picture = Image.open(media / "red" / "0.png")
    queries = [
        Query(results=library.search(text="high"), text="high"),
        Query(results=library.search(image=picture), image=picture),
        Query(results=library.search(text="zebra"), text="zebra"),
    ]
    write_report(target, queries)
    page = Page(target.read_text(encoding="utf-8"))
    check_whole_and_closed(page)
    assert "whistle.wav" in page.text and "Nothing found" in page.text
    before = target.read_bytes()
    with pytest.raises(AttributeError):
        write_report(target, [Query(results=None, text="x")])  # type: ignore[arg-type]
    assert target.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == [
        "media",
        "my.tectum",
        "out.html",
    ]


def test_the_page_forbids_scripts_and_the_network() -> None:
    html = render([])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None and "default-src 'none'" in policy[1] and "script" not in policy[1] and "http" not in policy[1]
