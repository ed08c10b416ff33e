"""Sockets on which functions of other processes report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_census import Door


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path / "door")
    yield door
    door.close()


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path / "release")
    yield door
    door.close()


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


@pytest.fixture
def is_unexpected() -> Callable[[logging.LogRecord], bool]:
    """Records of libraries count, too: nothing here interrupts their code."""
    return lambda record: record.levelno >= logging.ERROR or bool(record.exc_info)
