"""Server of the page: on one address of this machine, with nothing fetched from, or told to, any other."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semcore.demo.query_pictures import MOST_BYTES
from semcore.runtime.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# 'unsafe-inline' and 'unsafe-eval': gradio's page has scripts in it, and makes functions of the text of ours.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Content security policy: a browser that keeps to it asks no other server for anything."""


def check_address(host: str, port: int) -> None:
    """Check that a page can be served at an address.

    Raises:
        UserError: the port is in use or not allowed, or the host is none of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except PermissionError:
        raise UserError(f"port {port} is for the system's services; choose one above 1023 with --port") from None
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) in _IN_USE:
            raise UserError(
                f"port {port} of {host} is in use; choose another with --port, such as {_next(port)}"
            ) from None
        raise UserError(f"{host!r} is no address of this machine; choose another --host, such as 127.0.0.1") from None


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield the folder of all files of the page, dropped pictures too; it is removed in the end.

    gradio reads from the environment where it is, and that it is to tell nobody of its use.
    """
    with tempfile.TemporaryDirectory(prefix="semcore-demo-") as folder:
        settings = {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # It asks its own server whether it has started, which no proxy can answer.
            "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), *LOOPBACK))),
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def start(page: Any, host: str, port: int, css: Path) -> str:
    """Serve a page in threads of this process and return its address; `page.close()` ends it.

    Args:
        page: the gradio page.
        host: an address of this machine.
        port: the port.
        css: the page's style sheet.

    Raises:
        UserError: the port was taken in the meantime.
    """
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    middleware = [Middleware(PolicyMiddleware)]
    if host in LOOPBACK:  # a page elsewhere whose name leads here is another site, whatever a browser believes
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"]))
    try:
        page.launch(
            server_name=host, server_port=port, app_kwargs={"middleware": middleware}, css_paths=[css],
            theme=gr.themes.Base(
                primary_hue="blue", neutral_hue="slate",
                font=["system-ui", "-apple-system", "'Segoe UI'", "'DejaVu Sans'", "sans-serif"],
                font_mono=["ui-monospace", "'DejaVu Sans Mono'", "monospace"],
            ),
            prevent_thread_lock=True, quiet=True, inline=False, inbrowser=False, share=False, ssr_mode=False, pwa=False,
            mcp_server=False, run_history=False, enable_monitoring=False, footer_links=[], show_error=False,
            max_file_size=MOST_BYTES, strict_cors=True,
        )  # fmt: skip
    except OSError:
        raise UserError(f"port {port} of {host} is in use; choose another with --port, such as {_next(port)}") from None
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class PolicyMiddleware:
    """Adds the content security policy to every response.

    Args:
        app: what answers.
    """

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        await self._app(scope, receive, sending)


_IN_USE = (48, 98, 10048)  # EADDRINUSE of macOS, Linux and Windows


def _next(port: int) -> int:
    return port + 1 if port < 65_535 else port - 1
