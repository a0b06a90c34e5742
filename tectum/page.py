"""HTML pages that need nothing else: no network, no other file, light and dark.

A page's policy lets it style itself and load or run nothing but what its maker names.
"""

from __future__ import annotations

from html import escape

_COLOURS = """
:root { --ground: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #6a665f; --line: #e5e1da; --accent: #8a3b1e; --mark: #c8643c;
  --well: #f3f0ea; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #171614; --card: #201f1c; --ink: #ece8e1; --soft: #a39d92; --line: #35322d; --accent: #eda27f;
    --mark: #d9764c; --well: #2a2824; } }
* { box-sizing: border-box; }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font: 600 1.8rem/1.2 ui-serif, Georgia, "Times New Roman", serif; margin: 0; overflow-wrap: anywhere; }
"""


def page(title: str, body: str, *, style: str = "", allow: str = "") -> str:
    """A whole page.

    Args:
        title: its name, as text.
        body: HTML.
        style: CSS after the house's colours: --ground, --card, --ink, --soft, --line, --accent, --mark, --well.
        allow: further directives of the content security policy, such as "img-src data:".

    >>> "<title>1 &lt; 2</title>" in page("1 < 2", "<p>so it is</p>")
    True
    """
    policy = "; ".join(("default-src 'none'", "style-src 'unsafe-inline'", *filter(None, [allow])))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{_COLOURS}{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def text(value: str) -> str:
    """Text for HTML; what is no valid Unicode becomes visible escapes.

    >>> text("a<b")
    'a&lt;b'
    """
    return escape(valid(value))


def valid(value: str) -> str:
    """The same text, with what is no valid Unicode as visible escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
