"""`prefgym label --web`: people answer queries in a browser, at this machine or, with a token, from others."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import uvicorn
from rich.console import Console
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from prefgym.labelling.desk import Desk
from prefgym.labelling.web_api import ERRORS, Api
from prefgym.labelling.web_dashboard import Dashboard
from prefgym.labelling.web_guard import SHARING, Guard, Pace, is_loopback
from prefgym.pause import Pause
from prefgym.store import Store

RATE, BURST = 50.0, 200.0  # requests a second that one annotator may make, and at once after a silence

LEASE = 45.0
"""Seconds for which a pair stays with a page that is not heard of; a page that is open asks every 15."""

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/clip.js": ("clip.js", "text/javascript"),
    "/keys.js": ("keys.js", "text/javascript"),
    "/text.js": ("text.js", "text/javascript"),
    "/ranking.js": ("ranking.js", "text/javascript"),
    "/memory.js": ("memory.js", "text/javascript"),
    "/waiting.js": ("waiting.js", "text/javascript"),
    "/player.js": ("player.js", "text/javascript"),
    "/queue.js": ("queue.js", "text/javascript"),
    "/panels.js": ("panels.js", "text/javascript"),
}
"""All that is served but the API."""


class WebError(RuntimeError):
    """The page cannot be served; the message says why and what to do."""


def make_app(
    store: Store,
    *,
    run: Path | None,
    token: str | None,
    host: str,
    port: int,
    desk: Desk | None = None,
    rate: float = RATE,
    burst: float = BURST,
) -> Starlette:
    """The page and its API as an ASGI app.

    Args:
        store: where queries come from and answers go.
        run: folder of the run that asks, to show how it goes; None if there is none.
        token: that every request must bring; None on loopback.
        host: that the server listens on.
        port: likewise.
        desk: hands out the queries; None for the usual one.
        rate: requests a second that one annotator at one address may make.
        burst: requests that it may make at once after a silence.

    Raises:
        ValueError: no token for a host that others can reach.
    """
    if token is None and not is_loopback(host):
        raise ValueError(f"`token` must be given on a host that other machines can reach, got none for {host!r}")
    board = Dashboard(store, run)
    api = Api(desk or Desk(store, lease=LEASE), board, Pace(rate, burst))
    everybody = Pace(SHARING * rate, SHARING * burst)
    guard = Middleware(Guard, host=host, port=port, token=token, pace=everybody)
    routes = [*_pages(), *api.routes()]
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=ERRORS, lifespan=partial(_life, board.pause))
    app.router.redirect_slashes = False
    return app


@contextlib.asynccontextmanager
async def _life(pause: Pause, _app: Starlette) -> AsyncIterator[None]:
    """Training does not stay paused when the server ends, by Ctrl-C or by a signal."""
    try:
        with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C twice; uvicorn would print where it was interrupted
            yield
    finally:
        pause.end()


def serve(
    store: Store, *, run: Path | None = None, host: str = "127.0.0.1", port: int = 8765, second: float = 0.1
) -> None:
    """Serve the page until Ctrl-C; says at which URL. Every answer that a page was thanked for is in the store.

    Args:
        store: where queries come from and answers go.
        run: folder of the run that asks, to show how it goes.
        host: to listen on. On any but this machine's own a token is made up, which the URL has.
        port: to listen on; 0 for any that is free.
        second: share of the queries that somebody else has answered already, to see whether the two agree.

    Raises:
        WebError: the host or port cannot be listened on.
    """
    token = None if is_loopback(host) else secrets.token_urlsafe()
    listener = listen(host, port)
    port = listener.getsockname()[1]
    app = make_app(store, run=run, token=token, host=host, port=port, desk=Desk(store, lease=LEASE, second=second))
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for url in urls(host, port, token):
        console.print(f"Open {url}")
    console.print("Ctrl-C ends it; every answer is kept.")
    with contextlib.closing(listener), contextlib.suppress(KeyboardInterrupt):
        server(app).run(sockets=[listener])


def server(app: Starlette) -> uvicorn.Server:
    """A server that says little, trusts no proxy, and leaves soon."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # it would have the token
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            limit_concurrency=512,
            timeout_keep_alive=75,  # a page asks every 15 seconds at least
            timeout_graceful_shutdown=2,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        WebError: it cannot, since the port is taken, or the host is not this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=512)
    except (OSError, OverflowError, UnicodeError) as error:
        problem = f"{host}, port {port}, cannot be listened on ({error})"
        raise WebError(f"{problem}: choose another --port or --host") from error
    # Connections inherit it; asyncio sees to it only for sockets it made itself. Without, short replies wait 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def urls(host: str, port: int, token: str | None) -> list[str]:
    """Where browsers find the page."""
    names = [socket.gethostname(), *_own_address()] if host in ("0.0.0.0", "::") else [host]
    shown = [f"[{name}]" if ":" in name else name for name in names]
    return [f"http://{name}:{port}/" + (f"?token={token}" if token else "") for name in shown]


def _own_address() -> list[str]:
    """The address by which others reach this machine, if it has one; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # of a range for documentation
        return [probe.getsockname()[0]]
    return []


def _pages() -> list[Route]:
    folder = files(__package__) / "page"
    return [Route(path, _page((folder / name).read_bytes(), kind)) for path, (name, kind) in PAGE.items()]


def _page(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return Response(content, headers={"cache-control": "no-cache"}, media_type=kind)

    return endpoint
