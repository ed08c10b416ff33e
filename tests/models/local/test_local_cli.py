"""`desist model`, as a program of its own."""

import signal
import subprocess
import sys

import psutil
import pytest

pytestmark = pytest.mark.local

PROGRAM = [sys.executable, "-c", "from desist.cli import main; main()", "model"]


def test_serve_until_ctrl_c() -> None:
    """`serve` prints the two export lines, the SDK can use them, Ctrl-C ends it with 130 and without a traceback."""
    import openai

    with subprocess.Popen(
        [*PROGRAM, "serve", "--api-key", "a-key-of-mine"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        exports = dict(_export(program.stdout) for _ in range(2))
        assert exports["OPENAI_API_KEY"] == "a-key-of-mine"
        children = psutil.Process(program.pid).children()
        with openai.OpenAI(base_url=exports["OPENAI_BASE_URL"], api_key="a-key-of-mine", max_retries=0) as client:
            answer = client.chat.completions.create(
                model="any", max_tokens=5, messages=[{"role": "user", "content": "Say hello."}]
            )
        assert answer.choices[0].message.content
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 130
        assert "Traceback" not in program.stderr.read()
        assert children and not any(child.is_running() for child in children)


def _export(lines: object) -> tuple[str, str]:
    for line in lines:  # type: ignore[attr-defined]
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            return name, value
    raise AssertionError("the program ended without an export line")


def test_status_tells_where_and_whether() -> None:
    """`status` names versions, the file and that its hash was checked."""
    done = subprocess.run([*PROGRAM, "status"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "xllamacpp: 2026.10.11549" in done.stdout
    assert "sha256: checked" in done.stdout
