"""The backend of a web page with a stop button: events out (SSE), a cancel in (POST). No framework, on purpose.

    python examples/web_stop_button.py          # serves, and plays the browser itself
    python examples/web_stop_button.py --serve  # serves until Ctrl-C: open the address that it prints

What to look at: the page needs nothing but the run's id, which every event carries. The cancel's answer is the receipt,
and it is true: pressed twice or too late, it says so. A tab that is closed in mid-story breaks the connection, which
leaves the `with` block, which stops the run: nobody tells stories to an empty room.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from desist import Agent, Workflow, runs
from desist.testing import ScriptedModel

PAGE = """<!doctype html><title>desist</title><button id=stop>Stop</button><p id=text></p><script>
const source = new EventSource("/story"), text = document.getElementById("text"); let run;
source.addEventListener("WorkflowStarted", e => { run = JSON.parse(e.data).run_id; });
source.addEventListener("RunContent", e => text.append(JSON.parse(e.data).content));
for (const end of ["WorkflowCompleted", "WorkflowCancelled", "WorkflowError"])
  source.addEventListener(end, () => { source.close(); text.append(` [${end}]`); });
document.getElementById("stop").onclick = () => fetch(`/cancel/${run}`, {method: "POST"});
</script>"""
STORY = "There once was a dragon who wanted to learn to code. " * 20
workflow = Workflow("Tale", steps=[Agent(ScriptedModel(STORY, delay=0.03, repeat=True), name="Teller")])


class Backend(BaseHTTPRequestHandler):
    """Three routes: the page, the story as it is told, the stop button."""

    def do_GET(self) -> None:
        """Show the page, or stream the events of a new run."""
        self.begin("text/event-stream" if self.path == "/story" else "text/html")
        if self.path != "/story":
            self.wfile.write(PAGE.encode())
            return
        try:
            with workflow.run("a dragon", stream=True) as events:
                for event in events:
                    self.wfile.write(f"event: {event.event}\ndata: {event.to_json()}\n\n".encode())
        except ConnectionError:
            print(f"\n  -- the tab was closed: {workflow.get_run(events.run_id).cancel.source.value} --")

    def do_POST(self) -> None:
        """Stop a run, and answer what became of that."""
        receipt = workflow.cancel(self.path.removeprefix("/cancel/"), reason="the stop button", by="the page")
        self.begin("application/json")
        answer = {"cancelled": bool(receipt), "outcome": receipt.outcome.value, "reason": receipt.reason}
        self.wfile.write(json.dumps(answer).encode())

    def begin(self, kind: str) -> None:
        """Send the headers."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Stay silent: what is printed is the story."""


def browse(address: str) -> None:
    """Be two browsers: one presses stop, twice; the other one is closed in mid-story."""
    with urllib.request.urlopen(f"{address}/story") as page:
        for number, data in enumerate(shown(page)):
            if number in (10, 11):
                stop = urllib.request.Request(f"{address}/cancel/{data['run_id']}", method="POST")
                with urllib.request.urlopen(stop) as answer:
                    print(f"\n  -- stop: {answer.read().decode()} --")
    print("  -- another tab --")
    with urllib.request.urlopen(f"{address}/story") as page:
        for number, _ in enumerate(shown(page)):
            if number == 10:
                break


def shown(page: Any) -> Iterator[dict[str, Any]]:
    """Print the events of a stream as the page would show them, and yield them."""
    for line in page:
        if line.startswith(b"data: "):
            data = json.loads(line[6:])
            print(data["content"] if data["event"] == "RunContent" else f"[{data['event']}] ", end="", flush=True)
            yield data


def main() -> None:
    """Serve, for a browser or for ourselves."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        server.daemon_threads = False
        address = f"http://127.0.0.1:{server.server_port}"
        if "--serve" in sys.argv:
            print(f"{address}  (Ctrl-C ends)")
            server.serve_forever()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browse(address)
        server.shutdown()
        # leaving the block waits for the handlers, which end with their runs
    print(f"[runs that still go on: {len(runs())}]")


if __name__ == "__main__":
    main()
