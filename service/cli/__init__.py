"""The `groundswell` command: all commands together, and the one place where an error becomes a line and a code."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer

from service import logs
from service.cli import archive, commands, dead_letters, input, keys, reads, replay, reports, roles, schemas
from service.cli.command import note
from service.failures import failure
from service.problems import COULD_NOT_RUN, REFUSED

app = typer.Typer(
    name="groundswell",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for part in (
    roles,
    schemas,
    input,
    commands,
    keys,
    reads,
    reports,
    replay,
    dead_letters,
    archive,
):
    part.register(app)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"groundswell {version('groundswell')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Event-sourced loyalty points, campaign standings and engagement by influence tier, on Kafka."""


def main() -> None:
    """Run the command that the arguments name; exits with 0, 1 or 2, never with a traceback."""
    logs.for_a_command()
    if os.getpid() == 1:  # in a container nothing ends the first process that does not ask for it
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(app(prog_name="groundswell", standalone_mode=False))
    except BrokenPipeError:  # `groundswell … | head`: nobody reads on
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.exit(0)
    except typer.Abort:
        note("groundswell: nothing was done")
        sys.exit(REFUSED)
    except (Exception, KeyboardInterrupt) as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            note(str(error))
            sys.exit(COULD_NOT_RUN)
        if os.environ.get("GROUNDSWELL_DEBUG"):
            raise
        code, line = _met(error)
        note(f"groundswell: {' '.join(line.split())}")
        sys.exit(code)


_USAGE: Final = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")
"""Click's error of a command line, which Typer brings along under no name of its own."""


def _met(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line of what ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return COULD_NOT_RUN, "interrupted"
    if isinstance(error, _USAGE):
        return COULD_NOT_RUN, _wrong(error)
    defect = f"this is a defect of Groundswell: {type(error).__name__}: {error} (GROUNDSWELL_DEBUG=1 shows where)"
    return failure(error) or (COULD_NOT_RUN, defect)


def _wrong(error: Any) -> str:
    """What is wrong with a command line, and where it is described."""
    wrong: str = error.format_message().replace("Value error, ", "").rstrip(".")
    return wrong if error.ctx is None else f"{wrong}; see `{error.ctx.command_path} --help`"
