"""Commands on the archive of the activity log: copying into it, and checking it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.command import AsJson, DataDir, command, group, progress, refused, show_data

if TYPE_CHECKING:
    from streams.archive.check import Checked

Directory = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="The archive; default: `archive` in the data directory.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    archive = group("archive", "Keep a copy of the activity log beyond the broker's retention.")
    command(archive, "create", "groundswell archive create /backup/activity")(create)
    command(archive, "verify", "groundswell archive verify /backup/activity")(verify)
    app.add_typer(archive)


def create(directory: Directory = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Copy what the activity log has and the archive has not; goes on where an interrupted one stopped."""
    import asyncio

    from service.cli.command import settings_of
    from service.replay import archiving

    settings = settings_of(data_dir)
    where = archiving.directory_of(settings, directory)
    with progress("archiving") as done:
        made = asyncio.run(archiving.create(settings, where, done))
    body = {
        "directory": str(made.directory),
        "increments": made.increments,
        "records": made.records,
        "manifests": made.manifests,
        "head": made.head,
        "ends": {str(partition): end for partition, end in made.ends.items()},
    }
    what = f"archived {made.records:,} records" if made.records else "nothing new"
    lines = f"{what}: {made.directory} has {sum(made.ends.values()):,} offsets in {made.manifests} increments"
    show_data(body, as_json, lambda _: f"{lines}\nlatest manifest {made.head or '–'}")


def verify(
    directory: Directory = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="SHA256", help="A latest manifest that was noted before: it must be in there."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte again: ends with 1, and names file, partition and offset, where it is not what was written."""
    from service.problems import Unusable
    from service.settings import from_environment
    from streams.archive import check

    where = directory or (data_dir or from_environment().data_dir) / "archive"
    if not where.is_dir():
        raise Unusable(f"there is no directory {where}: `groundswell archive create {where}` makes an archive")
    with progress("checking") as done:
        checked = check.verify(where, done)
    if head is not None and head not in checked.hashes:
        says = f"no manifest has the hash {head}: the chain was rewritten, or it is another archive"
        checked.problems.append(check.Problem(str(where), None, None, says))
    show_data(_body(where, checked), as_json, lambda _: _said(where, checked))
    refused(bool(checked.problems))


def _body(where: Path, checked: Checked) -> dict[str, Any]:
    return {
        "directory": str(where),
        "manifests": checked.manifests,
        "files": checked.files,
        "records": checked.records,
        "journaled": checked.journaled,
        "head": checked.head,
        "problems": [
            {"file": p.file, "partition": p.partition, "offset": p.offset, "says": p.says} for p in checked.problems
        ],
    }


def _said(where: Path, checked: Checked) -> str:
    has = f"{checked.records:,} records in {checked.files} files and {checked.manifests} manifests"
    if checked.journaled:
        has += f", {checked.journaled:,} in the journal"
    if checked.problems:
        return "\n".join([*(p.says for p in checked.problems), f"{where} is damaged: {len(checked.problems)} problems"])
    return f"{where} is as it was written: {has}\nlatest manifest {checked.head or '–'}"
