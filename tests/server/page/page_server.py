"""A server in a thread, for a real browser."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from typing import Any

from server_harness import served_app

from desist.server import create_app

HANG = 100.0
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


@contextlib.contextmanager
def served(*workflows: Any, agents: Any = (), port: int = 0, **more: Any) -> Iterator[str]:
    """Serve components; yield the URL. At the end, live runs are cancelled."""
    with served_app(create_app(workflows=workflows, agents=agents, **more), port=port, graceful=1) as url:
        try:
            yield f"{url}/"
        finally:
            for page in open_pages:
                page.goto("about:blank")  # before the server ends: otherwise the page reports that it is lost


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
