"""`python -m bench.peers [--quick] [NAME ...]`: makes the environments of the peers, measures, prints tables.

The environments are folders `.venv-peers-NAME` in the root of the repository, made once. All peers use one Postgres
with fsync, and SQLite files. One program is measured after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from bench.machine import load
from desist.testing import LocalPostgres

ROOT = Path(__file__).parents[2]
PEERS = {
    "langgraph": ["langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary]"],
    "dbos": ["dbos", "psycopg[binary]"],
    "procrastinate": ["procrastinate", "psycopg[binary]"],
    "desist": [],
}
SETTINGS = {"fsync": "on", "full_page_writes": "on"}


def _python(peer: str) -> str:
    """Return the interpreter of a peer; make its environment if there is none."""
    if not PEERS[peer]:
        return sys.executable
    folder = ROOT / f".venv-peers-{peer}"
    if not (folder / "done").exists():
        print(f"making the environment of {peer}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PEERS[peer]], check=True)
        (folder / "done").touch()
    return str(folder / "bin" / "python")


def _version(peer: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({peer!r}))"
    return subprocess.run([_python(peer), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _call(peer: str, program: str, *arguments: object) -> dict[str, Any]:
    command = [_python(peer), "-m", f"bench.peers.{peer}_{program}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def _head(*cells: str) -> None:
    print()
    _row(*cells)
    _row(*["---"] * len(cells))


def _steps(server: LocalPostgres, peers: list[str], count: int) -> None:
    _head("a durable run", "database", "steps", "wall p50, ms", "p99", "CPU, ms", "load")
    with tempfile.TemporaryDirectory() as folder:
        for peer in peers:
            for steps in (1, 10):
                schema = f"{peer}_{steps}"
                server.do(f'CREATE DATABASE "{schema}"')
                for name, url in (
                    ("SQLite", f"sqlite:///{folder}/{schema}.db"),
                    ("Postgres", server.url_of(schema)),
                ):
                    found = _call(peer, "steps", url, steps, count)
                    _row(peer, name, steps, *(found[key] for key in ("p50", "p99", "cpu", "load")))


def _queues(server: LocalPostgres, peers: list[str], count: int) -> None:
    named = ("jobs a second, 2 workers", "CPU of the workers each, ms", "submit p50, ms", "in one call, ms each")
    _head("a job", *named, "submit to done p50 / p99, ms", "idle worker, % of a CPU", "load")
    for peer in peers:
        server.do(f'CREATE DATABASE "{peer}_queue"')
        found = _call(peer, "queue", "queue", server.url_of(f"{peer}_queue"), count)
        latency = f"{found['latency']['p50']:.3g} / {found['latency']['p99']:.3g}"
        cells = [found["jobs/s"], found["cpu"], found["submit"]["p50"], found.get("batch", "-"), latency]
        _row(peer, *cells, found["idle %"], found["load"])


def _growth(server: LocalPostgres, peers: list[str]) -> None:
    _head("one claim, while", *(f"{peer}: p50 / p99, ms" for peer in peers), "load")
    found = []
    for peer in peers:
        names = [f"{peer}_growth_{number}" for number in range(5)]
        for name in names:
            server.do(f'CREATE DATABASE "{name}"')
        found.append(_call(peer, "queue", "growth", *map(server.url_of, names)))
    for name in found[0]:
        if name != "load":
            cells = [f"{one[name]['p50']:.3g} / {one[name]['p99']:.3g}" for one in found]
            _row(name, *cells, " / ".join(f"{one['load']:.3g}" for one in found))


def main() -> None:
    """Measure the peers that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(PEERS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(PEERS))
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}; there are: {', '.join(PEERS)}")
    peers = asked.names or list(PEERS)
    versions = ", ".join(f"{peer} {_version(peer)}" for peer in peers)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, Postgres with fsync; {versions}; load {load()}")
    with LocalPostgres(settings=SETTINGS) as server:
        _steps(server, [peer for peer in peers if peer != "procrastinate"], 50 if asked.quick else 300)
        queues = [peer for peer in peers if peer in ("procrastinate", "desist")]
        if queues:
            _queues(server, queues, 200 if asked.quick else 2000)
            _growth(server, queues)


if __name__ == "__main__":
    main()
