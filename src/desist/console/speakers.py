"""Who speaks: one at a time, so that branches that run at once don't mix their words.

The first that spoke is heard live; what the others say waits until it has ended. Keys are ids of steps or runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import RenderableType

from desist.console.screen import Screen

__all__ = ["SpeakerQueue"]


@dataclass(slots=True)
class _Speaker:
    waiting: list[str | RenderableType] = field(default_factory=list)
    spoke: bool = False
    ended: bool = False


class SpeakerQueue:
    """The voices of one run. `held` tells a voice's text when it has ended, in one piece."""

    def __init__(self, screen: Screen, *, held: bool = False) -> None:
        self._screen = screen
        self._held = held
        self._voices: dict[object, _Speaker] = {}

    def has_spoken(self, key: str) -> bool:
        """Whether the voice has said anything yet."""
        voice = self._voices.get(key)
        return voice is not None and voice.spoke

    def add_text(self, key: str, text: str) -> None:
        """Add to a voice's text."""
        voice = self._voice(key)
        voice.spoke = voice.spoke or bool(text)
        if self._held or not self._is_front(key):
            voice.waiting.append(text)
        else:
            self._screen.write(text)

    def line(self, key: str, what: RenderableType) -> None:
        """Add a finished line, such as a tool call."""
        voice = self._voice(key)
        if self._is_front(key) and not voice.waiting:
            self._screen.line(what)
        else:
            voice.waiting.append(what)

    def end(self, key: str) -> None:
        """The voice has ended; the next one is heard. Its key is free: a container speaks again when it has ended."""
        self._voice(key).ended = True
        self._voices = {object() if known == key else known: voice for known, voice in self._voices.items()}
        while self._voices:
            front = next(iter(self._voices))
            voice = self._voices[front]
            if voice.ended or not self._held:
                self._print_waiting(voice)
            if not voice.ended:
                return
            self._screen.end_text()
            del self._voices[front]

    def end_all(self) -> None:
        """Everything has ended."""
        for voice in self._voices.values():
            voice.ended = True
        self.end("")

    def _print_waiting(self, voice: _Speaker) -> None:
        for item in voice.waiting:
            if isinstance(item, str):
                self._screen.write(item)
            else:
                self._screen.line(item)
        voice.waiting.clear()

    def _voice(self, key: str) -> _Speaker:
        return self._voices.setdefault(key, _Speaker())

    def _is_front(self, key: str) -> bool:
        return next(iter(self._voices), None) == key
