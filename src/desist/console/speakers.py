"""`SpeakerQueue` serializes the text of concurrent branches, so that their output doesn't interleave.

The first speaker is rendered live; the output of the others is held until the first has ended. A speaker's key is the
id of a step or a run.
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
    """The speakers of one run. With `held`, a speaker's text is rendered in one piece once the speaker has ended."""

    def __init__(self, screen: Screen, *, held: bool = False) -> None:
        self._screen = screen
        self._held = held
        self._speakers: dict[object, _Speaker] = {}

    def has_spoken(self, key: str) -> bool:
        """Return whether the speaker has emitted any text."""
        speaker = self._speakers.get(key)
        return speaker is not None and speaker.spoke

    def add_text(self, key: str, text: str) -> None:
        """Append to a speaker's text."""
        speaker = self._speaker(key)
        speaker.spoke = speaker.spoke or bool(text)
        if self._held or not self._is_front(key):
            speaker.waiting.append(text)
        else:
            self._screen.write(text)

    def line(self, key: str, what: RenderableType) -> None:
        """Append a finished line, such as a tool call."""
        speaker = self._speaker(key)
        if self._is_front(key) and not speaker.waiting:
            self._screen.line(what)
        else:
            speaker.waiting.append(what)

    def end(self, key: str) -> None:
        """End a speaker and render the next one. The key becomes free: the end of a container uses its key again."""
        self._speaker(key).ended = True
        self._speakers = {object() if known == key else known: speaker for known, speaker in self._speakers.items()}
        while self._speakers:
            front = next(iter(self._speakers))
            speaker = self._speakers[front]
            if speaker.ended or not self._held:
                self._print_waiting(speaker)
            if not speaker.ended:
                return
            self._screen.end_text()
            del self._speakers[front]

    def end_all(self) -> None:
        """End all speakers and render the rest of their output."""
        for speaker in self._speakers.values():
            speaker.ended = True
        self.end("")

    def _print_waiting(self, speaker: _Speaker) -> None:
        for item in speaker.waiting:
            if isinstance(item, str):
                self._screen.write(item)
            else:
                self._screen.line(item)
        speaker.waiting.clear()

    def _speaker(self, key: str) -> _Speaker:
        return self._speakers.setdefault(key, _Speaker())

    def _is_front(self, key: str) -> bool:
        return next(iter(self._speakers), None) == key
