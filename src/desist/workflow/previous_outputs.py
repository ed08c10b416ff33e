"""`PreviousOutputs`: the outputs of previous steps, as each step sees them.

The views of consecutive steps share one log, so that a step costs the same, however many steps came before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from desist.workflow.types import StepOutput

__all__ = ["PreviousOutputs"]


class PreviousOutputs(Mapping[str, StepOutput]):
    """Outputs by step name, in the order in which they ended; a repeated name has its last position."""

    __slots__ = ("_count", "_log", "_places")

    def __init__(self) -> None:
        self._log: list[tuple[str, StepOutput, int]] = []  #: name, output, number of names up to here
        self._places: dict[str, list[int]] = {}
        self._count = 0  #: how much of the log this view has

    @classmethod
    def of(cls, made: Mapping[str, StepOutput]) -> PreviousOutputs:
        """Return `made` as `PreviousOutputs`."""
        if isinstance(made, PreviousOutputs):
            return made
        view = cls()
        for name, output in made.items():
            view = view.then(name, output)
        return view

    def then(self, name: str, output: StepOutput) -> PreviousOutputs:
        """Return these outputs and one more. Only the first call on a view can share its log."""
        log, places = self._log, self._places
        if self._count < len(log):
            log = log[: self._count]
            places = {}
            for place, (known, _, _) in enumerate(log):
                places.setdefault(known, []).append(place)
        names = (log[-1][2] if log else 0) + (name not in places)
        places.setdefault(name, []).append(len(log))
        log.append((name, output, names))
        view = PreviousOutputs()
        view._log, view._places, view._count = log, places, len(log)
        return view

    def _index_of(self, name: str) -> int | None:
        places = self._places.get(name)
        if places is None:
            return None
        seen = bisect_left(places, self._count)
        return places[seen - 1] if seen else None

    def __getitem__(self, name: str) -> StepOutput:
        place = self._index_of(name)
        if place is None:
            raise KeyError(name)
        return self._log[place][1]

    def __iter__(self) -> Iterator[str]:
        for place in range(self._count):
            name = self._log[place][0]
            if self._index_of(name) == place:
                yield name

    def __len__(self) -> int:
        return self._log[self._count - 1][2] if self._count else 0

    def __reduce__(self) -> tuple[Any, ...]:
        return PreviousOutputs.of, (dict(self),)

    def __repr__(self) -> str:
        return f"<Outputs of {', '.join(list(self)[:5])}{' ...' if len(self) > 5 else ''}>"
