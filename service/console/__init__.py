"""The web console: pages on NiceGUI, which read what the API reads, served by the same process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from nicegui import app as nicegui_app
from nicegui import core, ui

from service.api.access import CONSOLE
from service.console import ambassadors, audit, campaign, community, login, member
from service.console.shell import MARK

AT = CONSOLE
"""Under this path are the pages and all that they load."""
FIRST = f"{AT}/community"
PAGES: Final[Mapping[str, Callable[..., Awaitable[None]]]] = {
    "/community": community.page,
    "/campaign": campaign.page,
    "/ambassadors": ambassadors.page,
    "/member": member.page,
    "/audit": audit.page,
}
"""Below `AT`."""
PATIENCE_SECONDS: Final = 20.0
"""How long a page may take until there is something to see: longer than a database that is away keeps it waiting."""
ICON = (
    str(MARK)
    .replace('stroke="currentColor"', 'stroke="#0a8a92"')
    .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
)


def install(app: FastAPI) -> None:
    """Serve the console from the application of the API, once in a process: NiceGUI has one application."""
    nicegui_app.state.reads = app.state.reads
    nicegui_app.state.settings = app.state.settings
    nicegui_app.state.keys = app.state.keys
    for path, page in PAGES.items():
        ui.page(path, response_timeout=PATIENCE_SECONDS)(page)
    core.sio.on("log", _unheard)
    app.state.home = FIRST
    app.include_router(login.routes)
    app.add_api_route(AT, _first, include_in_schema=False)
    app.add_api_route(f"{AT}/", _first, include_in_schema=False)
    ui.run_with(
        app,
        mount_path=AT,
        title="Groundswell",
        favicon=ICON,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10,
    )


async def _unheard(_socket: str, _said: object) -> None:
    """What a browser would have logged here: anybody who is signed in could write lines that look like ours."""


async def _first() -> RedirectResponse:
    return RedirectResponse(FIRST)
