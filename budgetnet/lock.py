"""One process at a time has a study: a lock file beside an SQLite database, an advisory lock on a PostgreSQL server."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import make_url

from budgetnet.errors import StudyError
from budgetnet.place import StudyPlace
from budgetnet.study import driver_errors, storage_errors

_WHO = """
SELECT application_name, client_addr FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = :key
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def locked(where: StudyPlace) -> Iterator[None]:
    """Hold the study's lock. Raises StudyError that names the process which has it.

    The operating system, or the server, frees the lock of a process that dies: a crash leaves nothing to clean up.
    """
    on_server = make_url(where.url).get_backend_name() == "postgresql"
    with _locked_on_server(where) if on_server else _locked_by_file(where):
        yield


def _process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _in_use(where: StudyPlace, who: str) -> StudyError:
    return StudyError(f"study {where.name} is in use by {who}; wait until it ends")


@contextmanager
def _locked_on_server(where: StudyPlace) -> Iterator[None]:
    """An advisory lock, held as long as its connection is open, whatever machine asks."""
    key = int.from_bytes(hashlib.sha256(f"budgetnet {where.name}".encode()).digest()[:7], "big")
    with storage_errors(where), driver_errors(where):
        connection = create_engine(where.url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect()
    with connection:
        with storage_errors(where):
            connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": _process()})
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                holder = connection.execute(text(_WHO), {"key": key}).first()
                raise _in_use(where, "another process" if holder is None else str(holder[0]))
        yield


@contextmanager
def _locked_by_file(where: StudyPlace) -> Iterator[None]:
    """A lock file, its folder made. Where the study never comes to be, the folders that were made are removed."""
    home, holder = where.lock.parent, where.lock.with_suffix(".holder")
    made = [folder for folder in (home, *home.parents) if not folder.exists()]
    lock = FileLock(where.lock, timeout=0)
    with storage_errors(where):
        home.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            raise _in_use(where, who) from None
    try:
        with storage_errors(where):
            holder.write_text(_process(), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()
        if made and not (where.database is None or where.database.is_file()):
            with suppress(OSError):
                where.lock.unlink(missing_ok=True)
                for folder in made:
                    folder.rmdir()
