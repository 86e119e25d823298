"""Reports: what the page says, that its pictures show the recorded numbers, and that it needs nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

import budgetnet
from budgetnet import frontier, report, study_front, study_pictures, winner_pictures
from budgetnet.aim import Aim
from budgetnet.by_recipe import networks_by_recipe
from budgetnet.cost import Cost, cost
from budgetnet.data import load
from budgetnet.drawing import INK, THEME, Picture, accuracy_axis, error, figure
from budgetnet.errors import ModelError, StudyError
from budgetnet.front_marks import params_axis, reached
from budgetnet.importance import importances, ranks_of
from budgetnet.notation import parse
from budgetnet.page import Page, html, table
from budgetnet.place import place
from budgetnet.recipe import Recipe
from budgetnet.report import joint_page, study_page
from budgetnet.results import BFLOAT16, Confirmation
from budgetnet.study import Settings, Study, TrialRecord, open_study, pareto
from budgetnet.survey import Survey, survey
from budgetnet.words import short
from tests.quick import quick_study
from tests.records import MACHINE, confirmation
from tests.records import run as made_run

STUDIES = Path(__file__).parents[1] / "studies"
LANDSCAPE = STUDIES / "landscape" / "study.db"
FIRST = STUDIES / "first_run"
WINNER = 3  # of the landscape: the network and recipe frozen in first_run, whose ten seeds are its confirmation here


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The committed landscape (64 complete trials of MNIST) with first_run's seeds as its winner's confirmation."""
    root = tmp_path_factory.mktemp("report") / "studies"
    (root / "landscape").mkdir(parents=True)
    shutil.copy(LANDSCAPE, root / "landscape")
    (root / "landscape" / "study.yaml").write_text("about: |\n  Why: <b>to see</b> `all` of it.\ntarget: 99.4\n")
    opened = open_study("landscape", root=root)
    evidence = json.loads((FIRST / "Model_1.json").read_text(encoding="utf-8"))
    opened.weights(WINNER, 0).parent.mkdir()
    shutil.copy(FIRST / "Model_1.safetensors", opened.weights(WINNER, 0))
    for run in Confirmation.from_dict(evidence["confirmation"]).runs:
        opened.keep_run(WINNER, run)
    return opened


@pytest.fixture(scope="module")
def found(study: Study) -> Survey:
    return survey(study)


@pytest.fixture(scope="module")
def page(study: Study) -> Page:
    """The report."""
    return study_page(study)


@pytest.fixture(scope="module")
def folder(study: Study, page: Page) -> Path:
    """Where the report lies."""
    return page.write(study.where.home)[0].parent


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The matplotlib figures, as they are when they become pictures."""
    figures: list[Any] = []

    def keep(figure: Any, name: str, title: str, told: str) -> Picture:
        figures.append(figure)
        return Picture(name, title, told, "<svg/>")

    for module in (frontier, study_front, study_pictures, winner_pictures):
        monkeypatch.setattr(module, "picture", keep)
    return figures


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_recorded(folder: Path, found: Survey) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    champion = found.champion
    assert champion is not None
    assert champion.record.number == WINNER
    assert page.index("Why: <b>to see</b> `all` of it.") < page.index("## The winner: trial 3")
    assert "**Result:** 99.46 ± 0.08 % (mean ± standard deviation of the last epoch over 10 seeds" in page
    assert "- The target held in 8 of 10 seeds" in page
    best = found.finished[0]
    assert best.cost is not None
    row = f"| {best.number} | {100 * (best.value or 0):.2f} | {best.cost.params:,} | {best.cost.macs:,} |"
    assert row in page
    for run in champion.runs.runs:
        lowest, held = 100 * run.lowest(5), "yes" if run.holds(0.994) else "no"
        cells = re.search(rf"^\| {run.seed} \| (.*) \|$", page[page.index("## Trial 3 over") :], re.MULTILINE)
        assert cells is not None
        shown = cells[1].split(" | ")
        assert (shown[1], shown[-1]) == (f"{lowest:.2f}", held)
    assert "64 finished" in page
    assert "| e | fewest params, last five all 99.4 | 6,174 | 15 | 99.48 | 99.47 | 99.42 |" in page


def test_every_picture_is_there_and_is_read_in_both_themes(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"!\[[^\]]+\]\(pictures/(\w+\.svg)\)", page)
    assert names == [
        *("accuracy_against_params.svg", "learning_curves.svg", "what_mattered.svg", "receptive_fields.svg"),
        *("budget_use.svg", "seeds.svg", "confusion.svg", "misclassified.svg", "filters.svg"),
    ]
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == sorted(names)
    for name in names:
        svg = (folder / "pictures" / name).read_text(encoding="utf-8")
        ElementTree.fromstring(svg)
        assert THEME in svg
        assert "currentColor" in svg
        assert INK not in svg


class _Page(HTMLParser):
    """Collects the addresses that a browser would fetch, and counts elements."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("#", "data:")):
                self.fetched.append(f"{tag} {name}={value}")


def test_the_html_needs_nothing_else(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.fetched == []
    assert page.count["svg"] == 9
    assert "url(" not in text.replace("url(#", "")
    assert "@import" not in text
    assert "&lt;b&gt;to see&lt;/b&gt; <code>all</code>" in text
    assert 'aria-label="Learning curves"' in text


def test_a_report_is_the_same_again_and_clears_away_what_is_its_own_alone(
    study: Study, folder: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "earlier.svg").write_text(f"<svg>{THEME}</svg>")
    (pictures / "mine.svg").write_text("<svg/>")
    study_page(study).write(tmp_path)
    assert not (pictures / "earlier.svg").exists()
    assert (pictures / "mine.svg").exists()
    for name in ("README.md", "report.html", "pictures/what_mattered.svg", "pictures/misclassified.svg"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", ["README.md", "report.html"])
def test_what_a_person_wrote_is_not_overwritten(page: Page, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("my own words")
    with pytest.raises(StudyError, match=rf"{re.escape(name)}: is not a report of budgetnet's"):
        page.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "my own words"


def test_several_studies_are_compared_on_one_page(study: Study, found: Survey, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("about: Two of a kind.\n")
    page = joint_page([study, study], tmp_path)
    page.write(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.index("Two of a kind.") < text.index("![Accuracy against parameters](pictures/frontier.svg)")
    assert found.champion is not None
    mean = f"{100 * found.champion.runs.mean:.2f} ± {100 * (found.champion.runs.std or 0):.2f}"
    row = f"| landscape, trial 3 | 7,790 | 8,000 | 10 | {mean} | 99.32 | 99.4 %: 8 of 10, the last 5 epochs |"
    assert text.count(row) == 2
    assert "## The winner of landscape: trial 3" in text


class InCapitals(Study):
    """A study that was made with --data MNIST."""

    @property
    def settings(self) -> Settings:
        return replace(super().settings, data="MNIST")


def test_data_are_the_same_however_they_are_spelled(study: Study, tmp_path: Path) -> None:
    capitals = InCapitals(study.where, study.inner, study.storage)
    assert joint_page([study, capitals], tmp_path) == joint_page([study, study], tmp_path)


def test_studies_of_different_data_are_not_compared(study: Study, tmp_path: Path, small_mnist: Path) -> None:
    with pytest.raises(
        StudyError, match=r"only studies of the same data compare, but these are of .*small\.npz, mnist"
    ):
        joint_page([study, quick_study(tmp_path, small_mnist)], tmp_path)


def test_studies_without_winners_are_not_compared(tmp_path: Path, small_mnist: Path) -> None:
    study = quick_study(tmp_path, small_mnist)
    with pytest.raises(StudyError, match="none of tiny-600, tiny-600 has a confirmed winner"):
        joint_page([study, study], tmp_path)


def test_seeds_in_another_precision_than_usual_say_so(
    study: Study, found: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = confirmation((9930, 9940), (9931, 9941))
    swift = [replace(run, machine=replace(MACHINE, precision=BFLOAT16)) for run in usual.runs]
    mixed = Confirmation((swift[0], usual.runs[1]))
    champion = replace(found.champion, runs=Confirmation(tuple(swift)))
    monkeypatch.setattr(report, "survey", lambda study: replace(found, champion=champion))
    monkeypatch.setattr(report, "study_pictures", lambda found: [])  # of the trials, which this does not change
    assert f"## Trial {WINNER} over 2 seeds, trained in bfloat16" in study_page(study).text.splitlines()
    cells = [frontier.over_seeds(runs, Aim())[0] for runs in (usual, Confirmation(tuple(swift)), mixed)]
    assert cells == ["2", "2 in bfloat16", "2 in bfloat16 and float32"]


def test_the_winner_is_chosen_on_validation_also_where_test_would_choose_otherwise(
    tmp_path: Path, small_mnist: Path
) -> None:
    study = quick_study(tmp_path, small_mnist, trials=2)
    best, other = study.leaderboard()
    for record, correct in ((best, 280), (other, 299)):
        study.keep_run(record.number, made_run(0, 200, 250, correct, total=300))
    champion = survey(study).champion
    assert champion is not None
    assert (champion.record.number, champion.runs.mean) == (best.number, 280 / 300)


BY_HAND = """\
## The same networks by several recipes

Mean and standard deviation of the last epoch on test, in percent, over the seeds that the table above has.

| network | params | R1 | R2 | R3 |
| --- | --: | --: | --: | --: |
| `4 M 8` | 438 | 99.10 ± 0.14 | 99.50 | – |
| `4 M 12` | 630 | 99.20 | 99.40 | 99.00 |

- R1: {first}
- R2: learning_rate 0.05 → 0.1
- R3: epochs 15 → 20, teacher none → t

What two recipes differ by, over the networks that both have trained, and how far these lie apart by each of them \
(standard deviations over networks, of which the noise of seeds is a part):

| recipes | networks | second against first, points | apart by the first | by the second |
| --- | --: | --: | --: | --: |
| R1, R2 | 2 | +0.30 ± 0.14 | 0.07 | 0.07 |
| R1, R3 | 1 | -0.20 | – | – |
| R2, R3 | 1 | -0.40 | – | – |"""


def test_networks_and_recipes_by_hand(found: Survey) -> None:
    recipes = Recipe(), Recipe(learning_rate=0.1), Recipe(epochs=20, teacher="t")
    trials = [("4 M 8", 0, (9900, 9920)), ("4 M 12", 0, (9920,)), ("4 M 8", 1, (9950,)), ("4 M 12", 1, (9940,))]
    trials += [("4 M 12", 2, (9900,)), ("8 M 8", 2, (9900,))]
    records = [
        TrialRecord(number, "added", architecture=parse(network), recipe=recipes[recipe], cost=cost(parse(network)))
        for number, (network, recipe, _) in enumerate(trials)
    ]
    confirmed = {number: confirmation(*((n,) for n in correct)) for number, (_, _, correct) in enumerate(trials)}
    all_of_it = replace(found, records=tuple(records), confirmed=confirmed)
    told = "\n\n".join(networks_by_recipe(all_of_it))
    settings = ", ".join(f"{name} {short(value)}" for name, value in Recipe().to_dict().items())
    assert told == BY_HAND.replace("{first}", settings)
    assert not list(networks_by_recipe(replace(all_of_it, confirmed={2: confirmed[2], 4: confirmed[4]})))


def test_what_cannot_be_written_leaves_both_pages_as_they_were(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(page, text="before").write(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("README.md", "report.html")]
    put = os.replace

    def full(source: Path, target: Path) -> None:
        if "new" in str(source) and Path(target).name == "report.html":
            raise OSError(28, "No space left on device")
        put(source, target)

    monkeypatch.setattr("budgetnet.files.os.replace", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        page.write(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("README.md", "report.html")] == before


def test_the_commands_of_a_study_in_another_database_name_it_as_it_is_typed(study: Study) -> None:
    elsewhere = replace(survey(study), study=SimpleNamespace(where=place("landscape", "sqlite:///elsewhere.db")))  # type: ignore[arg-type]
    assert (
        "budgetnet trials --study landscape --storage sqlite:///elsewhere.db --all"
        in list(report._again(elsewhere))[-1]
    )


def test_a_table_keeps_bars_and_sides() -> None:
    text = table(("network", "params>"), [("8 |\n10", 7), ("`c8`", 12)])
    assert text == "| network | params |\n| --- | --: |\n| 8 \\| 10 | 7 |\n| `c8` | 12 |"
    page = html("a & b", text, {})
    assert '<td style="text-align:right">12</td>' in page
    assert "<title>a &amp; b</title>" in page
    assert "8 | 10" in page


# --- its pictures -----------------------------------------------------------------------------------------------------


def test_every_finished_trial_stands_at_its_params_and_accuracy(found: Survey, drawn: list[Any]) -> None:
    study_front.accuracy_against_params(found)
    panels = drawn[0].axes
    assert len(panels) == 2
    assert panels[0].get_xlim()[0] == 0
    finished = {c.get_label(): c for c in panels[0].collections}["finished: validation (64)"]
    wanted = {(r.cost.params, round(1 - (r.value or 0), 6)) for r in found.finished if r.cost}
    assert {(int(x), round(float(y), 6)) for x, y in finished.get_offsets()} == wanted
    letters = {text.get_text() for text in panels[0].texts}
    assert letters == set("abcdefghi")


def test_the_front_and_the_confirmed_stand_where_they_were_recorded(found: Survey, drawn: list[Any]) -> None:
    study_front.accuracy_against_params(found)
    axes = drawn[-1].axes[0]
    (front,) = [line for line in axes.lines if line.get_label() == "Pareto front of validation"]
    best = [found.records[number] for number in pareto(found.finished)]
    assert list(front.get_xdata()) == [record.cost.params for record in best if record.cost]
    assert list(front.get_ydata()) == pytest.approx([error(record.value or 0) for record in best])
    runs, record = found.confirmed[WINNER], found.records[WINNER]
    assert record.cost is not None
    (points,) = [each.lines[0].get_xydata() for each in axes.containers]
    assert points.tolist() == [pytest.approx([record.cost.params, error(runs.mean)])]


def test_every_curve_is_drawn_whole(found: Survey, drawn: list[Any]) -> None:
    study_pictures.learning_curves(found)
    curves = [list(line.get_ydata()) for line in drawn[-1].axes[0].lines]
    assert sorted(curves) == sorted(list(map(error, record.curve)) for record in found.trained)


def test_what_mattered_has_each_bar_beside_its_name(found: Survey, drawn: list[Any]) -> None:
    study_pictures.what_mattered(found)
    axes, shown = drawn[-1].axes[0], found.importances[: study_pictures.NAMED]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([100 * one.share for one in shown])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [one.name for one in shown]


def test_receptive_fields_are_those_of_the_trials(found: Survey, drawn: list[Any]) -> None:
    study_pictures.receptive_fields(found)
    points = [tuple(point) for each in drawn[-1].axes[0].collections for point in each.get_offsets()]
    wanted = [(float(r.receptive_field or 0), error(reached(r))) for r in found.trained]
    assert np.allclose(sorted(points), sorted(wanted), rtol=0, atol=1e-12)


def test_winners_of_several_studies_stand_at_their_test_accuracy(found: Survey, drawn: list[Any]) -> None:
    frontier.frontier([found])
    assert found.champion is not None
    runs = found.champion.runs
    (container,) = drawn[0].axes[0].containers
    point, _, (bars,) = container
    assert point.get_xydata().tolist() == [[7790, pytest.approx(error(runs.mean))]]
    ends = sorted(y for _, y in bars.get_segments()[0])
    assert ends == pytest.approx([error(max(runs.finals)), error(min(runs.finals))])


def test_a_winner_that_was_added_by_hand_is_in_the_picture_too(found: Survey, drawn: list[Any]) -> None:
    assert found.champion is not None
    large = replace(found.champion.record, cost=Cost(2_000_000, 1, 1))
    alone = replace(found, records=(), champion=replace(found.champion, record=large))
    frontier.frontier([alone])
    low, high = drawn[0].axes[0].get_xlim()
    assert low < 697 < 2_000_000 < high  # and the smallest public record


def test_the_name_of_the_smallest_winner_stands_where_the_axes_have_room(found: Survey, drawn: list[Any]) -> None:
    assert found.champion is not None
    small = replace(found.champion, record=replace(found.champion.record, cost=Cost(650, 1, 1)))
    frontier.frontier([found])
    frontier.frontier([replace(found, champion=small)])
    name = found.name.replace("_", " ")
    assert [t.get_ha() for figure in drawn for t in figure.axes[0].texts if t.get_text() == name] == ["right", "left"]


def test_names_of_winners_with_nearly_as_many_params_do_not_lie_on_each_other(found: Survey, drawn: list[Any]) -> None:
    assert found.champion is not None
    near = replace(found.champion, record=replace(found.champion.record, cost=Cost(7300, 1, 1)))
    frontier.frontier([found, replace(found, champion=near)])
    name = found.name.replace("_", " ")
    first, second = (t.get_window_extent() for t in drawn[0].axes[0].texts if t.get_text() == name)
    assert not first.overlaps(second)


def test_names_hide_no_letter_of_a_record_and_lie_in_the_axes(found: Survey, drawn: list[Any]) -> None:
    """Wherever a winner stands to the right of record c, whose letter is above its mark."""
    assert found.champion is not None
    near = replace(found.champion.record, cost=Cost(6500, 1, 1))
    for correct in range(9950, 9962):
        runs = confirmation((correct, correct), (correct, correct))
        frontier.frontier([replace(found, champion=replace(found.champion, record=near, runs=runs))])
        axes = drawn[-1].axes[0]
        letters = [text.get_window_extent() for text in axes.texts if len(text.get_text()) == 1]
        (name,) = (text.get_window_extent() for text in axes.texts if len(text.get_text()) > 1)
        assert len(letters) == 9
        assert name.count_overlaps(letters) == 0, correct
        assert axes.bbox.x0 < name.x0 < name.x1 < axes.bbox.x1
        assert name.y1 < axes.bbox.y1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (477, 24_958, [500, 1000, 2000, 5000, 10_000, 20_000]),
        (697, 1_970_730, [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000]),
        (90, 90_000_000, [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]),
    ],
)
def test_the_axis_of_params_has_round_numbers_and_room_for_them(low: int, high: int, ticks: list[int]) -> None:
    with figure(7.6, 5.0) as drawing:
        axes = drawing.subplots()
        params_axis(axes, [low, high])
        drawing.draw_without_rendering()
        assert axes.get_xticks().tolist() == ticks
        shown = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in pairwise(shown)), "labels lie on each other"


def test_the_axis_reads_accuracy() -> None:
    with figure() as empty:
        axes = empty.subplots()
        accuracy_axis(axes, "accuracy", [0.98, 0.995])
        read = {f"{axes.yaxis.get_major_formatter()(tick)}": tick for tick in axes.yaxis.get_majorticklocs()}
        assert read["99"] == pytest.approx(error(0.99))
        low, high = axes.get_ylim()
        assert low > error(0.98) > error(0.995) > high
        assert "log of the error" in axes.get_ylabel()


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_an_axis_always_has_two_ticks_and_holds_every_point(accuracies: list[float]) -> None:
    with figure() as empty:
        axes = empty.subplots()
        accuracy_axis(axes, "accuracy", accuracies)
        bottom, top = axes.get_ylim()
        assert sum(top <= tick <= bottom for tick in axes.yaxis.get_majorticklocs()) >= 2
        assert all(top <= error(accuracy) <= bottom for accuracy in accuracies)


def test_seeds_are_drawn_with_their_mean_between_worst_and_best(found: Survey, drawn: list[Any]) -> None:
    assert found.champion is not None
    winner_pictures.seeds(found.champion)
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines}
    mean = 1 - np.asarray(lines["mean of 10 seeds"].get_ydata())
    assert mean == pytest.approx(found.champion.runs.by_epoch())
    assert len(drawn[0].axes[0].lines) == 12
    target = lines["target 99.4 % in the last 5 epochs"]
    assert list(target.get_xdata()) == [10.5, 15.5]
    assert target.get_ydata()[0] == pytest.approx(0.006)


def test_confusions_add_up(found: Survey) -> None:
    assert found.champion is not None
    counts, runs = found.champion.confusion(), found.champion.runs
    labels = load("mnist").final_splits()[1].labels.numpy()
    assert counts.sum(axis=1).tolist() == (10 * np.bincount(labels)).tolist()
    assert np.trace(counts) == sum(run.final.correct for run in runs.runs)
    index, taken_for = runs.runs[0].outcome.wrong[0]
    assert counts[labels[index], taken_for] >= 1


def test_classes_that_have_names_are_called_by_them(
    found: Survey, drawn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found.champion is not None
    names = tuple(f"digit {label}" for label in range(10))
    champion = replace(found.champion)
    monkeypatch.setitem(vars(champion), "_data", replace(load("mnist"), class_names=names))
    told = winner_pictures.confusion(champion).told
    assert [tick.get_text() for tick in drawn[0].axes[0].get_xticklabels()] == list(names)
    assert "The commonest: digit 9 taken for digit 4" in told


def test_a_class_without_test_images_can_still_be_guessed(found: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found.champion is not None
    champion = replace(found.champion)
    whole = load("mnist").final_splits()[1]
    monkeypatch.setitem(vars(champion), "test", replace(whole, labels=whole.labels.clamp(max=8)))
    assert champion.confusion().shape == (10, 10)


def test_the_images_shown_are_wrong_in_most_seeds(found: Survey, drawn: list[Any]) -> None:
    assert found.champion is not None
    winner_pictures.misclassified(found.champion)
    test = load("mnist").final_splits()[1]
    by_index = found.champion.mistaken
    first = min(index for index, guesses in by_index.items() if len(guesses) == 10)
    tile = drawn[0].axes[0]
    assert np.array_equal(np.asarray(tile.images[0].get_array()), test.images[first, 0].numpy())
    assert tile.get_title().startswith(f"{int(test.labels[first])}→")
    assert tile.get_title().endswith("10/10")


def test_the_filters_are_those_of_the_first_convolution(found: Survey, drawn: list[Any]) -> None:
    assert found.champion is not None
    winner_pictures.filters(found.champion)
    model = budgetnet.load("Model_1", pretrained=True, models=FIRST / "model.py")
    weights = model.get_parameter("stem.0.weight").detach().numpy()
    assert np.array_equal(np.asarray(drawn[0].axes[3].images[0].get_array()), weights[3, 0])


def test_where_the_params_go_adds_up(found: Survey) -> None:
    parts = study_pictures.spending(found.finished[0])
    assert [name for name, *_ in parts] == ["stem", "stage1", "stage2", "stage3", "head"]
    assert sum(params for _, params, _ in parts) == pytest.approx(100)
    assert sum(macs for *_, macs in parts) == pytest.approx(100)


# --- what mattered --------------------------------------------------------------------------------------------------


def _searched(values: list[tuple[float, float]]) -> Any:
    """A study whose trials drew (matters, noise), of which only the first decides."""
    inner = optuna.create_study(direction="maximize")
    space = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in ("matters", "noise")}
    for matters, noise in values:
        params = {"matters": matters, "noise": noise}
        curve = {1: matters / 2, 2: matters}
        inner.add_trial(
            optuna.trial.create_trial(params=params, distributions=space, value=matters, intermediate_values=curve)
        )
    return SimpleNamespace(inner=inner, where=None)


def test_what_decides_is_beyond_chance_and_noise_is_not() -> None:
    draws = np.random.default_rng(1).uniform(size=(60, 2)).tolist()
    found = {one.name: one for one in importances(_searched(draws))}
    assert list(found) == ["matters", "noise"]
    assert found["matters"].beyond_chance
    assert not found["noise"].beyond_chance
    for one in found.values():
        assert 0 <= one.low <= one.share <= one.high <= 1
    assert found["matters"].share + found["noise"].share == pytest.approx(1)


def test_a_trial_that_was_pruned_ranks_below_those_that_went_on() -> None:
    space = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}

    def trial(state: optuna.trial.TrialState, *curve: float) -> Any:
        value = curve[-1] if state == optuna.trial.TrialState.COMPLETE else None
        steps = dict(enumerate(curve, 1))
        return optuna.trial.create_trial(
            state=state, params={"x": 0.5}, distributions=space, value=value, intermediate_values=steps
        )

    pruned, complete = optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE
    trials = [
        trial(pruned, 0.9, 0.95),
        trial(complete, 0.5, 0.6, 0.7),
        trial(pruned, 0.5, 0.6),
        trial(complete, 0.8, 0.8, 0.9),
    ]
    assert ranks_of(trials) == [1.0, 2.0, 0.0, 3.0]


def test_a_hyperparameter_that_hardly_any_trial_has_is_no_warning() -> None:
    study = _searched(np.random.default_rng(2).uniform(size=(30, 2)).tolist())
    space = {"rare": optuna.distributions.FloatDistribution(0.0, 1.0)}
    study.inner.add_trial(
        optuna.trial.create_trial(
            params={"rare": 0.5}, distributions=space, value=0.5, intermediate_values={1: 0.2, 2: 0.5}
        )
    )
    assert {one.name for one in importances(study)} == {"matters", "noise", "rare"}


def test_few_trials_or_equal_ones_say_nothing() -> None:
    assert importances(_searched([(0.1 * k, 0.5) for k in range(11)])) == []
    assert importances(_searched([(0.5, 0.5)] * 30)) == []
