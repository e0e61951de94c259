"""HTML as a tree: text is escaped wherever it comes from, pictures lie in the page, and nothing is loaded."""

import base64
import pathlib
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

Element = ElementTree.Element
Content = Element | str

RESOLUTION = 150
"""Dots an inch at which pictures are drawn."""

# System colours follow the reader's choice of dark or light; pictures keep the white that they are drawn on.
STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 18%, Canvas);
  --soft: color-mix(in srgb, CanvasText 6%, Canvas); --muted: color-mix(in srgb, CanvasText 65%, Canvas); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem;
  background: Canvas; color: CanvasText; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .5rem 0; }
.muted, figcaption { color: var(--muted); }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; padding: 0; list-style: none; }
.cards li { flex: 1 1 9rem; padding: .6rem .9rem; border-radius: .5rem; background: var(--soft); }
.cards strong { display: block; font-size: 1.35rem; line-height: 1.3; white-space: nowrap; }
.cards span { font-size: .85rem; color: var(--muted); }
figure { margin: .8rem 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; background: white; border-radius: .5rem; padding: .4rem; }
figcaption { font-size: .9rem; margin-top: .3rem; max-width: 46rem; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.tables figcaption { width: 0; min-width: 100%; }
.tables td:first-child { max-width: 13rem; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
tr { break-inside: avoid; }
table.words td { text-align: left; overflow-wrap: anywhere; max-width: 24rem; }
table.words td:first-child { white-space: nowrap; padding-right: 1.5rem; color: var(--muted); }
code, pre { font: .88rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem .9rem; border-radius: .5rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media print { :root { color-scheme: light; } body { max-width: none; padding: 0; font-size: 11pt; }
  h2 { break-after: avoid; } .tables { display: block; } details::details-content { content-visibility: visible; } }
"""


def element(tag: str, *children: Content, **attributes: str) -> Element:
    """An element of HTML; `class_` is the attribute `class`, and strings are text, never markup.

    >>> document("", [element("p", "5 < 7, ", element("code", "<b>"))]).splitlines()[-2]
    '<p>5 &lt; 7, <code>&lt;b&gt;</code></p>'
    """
    made = ElementTree.Element(tag, {name.rstrip("_"): value for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def document(title: str, content: Iterable[Element]) -> str:
    """A whole page with its style, an element of the content a line."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", STYLE),
    )
    body = element("body", *content)
    body.text = "\n"
    for child in body:
        child.tail = "\n"
    page = ElementTree.tostring(element("html", head, body, lang="en"), encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{page}\n"


def picture(path: pathlib.Path, alternative: str, caption: str = "") -> Element:
    """A PNG file, whole in the page; `alternative` says what it shows to those who do not see it."""
    content = path.read_bytes()
    data, inches = base64.b64encode(content).decode(), int.from_bytes(content[16:20]) / RESOLUTION
    # As wide as it was drawn, so that its letters have the size of the page's.
    image = element("img", src=f"data:image/png;base64,{data}", width=f"{96 * inches:.0f}", alt=alternative)
    return element("figure", image, *([element("figcaption", caption)] if caption else []))


def table(columns: Sequence[str], rows: Iterable[Sequence[Content]], **attributes: str) -> Element:
    """A table; without columns it has no head."""
    head = [element("thead", element("tr", *(element("th", column) for column in columns)))] if columns else []
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element("table", *head, element("tbody", *body), **attributes)
