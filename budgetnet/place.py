"""Where a study is: its name, its folder, its storage, and how a command names it."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from budgetnet.errors import StudyError
from budgetnet.files import cache_dir

STUDIES = Path("studies")
DATABASE = "study.db"
PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME = f"{PLAIN}(/{PLAIN})?"


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is: its name, its folder, and the storage URL. The name may have a folder: ``frontier/4000``."""

    name: str
    folder: Path
    url: str
    is_default: bool = True  # SQLite in the study's folder

    @property
    def database(self) -> Path | None:
        """The file of an SQLite storage; None for a server."""
        url = make_url(self.url)
        return Path(url.database) if url.drivername.startswith("sqlite") and url.database else None

    @property
    def home(self) -> Path:
        """The folder of what belongs to the study: beside the database, wherever the program is started."""
        database = self.database
        if database is None or database.resolve() == (self.folder / DATABASE).resolve():
            return self.folder
        return database.resolve().parent / self.name

    @property
    def lock(self) -> Path:
        """The lock file: beside the database, so that it is one wherever the search is started; a server's is ours."""
        if self.database is not None:
            return self.database.resolve().parent / f"{self.name.replace('/', '_')}.lock"
        mixed = hashlib.sha256(f"{self.url} {self.name}".encode()).hexdigest()[:16]
        return cache_dir() / "locks" / f"{self.name}-{mixed}.lock"

    @property
    def address(self) -> str:
        """What ``--storage`` takes, without a password."""
        return make_url(self.url).render_as_string(hide_password=True)

    @property
    def options(self) -> list[str]:
        """What names the study on any command line, without a password."""
        return ["--study", self.name, *([] if self.is_default else ["--storage", self.address])]

    @property
    def shown(self) -> str:
        """The place as a person should see it: a path, or a URL without its password."""
        return str(self.database or self.address)


def place(name: str, storage: str | None = None, root: Path = STUDIES) -> StudyPlace:
    """The place of a study. Raises StudyError for a name that is not like NAME, or a storage that is no URL."""
    if not re.fullmatch(NAME, name):
        raise StudyError(
            f"--study must be a plain name of letters, digits, '.', '_' and '-', or folder/name, but got {name!r}"
        )
    folder = root / name
    try:
        make_url(storage or "sqlite://")
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        shown = re.sub(r"(://[^:@/]*):.*", r"\1:…", storage or "")  # what follows may be a password
        raise StudyError(f"--storage must be a URL such as sqlite:///study.db, but got {shown!r}") from None
    url = storage or URL.create("sqlite", database=str(folder / DATABASE)).render_as_string()
    return StudyPlace(name, folder, url, is_default=storage is None)


def names(root: Path = STUDIES) -> list[str]:
    """Names of the studies that have a database in a folder of their own, the one written last at the end.

    What lies inside the folder of a study, such as a copy, is no other study.
    """
    flat = [path for path in root.glob(f"*/{DATABASE}") if path.is_file()]
    homes = {path.parent for path in flat}
    nested = [path for path in root.glob(f"*/*/{DATABASE}") if path.is_file() and path.parent.parent not in homes]
    written = sorted([*flat, *nested], key=lambda path: path.stat().st_mtime)
    found = [path.parent.relative_to(root).as_posix() for path in written]
    return [name for name in found if re.fullmatch(NAME, name)]


def newest(root: Path = STUDIES) -> str:
    """Name of the study that was written last. Raises StudyError when there is none."""
    found = names(root)
    if not found:
        raise StudyError(f"no study under {root}{os.sep}; make one with: budgetnet search --budget 8000")
    return found[-1]


def options_of(where: StudyPlace) -> list[str]:
    """The options that name a study on the command line; none for the one that is taken by default."""
    if where.is_default and names()[-1:] == [where.name]:
        return []
    return ["--study", where.name, *([] if where.is_default else ["--storage", where.url])]
