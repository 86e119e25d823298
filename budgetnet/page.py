"""A page that is written once, as Markdown with pictures beside it, and set a second time as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from budgetnet.drawing import Picture

if TYPE_CHECKING:
    from markdown_it.renderer import RendererHTML

STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--paper:#fff;--line:#d1d9e0;--shade:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#3d444d;--shade:#151b23}}
body{margin:0 auto;max-width:60rem;padding:1.5rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1,h2{line-height:1.25}h2{margin-top:2.2rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
svg{max-width:100%;height:auto}
table{display:block;overflow-x:auto;border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid var(--line);padding:.2rem .6rem;text-align:left;vertical-align:top;white-space:nowrap}
td:last-child{white-space:normal}
code,pre{font:.86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--shade);padding:.7rem;overflow-x:auto}a{color:inherit}
"""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. columns: names; one that ends with ``>`` is set to the right. A bar in a cell is escaped."""
    heads = [column.removesuffix(">") for column in columns]
    ruler = ["--:" if column.endswith(">") else "---" for column in columns]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ruler, *cells))


def shown(picture: Picture, folder: str) -> str:
    """A picture in Markdown, with what it says below it; its file lies in ``folder`` beside the page."""
    return f"![{picture.title}]({folder}/{picture.name}.svg)\n\n{picture.told}"


def html(title: str, markdown: str, pictures: Mapping[str, Picture], mark: str = "") -> str:
    """The page as one file that needs no other and no network. pictures: by the address that the Markdown has.

    HTML in the Markdown is shown as it is written, not obeyed. mark: a comment for the head.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self: RendererHTML, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        address = tokens[index].attrGet("src")
        return pictures[address].inline if address in pictures else self.image(tokens, index, options, env)

    parser.add_render_rule("image", image)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>{mark}\n<style>{STYLE}</style></head><body>\n"
        f"{parser.render(markdown)}</body></html>\n"
    )
