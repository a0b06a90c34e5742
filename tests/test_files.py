"""Files are whole or absent, and pages carry what they are given as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tectum.files import write_text, written_beside
from tectum.page import page, text


def test_nothing_half_written_appears(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"before")
    with pytest.raises(RuntimeError), written_beside(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]
    assert target.read_bytes() == b"before"
    with written_beside(target) as file:
        file.write(b"after")
        assert target.read_bytes() == b"before"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"after"]


def test_a_text_replaces_another_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\udcff")
    assert path.read_text() == "one" and len(list(tmp_path.iterdir())) == 1
    write_text(str(path), "zwei, drü\n")
    assert path.read_bytes() == "zwei, drü\n".encode()


def test_a_page_loads_and_runs_nothing_and_its_title_is_text() -> None:
    made = page("</title><script>x</script>\udcff", "<p>hello</p>", allow="img-src data:")
    assert "<script" not in made and "\\udcff" in made
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', made)
    assert policy is not None and policy[1] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    opened: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: opened.append(tag)  # type: ignore[method-assign]
    parser.feed(made)
    assert opened[:2] == ["html", "head"] and opened[-2:] == ["body", "p"]


def test_text_is_escaped_for_attributes_too() -> None:
    assert text("<a href='x' title=\"y\">&") == "&lt;a href=&#x27;x&#x27; title=&quot;y&quot;&gt;&amp;"
