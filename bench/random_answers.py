"""Random answers and arguments for `fuzz_answers`, from a seeded generator: some twenty times as fast as Hypothesis."""

from __future__ import annotations

from random import Random
from typing import Any

__all__ = ["arguments", "broken_text", "surrounded_answer"]

#: What JSON texts and their readers could trip over, and ordinary letters.
_LETTERS = [
    *"abcxyz 019",
    *"\"\\/{}[]:,`~<>'",
    "\n",
    "\t",
    "\x00",
    "\x7f",
    "\u00e9",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "null",
]
_NUMBERS = (0, -1, 7, 2**31, 2**63, -(10**20), 0.5, -1e-7, 1e300, 3.0)
_WORDS = "abcdefgh .,:!?\n'()*#-"  # hold no value and no mark of one
_MARKS = [*'{}[]":,\\<1a\n\ufeff', "```", "~~~", "json", "<think>", "</think>", "null", "true", '{"a": 1}', '"\\u00']
_FENCES = ("{}", "```json\n{}\n```", "```JSON\n{}\n```", "```\n{}\n```", "~~~json\n{}\n~~~", "```{}```")
_TAGS = ("think", "THINK", "thinking", "reasoning")


def _text(random: Random, most: int = 9) -> str:
    return "".join(random.choices(_LETTERS, k=random.randrange(most)))


def _json(random: Random, depth: int = 3) -> Any:
    kind = random.randrange(8 if depth else 5)
    if kind == 0:
        return random.choice((None, True, False))
    if kind == 1:
        return random.choice(_NUMBERS)
    if kind < 5:
        return _text(random)
    if kind == 5:
        return [_json(random, depth - 1) for _ in range(random.randrange(5))]
    return _object(random, depth)


def _object(random: Random, depth: int = 3) -> dict[str, Any]:
    keys = ("result", "a", "name", "")
    return {random.choice(keys) or _text(random): _json(random, depth - 1) for _ in range(random.randrange(5))}


def surrounded_answer(random: Random) -> tuple[Any, ...]:
    """Return a case of `check_answer`: an object or a list, and what stands around it."""
    value = _object(random) if random.random() < 0.6 else [_json(random, 2) for _ in range(random.randrange(5))]
    before = []
    for _ in range(random.randrange(4)):
        words = "".join(random.choices(_WORDS, k=random.randrange(30)))
        if random.random() < 0.4:
            tag = random.choice(_TAGS)
            words = f"<{tag}>{random.choice((words, '{' + chr(34) + 'a' + chr(34) + ': 1}'))}</{tag}>"
        before.append(words)
    after = "".join(random.choices(_WORDS, k=random.randrange(30)))
    begin = random.choice(("", "", "\ufeff", "\ufeff\n"))
    return value, begin, " ".join(before), random.choice(_FENCES), after, random.random() < 0.5


def _inner(random: Random) -> dict[str, Any]:
    return {"name": _text(random), "tags": [_text(random, 5) for _ in range(random.randrange(4))]}


def arguments(random: Random) -> tuple[dict[str, Any], list[int]]:
    """Return a case of `check_arguments`: valid arguments, and how often each object and array is encoded."""
    made: dict[str, Any] = {
        "text": _text(random),
        "inner": _inner(random),
        "more": [_inner(random) for _ in range(random.randrange(3))],
    }
    if random.random() < 0.5:
        made["free"] = _object(random)
    return made, [random.randrange(3) for _ in range(5)]


def broken_text(random: Random) -> str:
    """Return a case of `check_text`: any text."""
    kind = random.randrange(3)
    if kind == 0:
        return "".join(chr(random.randrange(1, 0xD800)) for _ in range(random.randrange(60)))
    if kind == 1:
        return "".join(random.choices(_MARKS, k=random.randrange(60)))
    value, begin, before, fence, after, _ = surrounded_answer(random)
    text = list(begin + before + fence.replace("{}", repr(value).replace("'", '"')) + after)
    for _ in range(random.randrange(6)):
        if text:
            text[random.randrange(len(text))] = random.choice(("", *_MARKS))
    return "".join(text)
