"""Searches that train nothing, and a small study made by one: for what is about studies and not about learning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from budgetnet.coordinator import Search
from budgetnet.lock import locked
from budgetnet.study import Study, create_or_open
from tests.instant import Instant
from tests.tiny import tiny_request


@contextmanager
def quick_search(folder: Path, data: Path, **options: Any) -> Iterator[Search]:
    """A search of the tiny space under ``folder`` whose jobs end at once."""
    request = tiny_request(folder, data, **options)
    space, settings, plan = request.check()
    where = request.place(space)
    with locked(where):
        yield Search(create_or_open(where, settings), space, plan, Instant(slots=2))


def quick_study(folder: Path, data: Path, **options: Any) -> Study:
    """The study of such a search, run to its end."""
    with quick_search(folder, data, **options) as running:
        for _ in running.run():
            pass
        return running.study
