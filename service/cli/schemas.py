"""`groundswell schemas`: the record types that may be published, for people and for tools."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.command import AsJson, DataDir, command, group, refused, say, show_data
from service.problems import Unusable

TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="Record type, such as Interaction.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    schemas = group("schemas", "The Avro schemas of every record type.")
    command(schemas, "list", "groundswell schemas list --json")(schemas_list)
    command(schemas, "show", "groundswell schemas show Purchase")(schemas_show)
    command(schemas, "check", "groundswell schemas check")(schemas_check)
    command(schemas, "register", "groundswell schemas register")(schemas_register)
    app.add_typer(schemas)


def schemas_list(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List every record type with its version, fingerprint and topics."""
    from schemas.catalogue import catalogue
    from service.render import answers

    entries: list[dict[str, Any]] = [
        {
            "record_type": entry.record_type,
            "version": entry.version,
            "fingerprint": entry.fingerprint,
            "topics": list(entry.topics),
            "internal": entry.trusted,
            "fields": entry.fields,
            "doc": entry.doc,
        }
        for entry in catalogue()
    ]
    show_data({"schemas": entries}, as_json, answers.schemas)


def schemas_show(record_type: TypeName, data_dir: DataDir = None) -> None:
    """Print the Avro schema of one record type, as JSON."""
    import json
    from difflib import get_close_matches

    from schemas.catalogue import current

    found = {name.lower(): schema for name, schema in current().items()}
    schema = found.get(record_type.lower())
    if schema is None:
        near = get_close_matches(record_type, list(current()), n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else "; `groundswell schemas list` names them"
        raise Unusable(f"there is no record type `{record_type}`{meant}")
    say(json.dumps(schema, indent=2, ensure_ascii=False))


def schemas_check(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Check that every current schema is FULL_TRANSITIVE compatible with every released one."""
    from schemas.compatibility import check

    wrong = check()
    show_data(
        {"problems": wrong}, as_json, lambda _: "\n".join(wrong) or "every schema is compatible with all released"
    )
    refused(bool(wrong))


def schemas_register(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Register every version of every schema with the registry at GROUNDSWELL_SCHEMA_REGISTRY (http://HOST:8081).

    Each under <topic>-groundswell.<type>, with FULL_TRANSITIVE compatibility; again, it changes nothing. For tools that
    look schemas up there: the records themselves need no registry.
    """
    from service import schema_registry
    from service.render import answers
    from service.settings import from_environment

    address = from_environment().schema_registry
    if not address:
        raise Unusable("GROUNDSWELL_SCHEMA_REGISTRY is not set: give the address of a schema registry")
    registered = [one._asdict() for one in schema_registry.register(address)]
    show_data({"registered": registered}, as_json, answers.registered)
    refused(any(one["problem"] for one in registered))
