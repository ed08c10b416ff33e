"""The files in `deploy/` fit desist: commands, options, variables, ports and probes exist; and what they start works.

Docker and Kubernetes aren't needed: the containers' commands are started as processes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from desist.cli import app
from desist.db import PostgresDb
from desist.server.security_middleware import OPEN

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
KUBERNETES: list[Any] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in KUBERNETES if one["kind"] == "Deployment"}
CONTAINERS = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}
COMMANDS: dict[str, list[str]] = {f"compose {name}": COMPOSE[name]["command"] for name in ("server", "worker")}
COMMANDS |= {f"kubernetes {name}": one["command"] + one["args"] for name, one in CONTAINERS.items()}
PATIENCE = 50.0
TOKEN = "a-token-of-this-test"


def parsed(command: list[str]) -> dict[str, Any]:
    """Return the values of a command's options, as desist's own command line reads them."""
    assert command[0] == "desist"
    commands: Any = typer.main.get_command(app)
    return dict(commands.commands[command[1]].make_context(command[1], command[2:]).params)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_exist(name: str) -> None:
    """desist has these commands and options, and the image has their workflow."""
    command = COMMANDS[name]
    assert parsed(command)["targets"] == ["story.py:story"]
    copied = re.findall(r"^COPY (\S+) \.$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert copied == ["story.py"] and (DEPLOY / "story.py").exists()


def test_the_image() -> None:
    """The image has extras that exist, and its default command is one of desist."""
    text = (DEPLOY / "Dockerfile").read_text()
    (extras,) = re.findall(r"'desist\[(.*)\]'", text)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*extras.split(",")} <= {*known}
    (command,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    assert parsed(yaml.safe_load(command))["targets"] == ["story.py:story"]


def test_there_is_time_to_drain() -> None:
    """Each platform waits longer for a process than the process drains and settles."""
    graces = {f"compose {name}": seconds(COMPOSE[name]["stop_grace_period"]) for name in ("server", "worker")}
    graces |= {f"kubernetes {name}": pod["spec"]["terminationGracePeriodSeconds"] for name, pod in PODS.items()}
    for name, command in COMMANDS.items():
        assert graces[name] >= parsed(command)["drain"] + 20, name


def test_variables_exist() -> None:
    """The variables that are set for desist are read by desist, or by the program."""
    names = {name for one in ("server", "worker") for name in COMPOSE[one]["environment"]}
    names |= {variable["name"] for one in CONTAINERS.values() for variable in one["env"]}
    source = "".join(path.read_text() for path in (ROOT / "src" / "desist" / "cli").rglob("*.py"))
    assert names and all(f'"{name}"' in source for name in names)


def test_ports_fit() -> None:
    """Published ports, container ports, services and checks name the port that the server listens on."""
    port = parsed(COMMANDS["compose server"])["port"]
    assert COMPOSE["server"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/health" in COMPOSE["server"]["healthcheck"]["test"][-1]
    server = CONTAINERS["desist-server"]
    assert server["ports"] == [{"name": "http", "containerPort": parsed(COMMANDS["kubernetes desist-server"])["port"]}]
    (service,) = (one["spec"] for one in KUBERNETES if one["kind"] == "Service")
    assert service["ports"][0]["targetPort"] == "http"
    assert service["selector"] == PODS["desist-server"]["metadata"]["labels"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["port"] == "http" and server[probe]["httpGet"]["path"] in OPEN
    scrape = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": [f"server:{port}"]}]


# -- started as processes


class Deployment:
    """The commands of the Kubernetes file as processes, on a database of this test."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.health = folder, folder / "health"
        self.environment = {**os.environ, "DESIST_DB": url, "DESIST_TOKEN": TOKEN}
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, name: str) -> tuple[subprocess.Popen[str], str]:
        """Start a container's command; return it with the first line that it says."""
        command = COMMANDS[f"kubernetes {name}"]
        changed = {"/tmp/desist-worker": str(self.health), "0.0.0.0": "127.0.0.1", "8000": "0"}
        command = [changed.get(word, word) for word in command[1:]]
        made = subprocess.Popen(
            [sys.executable, "-c", "from desist.cli import main; main()", *command],
            cwd=DEPLOY,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(made)
        assert made.stderr is not None
        return made, made.stderr.readline()

    def probe(self, name: str, kind: str) -> int:
        """Execute a probe; return its exit code."""
        command = CONTAINERS[name][kind]["exec"]["command"]
        changed = [word.replace("/tmp/desist-worker", str(self.health)) for word in command]
        return subprocess.run(changed, capture_output=True, check=False).returncode

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def deployment(tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[Deployment]:
    made = Deployment(tmp_path, new_postgres())
    yield made
    made.close()


def _get(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return str(response.read().decode())


@pytest.mark.timeout(200)
def test_it_works(deployment: Deployment) -> None:
    """A run that is submitted by the program is executed by the worker; page and metrics are served; probes answer; at
    SIGTERM both end in order."""
    assert deployment.probe("desist-worker", "readinessProbe") != 0
    worker, line = deployment.start("desist-worker")
    assert line.startswith("desist works on runs of story")
    server, line = deployment.start("desist-server")
    url = line.split()[-1]
    assert (
        deployment.probe("desist-worker", "readinessProbe") == 0 == deployment.probe("desist-worker", "livenessProbe")
    )
    command = [sys.executable, "story.py", "the", "sea"]
    done = subprocess.run(
        command, cwd=DEPLOY, env=deployment.environment, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    run_id = done.stdout.strip()
    db = PostgresDb(deployment.environment["DESIST_DB"])
    while not db.get_run(run_id).status.is_final:
        db.flush()
    assert db.get_run(run_id).content.startswith("A story about the sea")
    db.close()
    assert run_id in _get(f"{url}/v1/runs") and "<html" in _get(f"{url}/")
    assert _get(f"{url}/health") == '{"status":"ok"}' and "desist_live_runs 0" in _get(f"{url}/metrics")
    os.utime(deployment.health, (0, 0))
    hung = deployment.probe("desist-worker", "livenessProbe")
    assert hung == 1 or deployment.health.stat().st_mtime > 0  # the worker has touched the file at this moment
    for process in (worker, server):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(PATIENCE) for process in (worker, server)] == [0, 0]
    assert deployment.probe("desist-worker", "readinessProbe") != 0
