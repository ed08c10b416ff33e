"""An injected exception that Python ignores, because it was raised in a finalizer, is sent again."""

from __future__ import annotations

import ctypes
import sys
import time
import weakref
from collections.abc import Callable

import pytest
from calls_scenario import Scene
from hanging_server import PATIENCE

from desist.calls import lost_exception


class Thing:
    """Something that can be referred to weakly."""


class Finalizer:
    """Its finalizer runs until it is interrupted."""

    def __del__(self) -> None:
        while True:
            time.sleep(0.001)


def finalizer() -> None:
    Finalizer()
    while True:
        time.sleep(0.001)


def callback() -> None:
    def never_ends(_: object) -> None:
        while True:
            time.sleep(0.001)

    thing = Thing()
    hold = weakref.ref(thing, never_ends)
    del thing
    while hold:
        time.sleep(0.001)


class Lookup:
    """C code asks whether it has an attribute, and takes any exception for a no."""

    def __getattr__(self, name: str) -> None:
        while True:
            time.sleep(0.001)


def c_code() -> None:
    ctypes.pythonapi.PyObject_HasAttrString(ctypes.py_object(Lookup()), b"name")
    while True:
        time.sleep(0.001)


@pytest.mark.parametrize("work", [finalizer, callback, c_code], ids=lambda f: f.__name__)
def test_it_is_sent_again(work: Callable[[], None]) -> None:
    """The call is out long before its grace is over, and nothing is reported."""
    scene = Scene(work, grace=100 * PATIENCE).start().wait_blocked()
    assert scene.stop().abandoned == []
    assert scene.left.is_set()


def test_other_exceptions_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program's own finalizers raise goes to the hook that was set before."""
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: heard.append(unraisable.exc_type))
    lost_exception.install_unraisable_hook.__wrapped__()

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    Broken()
    assert heard == [ValueError]
