"""Serve the page: on this machine alone unless told otherwise, without any other connection."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

from mae_toolkit.demo.models import Models
from mae_toolkit.demo.page import build_page
from mae_toolkit.demo.style import CSS, make_theme
from mae_toolkit.errors import UserError

if TYPE_CHECKING:
    import gradio

LOCALHOST = '127.0.0.1'
LOCAL = (LOCALHOST, 'localhost', '::1')
PORT = 7860
PAINTED_BYTES = 1 << 22  # what is painted is sent as files, too
MOST_PORT = 65535
PORTS = 100  # that are tried from the first on
FOLDER = 'GRADIO_TEMP_DIR'
NO_ANALYTICS = {'GRADIO_ANALYTICS_ENABLED': 'False'}


def check_gradio() -> None:
    """Refuse to go on without Gradio.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        if error.name != 'gradio':
            raise
        raise UserError("The page needs Gradio: pip install 'mae_toolkit[demo]'.") from None


@contextmanager
def serve(models: Models, host: str = LOCALHOST, port: int | None = None, open_browser: bool = False) -> Iterator[str]:
    """Serve the page within a ``with`` block.

    What visitors upload lies in a folder that only this user can read, for an hour at most, and is removed at the end.

    Args:
        models: What the page computes with.
        host: Address at which it is reached; by default, from this machine alone.
        port: Its port; by default 7860 or the next that is free.
        open_browser: Show the page in the browser of this machine.

    Yields:
        The address of the page.

    Raises:
        UserError: If Gradio is not installed, or the address or port cannot be used.
    """
    with _private_folder():
        check_gradio()
        port = _choose_port(host, port)
        page = build_page(models)
        try:
            yield _launch(page, models, host, port, open_browser)
        finally:
            page.close(verbose=False)


def serve_until_interrupted(
    models: Models, host: str = LOCALHOST, port: int | None = None, open_browser: bool = False
) -> None:
    """Serve the page until Ctrl-C or SIGTERM, and print its address; see :func:`serve`."""
    ended = Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    if host not in LOCAL:
        print(
            f'warning: at --host {host}, everybody who reaches this machine can use the page, without a password.',
            file=sys.stderr,
        )
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serve(models, host, port, open_browser) as address:
            print(f'The page is at {address} until you press Ctrl-C.', flush=True)
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _launch(page: gradio.Blocks, models: Models, host: str, port: int, open_browser: bool) -> str:
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        max_file_size=max(models.reader.limits.bytes, PAINTED_BYTES),  # the reader refuses what is above its limit
        state_session_capacity=200,
        theme=make_theme(),
        css=CSS,
    )
    return address


@contextmanager
def _private_folder() -> Iterator[None]:
    """Let Gradio keep its files in a folder of this user, which is removed at the end, and send nothing to anybody."""
    folder = tempfile.mkdtemp(prefix='mae_toolkit_demo_')
    settings = NO_ANALYTICS | {FOLDER: folder}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _choose_port(host: str, port: int | None) -> int:
    """Return the port, or a free one.

    Raises:
        UserError: If the port is taken or none, or this machine has no such address.
    """
    if port is not None and not 0 < port <= MOST_PORT:
        raise UserError(f'--port {port} must be from 1 to {MOST_PORT}.')
    for candidate in range(PORT, PORT + PORTS) if port is None else [port]:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return candidate
        except (socket.gaierror, UnicodeError):
            raise UserError(f'--host {host} is no address of this machine: leave it out for {LOCALHOST}.') from None
        except OSError as error:
            reason = error.strerror
    which = f'port {port}' if port is not None else f'any port from {PORT} to {PORT + PORTS - 1}'
    raise UserError(f'The page cannot be served at {host}, {which}: {reason}. Choose another by --host or --port.')
