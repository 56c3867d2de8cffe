"""What every command shares: its options, and how it prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from projections.rates import Window
from service.problems import REFUSED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task

    from service.reads import Reads
    from service.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="GROUNDSWELL_DATA_DIR",
        help="Directory of the embedded stack to work on; without a running one there, the settings say where.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of tables: the HTTP body, unchanged, where there is a route."),
]


def some(value: str | None) -> str | None:
    """Of an argument or option that names something: the value. Raises `typer.BadParameter` for an empty one."""
    if value == "":
        raise typer.BadParameter("it is empty, so it names nothing")
    return value


Brand = Annotated[str, typer.Argument(metavar="BRAND", callback=some, help="Brand id.")]
Member = Annotated[str, typer.Argument(metavar="MEMBER", callback=some, help="Member id, an opaque pseudonym.")]
Campaign = Annotated[str, typer.Argument(metavar="CAMPAIGN", callback=some, help="Campaign id.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="T", help="Effective time, such as 2026-03-15T12:00:00Z, with zone; default: now."),
]
KnownAt = Annotated[
    str | None,
    typer.Option("--known-at", metavar="T", help="Only what had been recorded by T, such as 2026-03-15T12:00:00Z."),
]
NoKnownAt = Annotated[
    str | None,
    typer.Option(
        "--known-at", metavar="T", help="Refused: engagement keeps no recorded time; `replay known-at` answers that."
    ),
]
MinPosition = Annotated[
    str | None,
    typer.Option(
        "--min-position",
        metavar="P",
        help="Wait for an answer's `position`, such as 471, or a record's, such as 2:150.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Rows at most.")]
WindowOf = Annotated[Window, typer.Option("--window", help="Length of the window that ends at --as-of.")]
CampaignOf = Annotated[
    str | None,
    typer.Option("--campaign", metavar="C", callback=some, help="Only what counts for this campaign, by id."),
]
PlatformOf = Annotated[
    str | None, typer.Option("--platform", metavar="P", callback=some, help="Only this platform, such as x.")
]
Cursor = Annotated[
    str | None, typer.Option("--cursor", metavar="C", help="Go on where a page ended: its `next_cursor`.")
]


class Printable(Protocol):
    """An answer that has an HTTP body."""

    def model_dump_json(self, *, by_alias: bool | None = None) -> str:
        """The HTTP body."""


def group(name: str, about: str) -> typer.Typer:
    """A group of commands, such as `topics`."""
    return typer.Typer(name=name, help=about, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def command(app: typer.Typer, name: str, example: str) -> Callable[[F], F]:
    """Register a command under `name`; its `--help` ends with `example`."""
    return app.command(name, epilog=f"Example: {example}")


def settings_of(data_dir: Path | None) -> Settings:
    """The settings the command works with. Raises `Unusable` when nothing runs there and nothing is configured."""
    from service.settings import load

    return load(data_dir)


@contextmanager
def open_reads(data_dir: Path | None) -> Iterator[Reads]:
    """The reads of the stack or the settings. Raises `Unusable` as `settings_of` does."""
    from service.reads import Reads

    reads = Reads(settings_of(data_dir))
    try:
        yield reads
    finally:
        reads.close()


def console(*, stderr: bool = False) -> Console:
    """The terminal, or 120 plain columns into a pipe or file."""
    from service.render.terminal import Terminal

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 120
    return Terminal(file=stream, width=width, highlight=False, soft_wrap=False)


def say(line: str) -> None:
    """One line of result on standard output, as it is."""
    typer.echo(line)


def note(line: str) -> None:
    """One line for a person on standard error."""
    typer.echo(line, err=True)


def show(body: Printable, as_json: bool, render: Callable[[Any], Any]) -> None:
    """Print an answer: its HTTP body, or what `render` makes of it for a person."""
    if as_json:
        typer.echo(body.model_dump_json(by_alias=True))
    else:
        console().print(render(body))


def show_data(data: Any, as_json: bool, render: Callable[[Any], Any]) -> None:
    """Like `show`, for plain data that has no HTTP route."""
    import json

    if as_json:
        typer.echo(json.dumps(data, ensure_ascii=False))
    else:
        console().print(render(data))


def refused(condition: bool) -> None:
    """End with exit code 1 when something was refused or differs."""
    if condition:
        raise typer.Exit(REFUSED)


class Told(Protocol):
    """Takes how many are done, and of how many once that is known."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show it."""


@contextmanager
def progress(what: str, total: int | None = None, rate: str = "") -> Iterator[Told]:
    """A progress bar on standard error when that is a terminal; yields a function that takes how many are done.

    `rate`: a unit, such as `events/s`, has it show how fast it goes and how long it will take.
    """
    if not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} {rate}")

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [Rate(), TimeRemainingColumn()] if rate else [TimeElapsedColumn()]
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says how it is going, when that is a terminal; yields what sets its text."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    with console(stderr=True).status(what) as line:
        yield lambda text: line.update(f"{what}: {text}")
