"""A server in a thread, for a real browser."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import uvicorn

from desist.cancel.reason import Source
from desist.server import create_app

HANG = 30.0
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
#: Nothing of the browser's own may go over the network, and nothing may be slower than it must.
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-pings",
    "--no-proxy-server",
]


#: Pages of the test that runs.
open_pages: list[Any] = []


class _Server(uvicorn.Server):
    """uvicorn in a thread, without signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served(*workflows: Any, agents: Any = (), port: int = 0, **more: Any) -> Iterator[str]:
    """Serve components; yield the URL. At the end, live runs are cancelled."""
    app = create_app(workflows=workflows, agents=agents, **more)
    config = uvicorn.Config(
        app, port=port, loop="asyncio", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.up.wait(HANG), "the server doesn't start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        for page in open_pages:
            page.goto("about:blank")  # before the server goes: else the page says, rightly, that it has
        for run in list(app.state.service.active_runs._live.values()):
            run.stop(Source.shutdown)
        server.should_exit = True
        thread.join(HANG)
        assert not thread.is_alive(), "the server doesn't end"


# -- what tests do with a server and a page


def post(url: str, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Send JSON; return the response."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json", **headers})
    with _direct.open(request, timeout=HANG) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def get(url: str, path: str) -> dict[str, Any]:
    """Send a GET request; return the response."""
    with _direct.open(url + path, timeout=HANG) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def start(url: str, **what: Any) -> str:
    """Start a run; return its id."""
    return str(post(url, "v1/runs", {"input": "go", **what})["run_id"])


def open_run(page: Any, url: str, run_id: str) -> None:
    """Open the page of a run."""
    page.goto(f"{url}#/runs/{run_id}")


def button(page: Any, name: str) -> Any:
    """Return the button with this name."""
    return page.get_by_role("button", name=name, exact=True)


def story_of(page: Any) -> list[str]:
    """Return the lines of the cancel timeline, once the cancel has settled."""
    page.locator(".story li", has_text="Settled after").wait_for()
    return [str(line).strip() for line in page.locator(".story .what").all_inner_texts()]


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
