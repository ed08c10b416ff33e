"""Security of the page: policy, files, tokens, text that looks like markup, the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("playwright", reason="playwright isn't installed: the page isn't tested")

from page_server import button, open_run, served, start
from page_workflows import endless
from playwright.sync_api import Page, expect

from desist import Step, Workflow
from desist.server import Token

ROOT = Path(__file__).parents[3]
FILES = ROOT / "src" / "desist" / "server" / "page" / "files"
BOSS, READER = "boss-secret-0123456789", "reader-secret-0123456789"
TOKENS = [Token(secret=BOSS, name="boss"), Token(secret=READER, name="reader", scopes=frozenset({"read"}))]


def test_files_and_their_policy() -> None:
    """Each file has its type, its ETag and the strict policy; nothing is inline, and no path leaves the folder."""
    with served(endless()) as url, httpx2.Client(base_url=url, trust_env=False) as client:
        names = [str(file.relative_to(FILES)) for file in FILES.rglob("*.*")]
        assert len(names) > 20
        for path in ("/", *(f"/page/{name}" for name in names)):
            answer = client.get(path)
            policy = answer.headers["content-security-policy"]
            assert answer.status_code == 200 and "unsafe" not in policy and "*" not in policy
            for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
                assert part in policy
            again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304 and not again.content
            assert client.head(path).status_code == 200
        for path in (
            "../__init__.py",
            "..%2f__init__.py",
            "%2e%2e/__init__.py",
            "files/index.html",
            "js",
            "",
            "/etc/passwd",
        ):
            assert client.get(f"/page/{path}").status_code in (404, 405), path
        assert client.post("/").status_code == 405


def test_nothing_inline_and_nothing_from_elsewhere() -> None:
    """The files contain no inline script or style, no event attribute, no other origin, no code that makes markup."""
    for file in FILES.rglob("*.*"):
        text = file.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "style=",
        ):
            assert word not in text, f"{file.name} has {word}"
        for found in (line for line in text.splitlines() if "://" in line):
            assert "http://www.w3.org/2000/svg" in found, f"{file.name}: {found}"


def test_text_of_a_run_is_no_markup(page: Page) -> None:
    """Markup in names, inputs, texts and reasons is shown as text."""
    evil = "<img src=x onerror=\"document.title='got in'\"><script>document.title='got in'</script>"
    flow = Workflow(f"W {evil}", id="evil", steps=[Step(f"S {evil}", executor=lambda given: evil)])
    with served(flow) as url:
        run_id = start(url, workflow="evil", input=evil, user_id="<b>ann</b>")
        open_run(page, url, run_id)
        expect(page.locator(".badge.large")).to_have_text("Completed")
        expect(page.locator(".text")).to_contain_text(evil)
        page.get_by_role("tab", name="Events").click()
        page.locator(".event").first.click()
        page.get_by_role("link", name="Runs").first.click()
        expect(page.locator(".run .asked")).to_contain_text("<img src=x")
        assert page.evaluate("document.querySelectorAll('main script, main img, main b').length") == 0
        assert "got in" not in page.title()


def test_tokens(page: Page, watch: Any) -> None:
    """If tokens are needed the page asks for one; the token is in no URL, and is forgotten with the tab."""
    watch.allowed = ["status of 401", "status of 403"]
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    with served(endless(), tokens=TOKENS) as url:
        page.goto(url)
        field = page.get_by_label("Token", exact=True)
        expect(field).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("main .problem")).to_have_text("Without a token this server shows nothing.")
        expect(page.get_by_role("dialog")).to_have_count(0)
        button(page, "Enter a token").click()
        field = page.get_by_label("Token", exact=True)
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").last).to_have_text("The server doesn't know this token.")
        page.get_by_label("Token", exact=True).fill(BOSS)
        page.keyboard.press("Enter")
        expect(page.get_by_text("Nothing has run here yet.")).to_be_visible()
        page.goto(f"{url}#/start")
        page.get_by_label("Input").fill("x")
        button(page, "Start").click()
        expect(page.locator(".text")).to_contain_text("once upon")
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        assert not [one for one in urls if BOSS in one]
        run = page.url
        button(page, "Settings").click()
        button(page, "Forget the token").click()
        page.get_by_label("Token", exact=True).fill(READER)
        page.keyboard.press("Enter")
        expect(page.locator(".text")).to_contain_text("once upon")
        button(page, "Stop").click()
        expect(page.locator("main .problem:not([hidden])")).to_have_text(
            "this request needs a token with the scope 'cancel'"
        )
        expect(page.locator(".badge.large")).to_have_text("Running")  # honestly
        assert page.url == run


def test_in_the_wheel(tmp_path: Path) -> None:
    """A wheel contains every file of the page."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("hatchling can't be had: no wheel can be built")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in FILES.rglob("*.*"):
        assert f"desist/server/page/files/{file.relative_to(FILES)}" in names
