"""A PostgreSQL server of a test's own: made in a folder of its own, on a free port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, wherever a package put them."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def why_not() -> str | None:
    """Why no server can be started here; None if one can."""
    if os.name != "posix":
        return "the test server is started as on POSIX"
    return "no PostgreSQL server is installed" if programs() is None else None


class Server:
    """A running server. ``url`` is an SQLAlchemy URL of its database."""

    def __init__(self, folder: Path, port: int, user: dict[str, Any]) -> None:
        self.url = f"postgresql://postgres:secret@127.0.0.1:{port}/postgres"
        self._folder, self._port, self._user = folder, port, user

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        self._control("-w", "-o", options, "-l", str(self._folder / "log"), "start")

    def stop(self) -> None:
        """Stop it at once, as a crash of its machine would."""
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        folder = programs()
        assert folder is not None
        command = [str(folder / "pg_ctl"), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=self._folder, **self._user)


@contextmanager
def server() -> Iterator[Server]:
    """Make and start a server; it refuses to run as root, so root lends it another user."""
    bin_folder = programs()
    assert bin_folder is not None
    user: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text("secret")
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
            for path in (folder, folder / "password"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        command = [str(bin_folder / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--no-sync", "-E", "UTF8"]
        command += ["-A", "scram-sha-256", "--pwfile", str(folder / "password")]
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder, **user)
        running = Server(folder, _free_port(), user)
        running.start()
        try:
            yield running
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                running.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
