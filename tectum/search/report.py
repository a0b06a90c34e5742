"""Search results as one HTML page that needs nothing else: no network, no script, pictures and sounds inside."""

from __future__ import annotations

import base64
import io
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from tectum.errors import MediaError
from tectum.files import write_text
from tectum.media.source import display
from tectum.page import page, text
from tectum.search.report_style import STYLE
from tectum.search.results import LibraryHit, Results

_SIDE = 320
_SECONDS = 10.0
_RATE = 22_050
_BARS = 64
_EXCERPT = 420
# Stands where a label goes in; no name and no base64 holds it.
_LABEL = "\0"

_NOUNS = {"image": "picture", "audio": "sound", "text": "text"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One search of a report.

    Attributes:
        results: what it found.
        text, image, audio: what was looked for; a picture or sound as a path, bytes or decoded.
        note: a line shown under it, for example the command that repeats it.
    """

    results: Results
    text: str | None = None
    image: Any = None
    audio: Any = None
    note: str = ""


def write_report(path: str | Path, queries: Sequence[Query], *, title: str = "Search results", summary: str = "") -> None:
    """Write a report beside `path` and rename it there.

    Args:
        path: the HTML file.
        queries: searches, in the order they are shown.
        title: heading of the page.
        summary: a sentence under the heading.
    """
    write_text(path, render(queries, title=title, summary=summary))


def render(queries: Sequence[Query], *, title: str = "Search results", summary: str = "") -> str:
    """The page as text. Files that are gone or broken by now are listed without their picture or sound.

    >>> none = Results(hits=(), considered=3, best_below=0.1, queries=("text",), threshold=0.5, seconds=0.0)
    >>> "Nothing found" in render([Query(results=none, text="a <b>unicorn</b>")])
    True
    """
    media = _Media()
    sections = "\n".join(_section(number, query, media) for number, query in enumerate(queries, 1))
    lead = f'<p class="summary">{text(summary)}</p>' if summary else ""
    body = f"""<header class="page"><h1>{text(title)}</h1>{lead}</header>
<main>
{sections}
</main>
<footer>Made by tectum. Relevance is the estimated probability that a file is what was asked for; what stays below the threshold
is left out.</footer>"""
    return page(title, body, style=STYLE, allow="img-src data:; media-src data:")


class _Media:
    """Thumbnails and players, made once for each file of a page."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, object], str] = {}

    def of(self, kind: str, source: Any, label: str) -> str:
        """HTML that shows a picture or plays a sound; a note if it cannot be read."""
        key = (kind, source if isinstance(source, str | bytes | Path) else id(source))
        if key not in self._made:
            try:
                self._made[key] = _picture(source) if kind == "image" else _sound(source)
            except (MediaError, OSError) as error:
                why = error.reason if isinstance(error, MediaError) else "unreadable"
                self._made[key] = f'<div class="missing">{text(why)}</div>'
        return self._made[key].replace(_LABEL, escape(label))


def _section(number: int, query: Query, media: _Media) -> str:
    results = query.results
    asked = f"<q>{text(query.text)}</q>" if query.text is not None else ""
    for kind, source in (("image", query.image), ("audio", query.audio)):
        if source is not None:
            name = display(os.path.basename(source)) if isinstance(source, str | Path) else f"a {_NOUNS[kind]}"
            plus = '<span class="plus">+</span>' if asked else ""
            asked += f"{plus}<figure>{media.of(kind, source, f'query: {name}')}<figcaption>{escape(name)}</figcaption></figure>"
    note = f"<p><code>{text(query.note)}</code></p>" if query.note else ""
    if results.hits:
        cards = "\n".join(_card(hit, media) for hit in results.hits)
        body = f'<ol class="hits">\n{cards}\n</ol>'
    else:
        best = (
            f" The best of them reaches {results.best_below:.2f}, and {results.threshold:.2f} is asked for."
            if results.best_below is not None
            else ""
        )
        body = f'<p class="nothing"><strong>Nothing found</strong> among {results.considered:,} files.{best}</p>'
    found = f"{len(results.hits)} of {results.considered:,} files" if results.hits else ""
    return f"""<section aria-labelledby="query-{number}">
<div class="asked"><h2 id="query-{number}">{asked or "Search"}</h2><span class="count">{found}</span></div>
{note}
{body}
</section>"""


def _card(hit: LibraryHit, media: _Media) -> str:
    name = display(os.path.basename(hit.path))
    if hit.kind == "text":
        excerpt = hit.excerpt if len(hit.excerpt) <= _EXCERPT else f"{hit.excerpt[:_EXCERPT]}…"
        shown = f"<blockquote>{text(excerpt)}</blockquote>"
    else:
        shown = media.of(hit.kind, hit.path, name)
    copies = f"<p class='copies'>and {len(hit.copies)} {'copy' if len(hit.copies) == 1 else 'copies'}</p>" if hit.copies else ""
    folder = display(os.path.dirname(hit.path))
    link = "file://" + urllib.parse.quote(os.fsencode(hit.path))
    percent = 100 * hit.relevance
    return f"""<li class="card {escape(hit.kind)}">
<div class="shown">{shown}</div>
<div class="facts">
<h3><a href="{escape(link)}" title="{escape(display(hit.path))}">{escape(name)}</a></h3>
<div class="relevance"><div class="bar" role="meter" aria-label="relevance" aria-valuemin="0" aria-valuemax="1"
 aria-valuenow="{hit.relevance:.3f}"><span style="width:{percent:.1f}%"></span></div><b>{hit.relevance:.2f}</b></div>
<p class="small"><span>{_NOUNS.get(hit.kind, escape(hit.kind))}</span><span>cosine {hit.cosine:.3f}</span></p>
<p class="path">{escape(folder)}</p>{copies}
</div>
</li>"""


def _picture(source: Any) -> str:
    from tectum.media.image import read_image

    image = read_image(source, near=_SIDE // 2)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img alt="{_LABEL}" {size} loading="lazy" src="{_data_uri("image/jpeg", buffer)}">'


def _sound(source: Any) -> str:
    """The first ten seconds as a player, under a drawing of their loudness."""
    import soundfile

    from tectum.media.audio import read_sound, sound_info

    length = sound_info(source).seconds
    samples = read_sound(source, rate=_RATE, seconds=_SECONDS).numpy()
    compact = "MP3" in soundfile.available_formats()
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, _RATE, format="MP3" if compact else "WAV", subtype=None if compact else "PCM_16")
    uri = _data_uri("audio/mpeg" if compact else "audio/wav", buffer)
    edges = [round(i * len(samples) / _BARS) for i in range(_BARS + 1)]
    peaks = [float(abs(samples[a:b]).max()) if b > a else 0.0 for a, b in pairwise(edges)]
    loudest = max(*peaks, 1e-9)
    heights = [max(2.0, 46 * peak / loudest) for peak in peaks]
    bars = "".join(
        f'<rect x="{5 * i + 1}" y="{25 - h / 2:.1f}" width="3" height="{h:.1f}" rx="1.5"/>' for i, h in enumerate(heights)
    )
    whole = f" of {_duration(length)}" if length else ""
    long = len(samples) >= _SECONDS * _RATE and (length is None or length > _SECONDS)
    cut = f'<p class="cut">the first {_SECONDS:.0f} s{whole}</p>' if long else ""
    wave = f'<svg class="wave" viewBox="0 0 {5 * _BARS} 50" aria-hidden="true">{bars}</svg>'
    return f'<div class="sound">{wave}<audio controls preload="metadata" aria-label="{_LABEL}" src="{uri}"></audio>{cut}</div>'


def _data_uri(media_type: str, buffer: io.BytesIO) -> str:
    return f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
