"""A server for flood tests: `flood_program.py DESCRIPTORS LIMITS_AS_JSON`. It has one token."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncIterator

from desist import Step, StepInput, Workflow
from desist.exceptions import ConfigurationError
from desist.server import Limits, Token, create_app, serve

SECRET = "a-secret-of-some-length"


async def tell(_: StepInput) -> AsyncIterator[str]:
    yield "once "
    await asyncio.Event().wait()


async def pour(_: StepInput) -> AsyncIterator[str]:
    """Emit more than the socket buffers hold."""
    for _ in range(200):
        yield "x" * 65536
    await asyncio.Event().wait()


async def hog(_: StepInput) -> AsyncIterator[str]:
    """Open files until the limit is reached."""
    files = []
    try:
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        yield "full"
    await asyncio.Event().wait()


def main() -> None:
    descriptors = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    steps = {"Endless": tell, "Flood": pour, "Hog": hog}
    app = create_app(
        workflows=[Workflow(name, steps=[Step("one", executor=executor)]) for name, executor in steps.items()],
        tokens=[Token(secret=SECRET)],
        limits=Limits(**json.loads(sys.argv[2])),
    )
    try:
        sys.exit(serve(app, port=0, secured=True, drain=0.0))
    except ConfigurationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
