"""What Jupyter shows: tables that are whole, escaped, and say what the records and the closed forms say."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from budgetnet import load_ipython_extension
from budgetnet.cost import cost
from budgetnet.markup import paragraph, table
from budgetnet.notation import parse
from budgetnet.notebook import architecture_html
from budgetnet.study import open_study
from budgetnet.tabulate import receptive_field
from tests.quick import quick_study
from tests.records import NETWORK
from tests.tiny import write_space


class Page(HTMLParser):
    """The rows of a table and its other text; every tag must be closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.caption, self.said = "", ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any("color" in (value or "") for _, value in attrs)  # the page's own theme decides
        if tag == "br":
            return
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif self._open[-1] == "caption":
            self.caption += data
        else:
            self.said += data


def test_an_architecture_is_a_row_a_stage_with_its_cost_and_field() -> None:
    page = Page(architecture_html(NETWORK))  # 8 12 M c12 c12 14 16
    #  stem 9·8 + 2·8 = 88 params on 26 × 26; stage1 9·8·12 + 2·12 = 888 on 24 × 24, field 5;
    #  stage2 12 × 12 → 10 × 10 → 8 × 8, field 6 + 2·2·4 = 22; head 16·10 + 10 = 170
    assert page.caption == "8 12 M c12 c12 14 16 · input 1×28×28"
    assert page.rows == [
        ["stage", "layers", "output", "params", "MACs", "field"],
        ["stem", "Conv 3×3 → 8", "8×26×26", "88", f"{9 * 8 * 26 * 26:,}", "3"],
        ["stage1", "Conv 3×3 → 12", "12×24×24", "888", f"{9 * 8 * 12 * 24 * 24:,}", "5"],
        [
            "stage2",
            "MaxPool 2×2, 2 × Conv 3×3 → 12, Conv 3×3 → 14, Conv 3×3 → 16",
            "16×8×8",
            f"{7374 - 88 - 888 - 170:,}",
            f"{9 * (12 * 12 * 144 * 2 + 12 * 14 * 100 + 14 * 16 * 64):,}",
            "22",
        ],
        ["head", "GlobalAvgPool, Conv 1×1 → 10", "10", "170", "160", "36"],
    ]
    assert "params 7,374" in page.said


@pytest.mark.parametrize("notation", ["[relu-bn bias] 8 s12/2 r14 M 5x5:8* | 1x1:10 avg2", "12* | fc:10", "8 r8 r12/2"])
def test_the_stages_add_up_to_the_whole(notation: str) -> None:
    network = parse(notation)
    _, *rows = Page(architecture_html(network)).rows
    assert sum(int(row[3].replace(",", "")) for row in rows) == cost(network).params
    assert sum(int(row[4].replace(",", "")) for row in rows) == cost(network).macs
    assert [row[0] for row in rows] == [name for name, _ in network.sections()]


def test_an_architecture_that_cannot_be_says_why() -> None:
    assert "leaves nothing of a map" in Page(architecture_html(parse("8 M M M M M 3"))).said


def test_the_table_of_rf_is_whole() -> None:
    page = Page(receptive_field(NETWORK, title="<b>&")._repr_html_())
    assert page.caption == "<b>& · input 1×28×28"
    assert page.rows[0][0] == "layer"
    assert page.rows[1][:2] == ["stem.0", "Conv"]
    assert "params 7,374" in page.said


def test_a_study_shows_its_states_and_the_best_five(tmp_path: Path, small_mnist: Path) -> None:
    write_space(tmp_path, require={"receptive_field": 5, "final_map": 10})
    data = tmp_path / "<i>&.npz"
    data.write_bytes(small_mnist.read_bytes())
    study = quick_study(tmp_path, data, trials=6)
    page = Page(study._repr_html_())
    assert page.caption == f"study tiny-600 · params < 600 · {data} · 3 epochs"
    assert page.rows[0] == ["trial", "val %", "params", "MACs", "field", "network"]
    best = study.leaderboard()[:5]
    assert [row[0] for row in page.rows[1:]] == [str(record.number) for record in best]
    assert [row[5] for row in page.rows[1:]] == [str(record.architecture) for record in best]
    assert page.rows[1][1] == f"{100 * (best[0].value or 0):.2f}"
    rejected = sum(record.state == "rejected" for record in study.records())
    assert rejected > 0
    assert {"6 finished", f"{rejected} rejected"} <= set(page.said.split(" · "))
    stranger = open_study("tiny-600", root=tmp_path / "studies")
    stranger.inner.set_user_attr("settings", None)
    assert "was not made by this version of budgetnet" in Page(stranger._repr_html_()).said


def test_markup_escapes() -> None:
    page = Page(table("a < b", ["x&y"], [["<script>"]]) + paragraph(["1 < 2", "&amp;"]))
    assert (page.caption, page.rows, page.said) == ("a < b", [["x&y"], ["<script>"]], "1 < 2&amp;")


def test_ipython_shows_architectures_without_being_asked() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    shell = SimpleNamespace(display_formatter=formatters.DisplayFormatter())
    load_ipython_extension(shell)
    shown, _ = shell.display_formatter.format(NETWORK)
    assert shown["text/html"] == architecture_html(NETWORK)
    script = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\nimport budgetnet, sys\n"
        "assert 'budgetnet.table' not in sys.modules\n"
        "print(shell.display_formatter.format(budgetnet.parse('8 12'))[0]['text/html'])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert Page(done.stdout.strip()).rows[1][1] == "Conv 3×3 → 8"
