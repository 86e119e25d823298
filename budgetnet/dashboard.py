"""optuna-dashboard on one study, with notes: a web server on this machine until it is stopped."""

from __future__ import annotations

import warnings
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from budgetnet.errors import StudyError
from budgetnet.extras import require
from budgetnet.notes import NotedStorage
from budgetnet.study import Study

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication  # Python 3.11

MOST_PORTS = 65_535


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # an answer that is under way does not keep the program from ending


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A line for every request would bury the address."""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that listens; ``address`` is the page of the study."""

    address: str
    _server: WSGIServer

    def serve(self) -> None:
        """Answer until this thread is interrupted."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, of the plots that few trials give
            self._server.serve_forever()


@contextmanager
def listening(study: Study, host: str, port: int) -> Iterator[Dashboard]:
    """A dashboard for ``study``; port 0 is any that is free. The study is only read, save for what a person changes
    there. Raises ExtraError without optuna-dashboard, StudyError where nothing can listen."""
    require("dashboard")
    from optuna_dashboard import wsgi

    storage = NotedStorage(study)
    try:
        with _server(host, port, wsgi(storage)) as server:
            number = study.storage.get_study_id_from_name(study.where.name)
            reached = "127.0.0.1" if host in ("", "0.0.0.0") else host
            yield Dashboard(f"http://{reached}:{server.server_port}/dashboard/studies/{number}", server)
    finally:
        storage.engine.dispose()


def _server(host: str, port: int, application: WSGIApplication) -> WSGIServer:
    if not 0 <= port <= MOST_PORTS:
        raise StudyError(f"--port must be between 0 and {MOST_PORTS}, but got {port}")
    try:
        return make_server(host, port, application, _Server, _Silent)
    except OSError as error:
        raise StudyError(f"--host {host} --port {port}: cannot be listened to: {error.strerror or error}") from None


def open_browser(address: str) -> None:
    """Show a page in the browser of a desktop; one that runs in the terminal would take it over."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        Thread(target=browser.open, args=(address,), daemon=True).start()
