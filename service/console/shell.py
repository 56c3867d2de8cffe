"""The frame around every page: navigation, brand, theme, what went wrong, and looking again when something moved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import structlog
from markupsafe import Markup
from nicegui import app as nicegui_app
from nicegui import ui

from service.api import sessions
from service.api.access import KEY, UNTIL
from service.api_keys import EVERY_BRAND, NOBODYS, Key, Keys
from service.console.markup import Child, address, empty, join, link, tag
from service.failures import failure
from service.instants import now_ms
from service.problems import Refusal
from service.reads import Reads
from service.settings import Settings

T = TypeVar("T")
log: Final = logging.getLogger(__name__)
audit: Final = structlog.get_logger()
PAGES: Final = ("Community", "Campaign", "Ambassadors", "Member", "Audit")
OPERATORS: Final = "Audit"
"""The page of all brands together, on which what is broken is mended."""
STYLE: Final = Path(__file__).with_name("console.css").read_text(encoding="utf-8")
EVERY_SECONDS: Final = 1.0
"""How often a page asks whether anything moved."""
LONGEST_ID: Final = 200
MOST_AT_ONCE: Final = 16
"""Questions of one open page that are under way; no page has as many parts."""
THREADS: Final = ThreadPoolExecutor(4, "console")
"""What pages read waits for one of these, so that no page keeps what the API reads waiting."""

THEME: Final = """
(() => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  window.switchTheme = () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  };
})();
"""
MARK: Final = Markup(
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" '
    'aria-hidden="true"><path d="M2 9c3.3 0 3.3-3 6.7-3s3.3 3 6.6 3 3.4-3 6.7-3" opacity=".45"/>'
    '<path d="M2 14c3.3 0 3.3-3 6.7-3s3.3 3 6.6 3 3.4-3 6.7-3"/><path d="M2 19c3.3 0 3.3-3 6.7-3s3.3 3 6.6 3 '
    '3.4-3 6.7-3" opacity=".75"/></svg>'
)
MOON: Final = Markup(
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" aria-hidden="true">'
    '<circle cx="12" cy="12" r="8"/><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/></svg>'
)


def reads() -> Reads:
    """The reads of the process that serves the console."""
    found: Reads = nicegui_app.state.reads
    return found


def settings() -> Settings:
    """The settings of the process that serves the console."""
    found: Settings = nicegui_app.state.settings
    return found


def key() -> Key:
    """The key of whoever opened the page that is being laid out."""
    found: Key = NOBODYS if nicegui_app.state.keys is None else ui.context.client.request.scope[KEY]
    return found


def check(key: Key, until: int | None) -> None:
    """Raises `Refusal` once a key is revoked or its session over: an open page then shows and does nothing more."""
    keys: Keys | None = nicegui_app.state.keys
    if keys is not None and (now := keys.all().get(key.id)) != key:
        raise Refusal("invalid_key", f"The API key {key.id} was revoked{' or changed' if now else ''}: sign in again.")
    if until is not None and now_ms() >= until:
        raise Refusal("key_required", f"You have been signed in for {sessions.SECONDS // 3_600} hours: sign in again.")


def block(content: Markup | str = "") -> ui.html:
    """HTML of ours, every text in it escaped where it was made."""
    return ui.html(str(content), sanitize=False)


@contextmanager
def card(title: str, note: Child = None, cls: str = "") -> Iterator[None]:
    """A part of a page under a heading of its own."""
    section = ui.element("section").classes(f"card {cls}")
    section.props["aria-label"] = title
    with section:
        block(tag("div", tag("h2", title), tag("p", note) if note is not None else None, cls="card-head"))
        yield


@contextmanager
def grid() -> Iterator[None]:
    """Cards beside each other where there is room."""
    with ui.element("div").classes("grid"):
        yield


def alert(sentence: str) -> Markup:
    """What went wrong."""
    return tag("div", sentence, cls="banner", role="alert")


def choices(name: str, made: list[Markup]) -> Markup:
    """Links of which one is the current one, side by side."""
    return tag("div", *made, cls="choices", role="group", aria_label=name)


class Frame:
    """One open page of one person: its brand, and the places where the frame says something."""

    def __init__(self, title: str, brand: str, side: Markup | None = None) -> None:
        """Lays out the page's head; `side` stands at its end."""
        self.brand = brand
        self.paused = False
        self._under_way = 0
        self.key = key()
        self.until: int | None = ui.context.client.request.scope.get(UNTIL)
        self.problems: dict[str, str] = {}
        """What went wrong last, by what was tried."""
        self._banner = block()
        with ui.element("div").classes("page-head"):
            with ui.element("div"):
                block(tag("h1", title, id="content", tabindex="-1"))
                self._sub = block(tag("p", "\u00a0", cls="sub"))
            with ui.element("div").classes("side"):
                if side is not None:
                    block(side)
                self._live = block(self._live_button())
        self._live.on("click", self._pause, js_handler='e => { if (e.target.closest("button")) emit(); }')

    def say(self, sentence: Child) -> None:
        """The line under the title."""
        self._sub.content = str(tag("p", sentence, cls="sub"))

    def note(self, did: str, **facts: str | int) -> None:
        """A line in the log of what somebody did here, with their key."""
        audit.info("console", key=self.key.id, did=did, **facts)

    async def attempt(self, work: Callable[[], T], what: str = "page") -> T | None:
        """The result of blocking work, off the event loop; None when it failed, and the page then says why.

        It says so until the same thing, `what`, works again.
        """
        return await self.attempt_async(lambda: _apart(work), what)

    async def attempt_async(self, work: Callable[[], Awaitable[T]], what: str = "page") -> T | None:
        """The same for work that is asynchronous itself."""
        found, problem = await self.tried(work)
        if problem:
            self.problems[what] = problem
        else:
            self.problems.pop(what, None)
        self._banner.content = str(join(*(alert(one) for one in dict.fromkeys(self.problems.values()))))
        return found

    async def tried(self, work: Callable[[], Awaitable[T]]) -> tuple[T | None, str]:
        """The result of work, or None and why there is none, for who says that in a place of their own."""
        if self._under_way >= MOST_AT_ONCE:
            return None, "This page has asked for too much at once; wait a moment."
        self._under_way += 1
        try:
            check(self.key, self.until)
            return await work(), ""
        except Exception as error:
            return None, _words(error, self.key)
        finally:
            self._under_way -= 1

    def live(self, load: Callable[[], Awaitable[bool]]) -> None:
        """Load now, and again whenever something moved, until paused; a load that failed is tried again."""
        shown: tuple[int, int] | None = None

        async def look() -> None:
            nonlocal shown
            if self.paused:
                return
            now = await self.attempt(reads().reached)
            if now is not None and now != shown and await load():
                shown = now

        ui.timer(EVERY_SECONDS, look)

    def _pause(self) -> None:
        self.paused = not self.paused
        self._live.content = str(self._live_button())

    def _live_button(self) -> Markup:
        label = "Live updates"
        text = "Paused" if self.paused else "Live"
        pressed = "false" if self.paused else "true"
        return tag("button", tag("i", ""), text, cls="button live", aria_pressed=pressed, type="button", title=label)


async def _apart(work: Callable[[], T]) -> T:
    """The result of blocking work, off the event loop, in threads of the console's own."""
    return await asyncio.get_running_loop().run_in_executor(THREADS, work)


def _words(error: Exception, key: Key) -> str:
    """What a page says of an error. Where something is, and who we are there, is for operators alone."""
    known = failure(error)
    if known is None:
        log.error("the console failed", exc_info=error)
        return "Groundswell failed here; the log of the API has the details."
    if isinstance(error, Refusal) or key.is_operators:
        return known[1]
    log.warning("the console cannot answer: %s", known[1])
    return "Groundswell cannot answer now; the log of the API says why."


async def opened(page: str, brand: str, title: str | None = None) -> str | None:
    """Lay out head and navigation; the brand to show, or None when there is none to show, which the page then says.

    Whoever came with a brand's key is shown that brand alone, and nothing that the page does later is about another.
    """
    ui.page_title(f"{title or page} · Groundswell")
    ui.add_head_html(f"<style>{STYLE}</style><script>{THEME}</script>")
    own = key()
    try:
        brands = [one for one in await _apart(reads().brands) if own.sees(one)]
        problem = ""
    except Exception as error:
        if failure(error) is None:
            raise
        brands, problem = [], _words(error, own)
    first = own.brand if own.brand != EVERY_BRAND else next(iter(brands), "")
    wanted = brand[:LONGEST_ID] or first
    ui.add_body_html(str(_top(page, wanted if own.sees(wanted) else first, brands)))
    if wanted in brands and (page != OPERATORS or own.is_operators):
        return wanted
    block(tag("h1", page, id="content", tabindex="-1", cls="hidden-text"))
    if page == OPERATORS and not own.is_operators:
        hint = "It is about every brand, and mends what is broken: sign in with a key of "
        block(empty(f"{page} is for operators", join(hint, tag("code", "--brand '*' --scope admin"), ".")))
    elif problem:
        block(alert(problem))
        block(empty("The database does not answer", "Open this page again once it does."))
    elif not own.sees(wanted):
        block(empty(f"Your key is for {first} alone", join("Go on to ", link(page, first, brand=first), ".")))
    elif wanted:
        others = join("Those with a definition: ", join(*(join(link(page, one, brand=one), " ") for one in brands)))
        block(empty(f"There is no brand {wanted}", others if brands else "It has no definition yet."))
    else:
        hint = join("Define one with ", tag("code", "groundswell apply brand.yaml"), ", then open this page again.")
        block(empty("No brand is defined yet", hint))
    return None


def _top(page: str, brand: str, brands: list[str]) -> Markup:
    """Navigation and tools: plain HTML, so that they are there before any script has run."""
    pages = [
        tag("li", tag("a", name, href=address(name, brand=brand), aria_current="page" if name == page else None))
        for name in PAGES
        if name != OPERATORS or key().is_operators
    ]
    options = [tag("option", one, value=one, selected=one == brand) for one in brands]
    go = "location.search = '?brand=' + encodeURIComponent(this.value)"
    select = tag("select", *options, aria_label="Brand", onchange=go) if brands else None
    label = "Switch between light and dark"
    theme = tag(
        "button", MOON, cls="button icon", type="button", aria_label=label, title=label, onclick="switchTheme()"
    )
    return join(
        tag("a", "Skip to content", cls="skip", href="#content"),
        tag(
            "header",
            tag("a", MARK, "Groundswell", cls="mark", href=address("Community", brand=brand)),
            tag("nav", tag("ul", *pages), aria_label="Pages"),
            tag("div", tag("a", "API", href="../docs", cls="api"), select, theme, _sign_out(), cls="tools"),
            cls="top",
        ),
    )


def _sign_out() -> Markup | None:
    """A button that ends the session, where there is one."""
    if key() is NOBODYS:
        return None
    out = tag("button", "Sign out", cls="button", type="submit", name="out", value="1")
    return tag("form", out, method="post", action="login")
