"""A page: Markdown with pictures beside it, and the same as one HTML file; both are written together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budgetnet.drawing import THEME, Picture
from budgetnet.errors import StudyError
from budgetnet.files import replace_together

if TYPE_CHECKING:
    from markdown_it.renderer import RendererHTML

MARK = "<!-- written by budgetnet report; changes are lost when it is written again, but for those in study.yaml -->"
OURS = "<!-- written by budgetnet report"  # how every version's mark begins
PICTURES = "pictures"  # the folder beside a page

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
    """A Markdown table. columns: names; one that ends with ``>`` is set to the right.

    A cell becomes one line, and a bar in it is escaped.
    """
    heads = [column.removesuffix(">") for column in columns]
    ruler = ["--:" if column.endswith(">") else "---" for column in columns]
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ruler, *cells))


def shown(picture: Picture) -> str:
    """A picture in Markdown, with what it says below it."""
    return f"![{picture.title}]({PICTURES}/{picture.name}.svg)\n\n{picture.told}"


@dataclass(frozen=True)
class Page:
    """A title, Markdown without it, and the pictures that ``shown`` has put into the text."""

    title: str
    text: str
    pictures: tuple[Picture, ...]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write README.md, report.html and the pictures; the paths of the first two.

        Raises StudyError when a README that budgetnet did not write is in the way, and StudyError or ModelError when
        nothing can be written: then both pages stay as they were.
        """
        markdown, page = folder / "README.md", folder / "report.html"
        try:
            for path in (markdown, page):
                if path.exists() and OURS not in path.read_text(encoding="utf-8"):
                    raise StudyError(
                        f"{path}: is not a report of budgetnet's, and is left as it is; choose another --out"
                    )
            written = f"# {self.title}\n\n{MARK}\n\n{self.text}\n"
            contents = {markdown: written.encode(), page: self._html().encode()}
            self._write_pictures(folder / PICTURES)
        except (OSError, UnicodeError) as error:
            raise StudyError(f"{folder}: cannot be written: {error}") from None
        replace_together(contents)
        return markdown, page

    def _write_pictures(self, folder: Path) -> None:
        """Those of an earlier report that are no longer drawn go, anybody else's stay."""
        folder.mkdir(parents=True, exist_ok=True)
        drawn = {f"{picture.name}.svg": picture.svg for picture in self.pictures}
        for path in folder.glob("*.svg"):
            if path.name not in drawn and THEME in path.read_text(encoding="utf-8", errors="ignore"):
                path.unlink()
        for name, svg in drawn.items():
            (folder / name).write_text(svg, encoding="utf-8")

    def _html(self) -> str:
        by_address = {f"{PICTURES}/{picture.name}.svg": picture for picture in self.pictures}
        return html(self.title, f"# {self.title}\n\n{self.text}", by_address, MARK)


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
