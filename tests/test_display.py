"""What a person sees while a search runs: what is estimated, what a board of any size shows, what the pipes carry."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from collections import Counter
from contextlib import closing, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from budgetnet import workplace
from budgetnet.architecture import Architecture
from budgetnet.board import Board, View, shares
from budgetnet.coordinator import Search
from budgetnet.cost import Cost
from budgetnet.display import cut, duration, narrow_spark, ordinal, percent, spark, tally_line, why, why_in_full
from budgetnet.notation import parse
from budgetnet.place import place
from budgetnet.progress import (
    Ended,
    Progress,
    Progressed,
    Rank,
    Started,
    Tally,
    epochs_left,
    makespan,
    rank,
)
from budgetnet.recipe import Recipe
from budgetnet.results import EpochResult
from budgetnet.study import Settings, TrialRecord
from budgetnet.watch import JsonLines, Lines, Quiet, put_json, watcher
from tests.instant import Instant
from tests.test_cli import here, run, search_arguments  # noqa: F401
from tests.tiny import write_space

LONG = parse("[@0.05] c11 c11 c11 M r18 r18 s22/2 s22 M c31 c31 c31")
SETTINGS = Settings({"name": "tiny"}, 8000, None, None, "mnist", None, 4, 0)


@dataclass
class Story:
    """A search as far as those who watch it know it; tells a Progress what happens."""

    records: list[TrialRecord] = field(default_factory=list)
    trials: int = 10
    timeout: float | None = None
    settings: Settings = SETTINGS
    now: float = 100.0

    def __post_init__(self) -> None:
        where = place("a-study")
        self.study = SimpleNamespace(settings=self.settings, where=where, records=lambda: self.records)
        self.plan = SimpleNamespace(trials=self.trials, timeout=self.timeout)
        self.trained = sum(record.trained for record in self.records)
        self.tally = Tally()
        self.progress = Progress(self, lambda: self.now)  # type: ignore[arg-type]

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.progress.update(Started(trial(number)))

    def epoch(self, number: int, accuracy: float = 0.98, epoch: int = 1, seconds: float = 10.0) -> None:
        result = EpochResult(epoch, 0.1, 0.1, accuracy, accuracy, 0.1, round(accuracy * 10_000), 10_000, seconds)
        self.progress.update(Progressed(number, result))

    def end(self, number: int, state: str, *curve: float, reason: str | None = None) -> None:
        self.trained += state in ("finished", "pruned")
        self.progress.update(Ended(trial(number, state, *curve, reason=reason)))

    def lines(self, width: int, height: int) -> list[str]:
        view = View(self.study.where, self.progress)
        console = Console(width=width, height=height, file=io.StringIO(), color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(Group(*view.lines(width, height)))
        return [line.rstrip() for line in capture.get().splitlines()]


def trial(number: int, state: str = "running", *curve: float, reason: str | None = None) -> TrialRecord:
    """A trial of LONG with this learning curve; its value is the last epoch."""
    value = curve[-1] if curve and state in ("finished", "pruned") else None
    return TrialRecord(
        number,
        state,
        value,
        LONG,
        Recipe(epochs=4),
        Cost(7901, 1_234_567, 9999),
        36,
        curve,
        reason,
        0,
        8.0 * len(curve),
    )


# --- text -------------------------------------------------------------------------------------------------------------


def test_numbers_as_text() -> None:
    assert [percent(value) for value in (None, 0.9943, 1.0)] == ["–", "99.43", "100.00"]
    assert [duration(seconds) for seconds in (0, 75.9, 3700)] == ["0:00", "1:15", "1:01:40"]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
    )
    assert [cut("pruned", 6), cut("pruned: late", 8), cut("a b", 3)] == ["pruned", "pruned:…", "a b"]


def test_a_curve_in_one_line() -> None:
    # 10 % error is the floor, 0.1 % the top of eight signs; 2 % is 0.7 of two decades above the floor: 2.4 of 0..7
    assert spark([0.5, 0.9, 0.98, 0.999, 1.0]) == "▁▁▃██"
    curve = [0.5, 0.9, 0.99, 0.999, 0.999]
    assert narrow_spark(curve, 5, 5) == spark(curve)
    assert narrow_spark(curve, 10, 5) == spark([0.9, 0.999, 0.999])  # two epochs a sign; the last of each
    assert narrow_spark([], 10, 5) == ""


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_a_narrow_curve_never_takes_more_room(epochs: int, width: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, epochs))
    signs = narrow_spark([0.5] * max(done - 1, 0) + [0.999] * min(done, 1), epochs, width)
    assert len(signs) <= width
    assert (signs[-1:] == "█") == (done > 0)  # the last epoch always shows


def test_why_a_trial_ended() -> None:
    pruned = trial(1, "pruned", 0.9, 0.95, reason="pruned after epoch 2")
    assert why(pruned, Rank(9, 12)) == "pruned: 9th of 12"
    assert why_in_full(pruned, Rank(9, 12)) == "pruned after epoch 2: 9th of 12 there"
    assert why_in_full(trial(1, "finished", 0.9), Rank(2, 5)) == "finished: 2nd of 5"
    assert why_in_full(trial(1, "failed", reason="worker died"), None) == "failed: worker died"


def test_counters_name_the_reasons() -> None:
    tally = Tally(9, 1, 2, 1, 0, Counter({"map vanished": 1, "receptive field": 3}), Counter({"TrainingDiverged": 1}))
    assert tally_line(tally) == (
        "9 sampled · 1 finished · 2 pruned · 4 rejected before training (receptive field 3, map vanished 1) · "
        "1 failed (TrainingDiverged 1) · 1 answered from the record"
    )
    assert json.loads(json.dumps(tally.to_dict()))["rejected"] == {"map vanished": 1, "receptive field": 3}


# --- how far it is ----------------------------------------------------------------------------------------------------


def test_the_epochs_that_a_trial_may_expect() -> None:
    assert epochs_left([2, 2, 4, 15], 0, 15) == 5.75  # 23 / 4
    assert epochs_left([2, 2, 4, 15], 2, 15) == 7.5  # of those that got further, 4 and 15: 19 / 2 - 2
    assert epochs_left([2, 4], 4, 15) == 11  # nobody got further: all that are left


def test_the_last_slot_ends_the_search() -> None:
    assert makespan([3, 1], 0, 5, 2) == 3
    assert makespan([3, 1], 2, 5, 2) == 8  # the second ends at 1, then 6; the first at 3, then 8
    assert makespan([], 3, 2, 2) == 4


def test_a_rank_among_those_that_came_as_far() -> None:
    others = [(0.90, 0.95, 0.99), (0.92,), (0.80, 0.97)]
    assert rank(trial(1, "pruned", 0.85, 0.96), others) == Rank(2, 3)  # at epoch 2 only 0.97 is better, of three
    assert rank(trial(1, "finished", 0.9, 0.9, 0.9), others) == Rank(2, 2)  # means of three epochs: 0.9 and 0.947
    early = [(0.99, 0.99, 0.9, 0.9, 0.9)]  # ahead in the mean of all five epochs, behind in that of the last three
    assert rank(trial(1, "finished", 0.5, 0.5, 0.95, 0.95, 0.95), early) == Rank(1, 2)
    assert rank(trial(1, "failed", 0.9), others) is None
    assert rank(trial(1, "pruned"), others) is None  # a pruned trial of somebody else's may have no curve


def test_time_left_by_hand() -> None:
    story = Story(trials=4)
    assert story.progress.outlook() is None
    story.start(0, 1)
    story.epoch(0)
    story.epoch(1)
    story.end(1, "pruned", 0.9)
    story.start(2)
    # an epoch takes 10 s. Trial 0 has 3 of 4 epochs left: nobody got further, so 3. Trial 2 may expect the mean of
    # those that ended: 1. One is waiting. About: 0 ends at 3, 2 at 1, then the waiting one at 2: 3 epochs. At most:
    # 3 and 4, then the waiting one after the 3: 7.
    outlook = story.progress.outlook()
    assert outlook is not None
    assert (outlook.about, outlook.most) == (30.0, 70.0)
    story.now += 4  # of the epochs under way
    outlook = story.progress.outlook()
    assert outlook is not None
    assert (outlook.about, outlook.most) == pytest.approx((26.0, 66.0))
    (first, second) = story.progress.running
    assert story.progress.left(first) == 26.0
    assert story.progress.left(second) is None  # no epoch of it yet


def test_the_pace_of_earlier_runs_serves_until_there_is_one_and_a_timeout_is_the_end() -> None:
    earlier = [trial(0, "finished", 0.9, 0.9, 0.9, 0.9)]  # 8 s an epoch
    story = Story(earlier, trials=2)
    story.start(1)
    outlook = story.progress.outlook()
    assert outlook is not None
    assert outlook.most == 32.0
    limited = Story(earlier, trials=2, timeout=20.0)
    limited.start(1)
    limited.now += 5
    outlook = limited.progress.outlook()
    assert outlook is not None
    assert (outlook.about, outlook.most) == (15.0, 15.0)


def test_a_trial_keeps_its_line_and_counters_are_those_of_the_event() -> None:
    story = Story()
    story.start(0, 1, 2)
    story.end(1, "pruned", 0.9)
    assert [slot and slot.record.number for slot in story.progress.slots] == [0, None, 2]
    story.start(3)
    assert [slot and slot.record.number for slot in story.progress.slots] == [0, 3, 2]
    story.tally.rejected["map vanished"] += 1  # by the search, while rich draws in its thread
    assert not story.progress.tally.rejected
    story.end(9, "rejected")
    assert story.progress.tally.rejected == {"map vanished": 1}
    assert [fate.record.number for fate in story.progress.ended] == [1]  # a rejected one is only counted


# --- the board --------------------------------------------------------------------------------------------------------


def busy(slots: int = 3, ended: int = 20) -> Story:
    """A search in full swing."""
    story = Story(trials=100)
    for number in range(ended):
        story.start(number)
        story.epoch(number, 0.95 + number / 1000)
        curve = [0.95 + number / 1000] * (4 if number % 3 == 0 else 1)
        story.end(number, "finished" if len(curve) == 4 else "pruned", *curve, reason=None)
    story.end(ended, "failed", reason="TrainingDiverged: the loss became nan in step 1234 of epoch 4")
    story.tally = Tally(99, 7, 13, 4, 1, Counter({"receptive field": 30, "map vanished": 20}), Counter({"Tr": 1}))
    story.start(*range(ended + 1, ended + 1 + slots))
    return story


@given(st.integers(1, 220), st.integers(1, 70), st.integers(0, 20), st.integers(0, 30))
def test_a_board_fits_any_terminal(width: int, height: int, slots: int, ended: int) -> None:
    lines = busy(slots, ended).lines(width, height)  # as rich prints them: a line that were broken would be two
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_a_board_of_80_by_24() -> None:
    title, bar, counters, more, *rest = busy(16).lines(80, 24)
    assert title.startswith("a-study · params < 8,000 · mnist · 4 epochs a trial · ")
    assert bar.startswith("━━━━────────────────  20/100 trials · 0:00 · about ")
    assert "receptive field 30" in counters + more
    heads = [line.split() for line in rest if "network" in line]
    assert heads == [
        ["running", "epoch", "val", "%", "curve", "params", "network"],
        ["best", "epoch", "val", "%", "curve", "params", "network"],
        ["ended", "epoch", "val", "%", "params", "why", "network"],
    ]
    running, best, ended = (rest.index(line) for line in rest if "network" in line)
    assert rest[running + 1].split()[:4] == ["21", "0/4", "–", "7,901"]
    assert rest[best - 2] == "… and 8 more"  # of sixteen, eight are shown
    assert [line.split()[0] for line in rest[best + 1 : best + 4]] == ["18", "15", "12"]
    assert rest[ended + 1].split()[:5] == ["20", "0/4", "–", "7,901", "failed:"]
    assert all(line.endswith("…") for line in (rest[running + 1], rest[best + 1], rest[ended + 1]))  # LONG is cut


def test_columns_come_and_go_with_the_width() -> None:
    story = busy()
    headings = {width: next(x for x in story.lines(width, 40) if "running" in x).split() for width in (40, 60, 200)}
    assert headings[40] == ["running", "epoch", "val", "%", "network"]
    assert headings[60] == ["running", "epoch", "val", "%", "params", "network"]
    assert headings[200] == ["running", "epoch", "val", "%", "curve", "params", "field", "MACs", "left", "network"]
    assert any(str(LONG) in line for line in story.lines(200, 40))  # whole where there is room
    finished = next(line for line in story.lines(200, 60) if "finished: 1st of 7" in line)
    assert finished.split()[0] == "18"


def test_a_high_terminal_shows_all_that_runs_and_a_low_one_the_most_important() -> None:
    story = busy(16)
    numbers = [line.split()[0] for line in story.lines(80, 50) if "0/4" in line]
    assert numbers[:16] == [str(number) for number in range(21, 37)]
    low = story.lines(80, 9)
    assert [line.split()[0] for line in low if "network" in line] == ["running"]


def test_lines_are_shared_by_importance() -> None:
    assert shares(30, (2, 5, 100)) == [2, 5, 17]  # 30 - 3 heads of 2 = 24
    assert shares(14, (16, 5, 100)) == [7, 3, 0]  # 7 and 5 lines leave no room for a head and a row: the first gets it
    assert shares(2, (1, 1, 1)) == [0, 0, 0]


def drawn(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_is_given_back_whatever_happens_and_nothing_said_is_lost() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None, _environ={})
    story, errors = Story(), io.StringIO()

    def interrupted() -> None:
        with redirect_stderr(errors), Board(console, story) as board:  # type: ignore[arg-type]
            # the other screen, from its corner, without a cursor
            assert drawn(console).startswith("\x1b[?1049h\x1b[H\x1b[?25l")
            board.update(Started(trial(7)))
            print("a warning", file=sys.stderr)
            assert errors.getvalue() == ""  # it would be drawn over
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert drawn(console).rstrip().endswith("\x1b[?25h\x1b[?1049l")
    before, wiped, after = drawn(console).rpartition("\x1b[2J")
    assert ("a-study" in before, bool(wiped), "a-study" in after) == (True, True, False)  # nothing is left behind
    assert errors.getvalue() == "a warning\n"


def test_a_board_is_drawn_to_the_size_of_the_moment() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None, _environ={})
    board = Board(console, busy())  # type: ignore[arg-type]
    for console.size in ((80, 24), (200, 50), (40, 10)):  # type: ignore[assignment]
        lines = console.render_lines(board, console.options.update(height=console.height), pad=False)
        assert len(lines) <= console.height
        assert max(sum(segment.cell_length for segment in line) for line in lines) <= console.width


# --- who watches ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="terminals as on POSIX")
def test_only_a_terminal_that_can_move_its_cursor_gets_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    story: Search = Story()  # type: ignore[assignment]
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, open(os.devnull, "w") as pipe, closing(os.fdopen(ours)):
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(watcher(Console(file=terminal), story), Board)
        assert isinstance(watcher(Console(file=terminal), story, quiet=True), Quiet)
        assert isinstance(watcher(Console(file=terminal), story, json_lines=True), JsonLines)
        assert isinstance(watcher(Console(file=pipe), story), Lines)
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert isinstance(watcher(Console(file=pipe), story), Lines)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(watcher(Console(file=terminal), story), Lines)


def test_a_line_an_event() -> None:
    console = Console(file=io.StringIO(), width=20)
    story = Story(trials=3)
    lines = Lines(console, story)  # type: ignore[arg-type]
    result = EpochResult(1, 0.1, 0.1, 0.9, 0.9876, 0.1, 9876, 10_000, 2.34)
    story.trained = 1
    for event in (
        Started(trial(5)),
        Progressed(5, result),
        Ended(trial(5, "pruned", 0.9876, reason="pruned after epoch 1")),
        Ended(trial(6, "rejected", reason="receptive field 3 below 5")),
        Ended(trial(7, "duplicate", reason="equal to trial 5")),
        Ended(trial(8, "failed", reason="worker died")),
    ):
        lines.update(event)
    assert drawn(console).splitlines() == [
        f"trial 5: {LONG} (7,901 / 8,000 params)",
        "trial 5: epoch 1/4 val 98.76 % in 2.3 s",
        "trial 5: pruned after epoch 1: 1st of 1 there, val 98.76 % [1/3]",
        "trial 7: duplicate, equal to trial 5",
        "trial 8: failed: worker died [1/3]",
    ]


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"event": "epoch", "loss": float("nan"), "accuracy": 0.1})
    assert capsys.readouterr().out == '{"event": "epoch", "loss": null, "accuracy": 0.1}\n'


@pytest.fixture
def instantly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches whose training takes no time."""
    monkeypatch.setattr(workplace, "local", lambda *options: Instant(2))


@pytest.mark.usefixtures("instantly")
def test_json_lines_tell_every_event_and_the_result(
    here: Path,  # noqa: F811
    small_mnist: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = search_arguments(here, small_mnist, 3)
    write_space(here, require={"receptive_field": 5, "final_map": 10})  # rejects some
    code, out, err = run(monkeypatch, capsys, *arguments, "--json-lines")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    started = {event["trial"] for event in events if event["event"] == "started"}
    for number in started:
        told = [event for event in events if event.get("trial") == number]
        assert [event["event"] for event in told] == ["started", "epoch", "epoch", "epoch", "ended"]
        assert [event["epoch"] for event in told[1:4]] == [1, 2, 3]
        assert parse(told[0]["notation"]) == Architecture.from_dict(told[0]["architecture"])
        assert told[-1]["state"] == "finished"
        assert told[-1]["value"] == pytest.approx(sum(event["accuracy"] for event in told[1:4]) / 3)
    ended = [event for event in events if event["event"] == "ended"]
    assert Counter(event["state"] for event in ended)["finished"] == len(started) == 3
    rejected = [event for event in ended if event["state"] == "rejected"]
    assert rejected
    assert all(event["reason"] for event in rejected)
    result = events[-1]
    assert (result["event"], result["trained"], result["trials"]) == ("result", 3, 3)
    assert {record["number"] for record in result["best"]} == started
    assert result["tally"]["finished"] == 3
    assert sum(result["tally"]["rejected"].values()) == len(rejected)


@pytest.mark.usefixtures("instantly")
def test_quiet_prints_the_result_alone(
    here: Path,  # noqa: F811
    small_mnist: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(monkeypatch, capsys, *search_arguments(here, small_mnist, 1), "--quiet")
    assert code == 0
    assert out.startswith("best trials of tiny-600")
    assert "\x1b" not in out
    code, out, _ = run(monkeypatch, capsys, *search_arguments(here, small_mnist, 2), "--json")
    assert code == 0
    assert len(json.loads(out)) == 2


@pytest.mark.parametrize("pair", [("--json", "--quiet"), ("--json-lines", "--quiet"), ("--json", "--json-lines")])
def test_forms_of_output_exclude_each_other(
    here: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pair: tuple[str, str],
) -> None:
    code, out, err = run(monkeypatch, capsys, "search", *pair)
    assert (code, out) == (2, "")
    assert err == f"error: --json, --json-lines, --quiet exclude each other, but got {' and '.join(pair)}\n"
    assert list(here.iterdir()) == []
