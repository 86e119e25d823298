"""A table in HTML for notebooks: escaped, and without colours of its own, so that it reads on light and dark pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape


def table(caption: str, heading: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = ()) -> str:
    """``left``: headings of the columns of words; a notebook sets the others, of numbers, to the right."""
    align = [' style="text-align:left"' if name in left else "" for name in heading]
    head = "".join(f"<th{side}>{escape(name)}</th>" for name, side in zip(heading, align, strict=True))
    body = "".join(f"<tr>{_cells(row, align)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Sequence[str], align: Sequence[str]) -> str:
    return "".join(f"<td{side}>{escape(cell)}</td>" for cell, side in zip(row, align, strict=True))


def paragraph(lines: Iterable[str]) -> str:
    """Lines of text, one below the other."""
    return f"<p>{'<br>'.join(map(escape, lines))}</p>"
