"""A browser page, and everything about it that a user would never see."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Dialog, Page, Request

POLL_MILLISECONDS = 2100
"""A little more than the time between two looks of a page."""


@dataclass
class Visit:
    """A visitor with a key that may write."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    """Console errors and warnings, uncaught exceptions, dialogs."""
    paths: list[str] = field(default_factory=list)
    """Path of every request, in order."""

    def watch(self) -> None:
        """Note everything from now on."""
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._note_dialog)

    def open_with_clock(self, path: str) -> None:
        """Open a page whose clock `look_again` can move, so that nobody waits for its next look."""
        self.page.clock.install()
        self.page.goto(path)

    def look_again(self) -> None:
        """Let the page live until its next look."""
        self.page.clock.run_for(POLL_MILLISECONDS)

    def _note_request(self, request: Request) -> None:
        place = urlsplit(request.url)
        self.hosts.add(place.netloc)
        self.paths.append(place.path)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _note_dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()
