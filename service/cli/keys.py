"""Commands for API keys: make one, list them, revoke one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.api_keys import Scope
from service.cli.command import AsJson, DataDir, command, group, note, show_data

if TYPE_CHECKING:
    from service.api_keys import Keys


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    keys = group("keys", "Make, list and revoke API keys.")
    command(keys, "create", "groundswell keys create --brand acme --scope read")(create)
    command(keys, "list", "groundswell keys list")(list_keys)
    command(keys, "revoke", "groundswell keys revoke 5d41402abc4b")(revoke)
    app.add_typer(keys)


def create(
    brand: Annotated[str, typer.Option("--brand", metavar="B", help="The one brand it is for; '*' is every brand.")],
    scope: Annotated[Scope, typer.Option("--scope", help="What it may do; each has the ones before it.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, this once: only its hash is kept."""
    from projections.answers import iso
    from service.api_keys import EVERY_BRAND
    from service.instants import now_ms
    from service.requests import check_enrolment

    if brand != EVERY_BRAND:
        check_enrolment(brand, "any", "any")
    keys = _keys(data_dir)
    key, token = keys.create(brand, scope, iso(now_ms()))
    show_data({**key.shown(), "key": token}, as_json, lambda _: token)
    if not as_json:
        note(f"the key {key.id} of brand {brand} with scope {scope} is in {keys.path}, hashed; it is shown only now")


def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the API keys, without their secrets."""
    found = [key.shown() for key in _keys(data_dir).all().values()]
    show_data({"keys": found}, as_json, lambda _: _table(found))


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, its middle part; `keys list` has it.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an API key: from now on it is no good. Again, it says when it was."""
    from projections.answers import iso
    from service.instants import now_ms

    key = _keys(data_dir).revoke(key_id, iso(now_ms()))
    show_data(key.shown(), as_json, lambda _: f"the key {key.id} is revoked since {key.revoked_at}")


def _keys(data_dir: Path | None) -> Keys:
    """The keys of the stack that runs there, else those of the settings. Raises `Unusable` when there is no file."""
    from service.api_keys import Keys
    from service.problems import Unusable
    from service.settings import from_environment, running_stack

    settings = from_environment()
    stack = running_stack(data_dir or settings.data_dir) or {}
    path = stack.get("api_keys_file") or settings.api_keys_file
    if not path:
        raise Unusable("no file for API keys is named: set GROUNDSWELL_API_KEYS_FILE, for this command and for the API")
    return Keys(Path(path))


def _table(keys: list[dict[str, Any]]) -> Any:
    from service.render.tables import row, table

    made = table(("id", "brand", "scope", "created", "revoked"))
    for key in keys:
        row(made, [key[name] for name in ("id", "brand", "scope", "created_at", "revoked_at")])
    return made
