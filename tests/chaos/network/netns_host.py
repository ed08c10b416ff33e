"""Hosts on one machine: network namespaces, each with a wire to this one that can be cut and mended. Needs root."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from types import TracebackType

__all__ = ["Host", "why_not"]


#: A wire that was taken down is gone a moment later: none is named like another one.
_numbers = itertools.count()


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=30)


def why_not() -> str | None:
    """Return why there can be no such hosts here; None if there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` here (Debian: iproute2)"
    name = f"desist-try-{os.getpid()}"
    tried = _ip("netns", "add", name)
    if tried.returncode:
        return f"network namespaces aren't permitted here: {tried.stderr.strip()}"
    wire = _ip("link", "add", f"dt{os.getpid() % 100_000}", "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("netns", "del", name)
    return f"wires between them aren't permitted here: {wire.stderr.strip()}" if wire.returncode else None


class Host:
    """A host with a wire to this one. `near` is this machine's address on it."""

    def __init__(self) -> None:
        unique, number = os.getpid() % 100_000, next(_numbers)
        self.name, self._wire = f"desist-{unique}-{number}", f"dw{unique}x{number}"
        net = f"10.213.{unique % 250}.{4 * (number % 60)}"
        base, last = net.rsplit(".", 1)
        self.near, self._far = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"

    def __enter__(self) -> Host:
        self._do("netns", "add", self.name)
        try:
            self._do("link", "add", self._wire, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            self._do("addr", "add", f"{self.near}/30", "dev", self._wire)
            self._do("link", "set", self._wire, "up")
            for words in (("addr", "add", f"{self._far}/30", "dev", "eth0"), ("link", "set", "eth0", "up")):
                self._do("-n", self.name, *words)
            self._do("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _do(self, *words: str) -> None:
        done = _ip(*words)
        assert not done.returncode, f"ip {' '.join(words)}: {done.stderr}"

    @property
    def prefix(self) -> list[str]:
        """Return what a command begins with to run there."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Cut the wire: packets are lost in both directions, and nobody is told."""
        self._do("link", "set", self._wire, "down")

    def mend(self) -> None:
        """Mend it."""
        self._do("link", "set", self._wire, "up")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _ip("link", "del", self._wire)
        _ip("netns", "del", self.name)
