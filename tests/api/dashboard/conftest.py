"""A platform to look at, a plain client that is logged in, and a real browser."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from dashboard_visit import Visit
from dashboard_yard import Yard, running_yard
from playwright.sync_api import Browser, sync_playwright

BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MILLISECONDS = 15_000


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """One platform for all tests of the dashboard; each test makes things of its own in it."""
    with running_yard(tmp_path_factory.mktemp("yard")) as yard:
        yield yard


@pytest.fixture
def log_in(yard: Yard) -> Iterator[Callable[[str], httpx2.Client]]:
    """Make a client logged in with a key that has the scopes up to the named one."""
    clients = []

    def make(scope: str) -> httpx2.Client:
        client = httpx2.Client(base_url=yard.url, headers={"Origin": yard.url}, trust_env=False)
        clients.append(client)
        assert client.post("/login", data={"key": yard.keys[scope]}).headers["location"] == "/"
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window. Playwright keeps an event loop running, so it must not outlive these tests."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium here; install it with: apt-get update && apt-get install -y chromium")
    with sync_playwright() as playwright:
        # Its profile and crash reports go where temporary files go, not into the home folder.
        environment = {**os.environ, "HOME": str(Path(os.environ.get("TMPDIR", "/tmp")))}
        browser = playwright.chromium.launch(executable_path=executable, args=BROWSER_ARGUMENTS, env=environment)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, yard: Yard, log_in: Callable[[str], httpx2.Client]) -> Iterator[Visit]:
    """A visitor with a key that may write. At the end nothing may have gone wrong unseen, and nothing left this host."""
    context = browser.new_context(base_url=yard.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    context.add_cookies([{"name": name, "value": value, "url": yard.url} for name, value in log_in("write").cookies.items()])
    visit = Visit(context.new_page())
    visit.watch()
    yield visit
    context.close()
    assert visit.complaints == []
    assert visit.hosts == {urlsplit(yard.url).netloc}
