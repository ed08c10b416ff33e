"""Which model an example talks to. Not an example itself.

python examples/NAME.py                     # a script: offline, and the same every time
python examples/NAME.py --local             # a small model on this machine (`desist model install`)
python examples/NAME.py --model gpt-5-mini  # a model behind OPENAI_API_KEY; OPENAI_BASE_URL names another server
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from desist.models.base import Model
from desist.testing import ScriptedModel

__all__ = ["chosen_model"]

#: Seconds between two words of a script, so that there is something to see, and to stop.
PACE = 0.02


def chosen_model(description: str | None) -> Callable[[str | Sequence[Any]], Model]:
    """Read the command line; return a function of a script that gives a model: the script itself, or a real one."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", help="the provider's name of a model; needs OPENAI_API_KEY")
    options.add_argument("--local", action="store_true", help="use the local model: no key, no network")
    given = options.parse_args()

    def model(script: str | Sequence[Any]) -> Model:
        if given.local:
            from desist.models.local import LocalChat

            return LocalChat(max_tokens=80)
        if given.model:
            from desist import OpenAIChat

            return OpenAIChat(id=given.model)
        return ScriptedModel(script, delay=PACE, repeat=True)

    return model
