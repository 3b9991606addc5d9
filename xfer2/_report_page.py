"""The page of a report: HTML with its style, script and pictures inside, which asks nothing of any network."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

_SIZE = (4.2, 3.2)  # inches
_INK = "#0a1b2d"  # stands for the text's colour until the page says which that is
_RC = {"svg.fonttype": "none", "svg.hashsalt": "xfer2", "font.size": 9, "savefig.transparent": True, "savefig.dpi": 200,
       **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)}

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #5b626b; --paper: #ffffff; --raised: #f5f6f8; --line: #d5d9de;
  --accent: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #a3abb5; --paper: #14171b; --raised: #1e2228; --line: #3a414a; --accent: #7db4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 80rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0 0 .25rem; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.25rem; }
.summary { margin: 0; font-size: 1.1rem; }
.note, figcaption { color: var(--soft); font-size: .875rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: .25rem; }
.scroll { overflow: auto; max-height: 36rem; max-width: 100%; width: fit-content; border: 1px solid var(--line);
  border-radius: 6px; }
.scroll:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .75rem; text-align: left; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
.scroll td { white-space: nowrap; }
.scroll .plain td { white-space: normal; }
.scroll .plain td:last-child { min-width: 16rem; }
.number { text-align: right; }
thead th { position: sticky; top: 0; background: var(--raised); white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button::after { content: " \\2195"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); }
table.said { width: 100%; overflow-wrap: anywhere; }
.said th { width: 30%; max-width: 14rem; vertical-align: top; padding-left: 0; color: var(--soft); font-weight: 400; }
pre { overflow-x: auto; padding: .75rem 1rem; background: var(--raised); border-radius: 6px; font-size: .8125rem; }
@media print { .scroll { max-height: none; } }
"""
_SCRIPT = """
const collator = new Intl.Collator(undefined, {numeric: true});
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const header = button.parentElement, body = header.closest("table").tBodies[0], column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending", number = header.classList.contains("number");
  const text = row => row.cells[column].textContent;
  const value = row => number ? parseFloat(text(row).replaceAll(",", "")) : text(row);
  const rows = [...body.rows].map(row => [value(row), row]);
  const blank = rows.filter(([one]) => Number.isNaN(one)), rest = rows.filter(([one]) => !Number.isNaN(one));
  rest.sort(([a], [b]) => (down ? -1 : 1) * (number ? a - b : collator.compare(a, b)));
  body.append(...rest.concat(blank).map(([, row]) => row));
  header.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}));
"""


def page(title: str, body: Sequence[str]) -> str:
    """The whole file; whatever is in `body` is HTML already, the title is not."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", "</head>", "<body>", "<main>", *body, "</main>",
        f"<script>{_SCRIPT}</script>", "</body>", "</html>", ""])


def section(heading: str, *content: str) -> str:
    """A heading and the HTML below it."""
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *content, "</section>"])


def paragraph(text: str, kind: str = "note") -> str:
    """Text of one of the page's kinds."""
    return f'<p class="{kind}">{escape(text)}</p>'


def definitions(said: Mapping[str, Any]) -> str:
    """A table of names and what is said of each."""
    names = (escape(str(name)).replace("_", "_<wbr>") for name in said)  # long names of parameters break there
    rows = (f'<tr><th scope="row">{name}</th><td>{escape(str(text))}</td></tr>'
            for name, text in zip(names, said.values(), strict=True))
    return f'<table class="said"><tbody>{"".join(rows)}</tbody></table>'


def table(label: str, columns: Mapping[str, Sequence[Any]], formats: Mapping[str, str], sortable: bool = True) -> str:
    """A table that scrolls inside its own box: columns with a format hold numbers, the others text.

    Parameters
    ----------
    label : str
        What the table holds, for screen readers.
    columns : mapping of str to sequence
        All as long. NaN is shown as a dash.
    formats : mapping of str to str
        As of `format`, by column.
    sortable : bool
        Whether headers are buttons that sort.
    """
    kinds = {name: ' class="number"' if name in formats else "" for name in columns}
    titles = {name: f'<button type="button">{escape(name)}</button>' if sortable else escape(name) for name in columns}
    heads = (f'<th scope="col"{kinds[name]}>{titles[name]}</th>' for name in columns)
    cells = [[f"<td{kinds[name]}>{escape(_shown(value, formats.get(name)))}</td>" for value in values]
             for name, values in columns.items()]
    rows = ("<tr>" + "".join(row) + "</tr>" for row in zip(*cells, strict=True))
    return "\n".join([f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">',
                      "<table>" if sortable else '<table class="plain">', f"<thead><tr>{''.join(heads)}</tr></thead>",
                      "<tbody>", *rows, "</tbody>", "</table>", "</div>"])


def code(text: str) -> str:
    """Text as it is, in a box that scrolls."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def plots(drawings: Sequence[tuple[str, str, Callable[[Any], Any]]]) -> str:
    """Pictures in as many columns as fit: each a name, a caption, and what draws it into Axes."""
    figures = (f"<figure>{_svg(number, name, draw)}<figcaption>{escape(caption)}</figcaption></figure>"
               for number, (name, caption, draw) in enumerate(drawings))
    return '<div class="plots">\n' + "\n".join(figures) + "\n</div>"


def _shown(value: Any, form: str | None) -> str:
    if form is None:
        return str(value)
    return "-" if value != value else format(value, form)


def _svg(number: int, name: str, draw: Callable[[Any], Any]) -> str:
    """A picture as an element of the page: ids of its own, the page's colour of text, the same bytes for the same input."""
    import matplotlib.style
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.style.context(["default", _RC]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has fonts for names in any script
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue().decode("utf-8").partition("<svg ")[2].partition(">")[2]
    for unwanted in ("metadata", "style"):  # the style's selector is every element: of the page, then
        svg = re.sub(rf"<{unwanted}\b.*?</{unwanted}>\s*", "", svg, flags=re.DOTALL)
    own = f"plot{number}-"

    def changed(tag: re.Match[str]) -> str:
        text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{own}", tag[0])
        return text.replace(_INK, "currentColor")

    width, height = (72 * inches for inches in _SIZE)
    return (f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">'
            + re.sub(r"<[^<>]*>", changed, re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)))
