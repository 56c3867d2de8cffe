"""The documentation says what is so: its commands run, its numbers come out, its tables are those of the code.

`python tests/test_docs.py` writes the generated tables of the pages anew.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))
running: Any = importlib.import_module("running")
sys.path.insert(0, str(ROOT / "tests" / "aggregates"))
sys.path.insert(0, str(ROOT / "tests" / "service"))
breaking: Any = importlib.import_module("openapi_changes").breaking

from aggregates.refusals import Refusal  # noqa: E402
from projections.books import CHART  # noqa: E402
from schemas.field_tables import reason_table, topic_table  # noqa: E402
from service import cli  # noqa: E402
from service.api import metrics  # noqa: E402
from service.api.access import NEEDS, Whose  # noqa: E402
from service.api.application import create_app  # noqa: E402
from service.migrate import migrate  # noqa: E402
from service.problems import PROBLEMS, REFUSAL  # noqa: E402
from service.roles.projector_metrics import METRICS as PROJECTOR_METRICS  # noqa: E402
from service.settings import Settings  # noqa: E402
from streams.metrics import METRICS  # noqa: E402

EXECUTED = ("README.md", "docs/quickstart.md", "docs/audit.md")
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md"))
)
BLOCK = re.compile(
    r"(?:<!-- file: (?P<named>\S+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
FILE_COMMENT = re.compile(r"# (\S+\.\w+)\n")
RULES = re.compile(r"[\s─━]*")
EXIT_CODE = re.compile(r"\s+# exit code (\d)$")
DEMO_SECONDS = 400


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


# What is executed


class Step(NamedTuple):
    """A command of a page, the exit code it must have, and the lines of output that the page quotes."""

    line: str
    code: int
    quoted: list[str]


def files_of(page: str) -> Iterator[tuple[str, str]]:
    """Name and content of each block that is a file: named by its first comment line, or by a comment before it."""
    for block in BLOCK.finditer(text_of(page)):
        comment = FILE_COMMENT.match(block["text"])
        if block["named"] or comment:
            yield block["named"] or comment[1], block["text"]  # type: ignore[index]


def steps_of(page: str) -> Iterator[Step]:
    """Every `$ …` line of the page's console and bash blocks."""
    for block in BLOCK.finditer(text_of(page)):
        if block["kind"] not in {"console", "bash"}:
            continue
        step = None
        for line in block["text"].splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                code = EXIT_CODE.search(line)
                step = Step(EXIT_CODE.sub("", line)[2:], int(code[1]) if code else 0, [])
            elif step is not None:
                step.quoted.append(line)
        if step is not None:
            yield step


def arguments_of(line: str) -> list[str] | None:
    """What follows `groundswell` in a command; None for a command that is not ours."""
    words = shlex.split(line)
    if words[:2] == ["make", "demo"] and len(words) == 3:
        return ["demo", *words[2].removeprefix("ARGS=").split()]
    return words[1:] if words[0] in {"groundswell", ".venv/bin/groundswell"} else None


def plain(text: str) -> list[str]:
    """The lines that have something in them, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines() if not RULES.fullmatch(line)]


def check_quoted(step: Step, output: str) -> None:
    """Every quoted line is in the output, in this order; `…` stands for anything."""
    lines = iter(plain(output))
    for quoted in plain("\n".join(step.quoted)):
        pattern = re.compile(".*".join(re.escape(part) for part in quoted.split("…")))
        if not any(pattern.fullmatch(line) for line in lines):
            pytest.fail(f"`{step.line}` does not say (or not in this order): {quoted}\n{output}")


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run from any directory, and as wide as into a file."""
    monkeypatch.setitem(running.ENVIRONMENT, "PYTHONPATH", str(ROOT))
    monkeypatch.setitem(running.ENVIRONMENT, "COLUMNS", "120")


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("page", EXECUTED)
def test_the_commands_of_the_page_do_what_the_page_says(page, tmp_path):
    for name, content in files_of(page):
        (tmp_path / name).write_text(content, encoding="utf-8")
    steps = [(step, arguments) for step in steps_of(page) if (arguments := arguments_of(step.line))]
    commands = [arguments[0] for _, arguments in steps]
    assert "up" in commands
    steps = [(step, arguments) for step, arguments in steps if arguments[0] not in {"up", "demo"}]
    assert steps
    with running.stack(tmp_path / ".groundswell"):
        for step, arguments in steps:
            done = running.command(*arguments, cwd=tmp_path)
            said = done.stderr + done.stdout
            assert done.returncode == step.code, f"`{step.line}` ended with {done.returncode}\n{said}"
            check_quoted(step, said)


@pytest.mark.usefixtures("anywhere")
def test_the_demo_prints_what_the_readme_shows(tmp_path):
    (step,) = [step for step in steps_of("README.md") if step.line == "make demo ARGS=--exit"]
    arguments = arguments_of(step.line)
    done = subprocess.run(
        [*running.COMMAND, *(arguments or ())], capture_output=True, text=True, timeout=DEMO_SECONDS, cwd=tmp_path,
        env=running.ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == step.code, done.stdout + done.stderr
    assert len(step.quoted) > 20
    check_quoted(step, done.stdout)


# What is generated


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def settings_table() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = "–" if default is None or not str(default).strip("*") else f"`{default}`"
        rows.append((f"`GROUNDSWELL_{name.upper()}`", shown, field.description or ""))
    return markdown(("variable", "default", "meaning"), rows)


def problem_table() -> str:
    rows = [(f"`{code}`", str(kind.status), str(kind.exit_code), kind.title) for code, kind in PROBLEMS.items()]
    last = ("a code of the ledger, below", str(REFUSAL.status), str(REFUSAL.exit_code), REFUSAL.title)
    return markdown(("code", "HTTP status", "exit code", "meaning"), [*rows, last])


def refusal_table() -> str:
    return markdown(("code", "meaning"), [(f"`{refusal.value}`", refusal.sentence) for refusal in Refusal])


def commands_of(app: Any) -> dict[str, str]:
    """Every command, those of groups as `group command`, with the sentence of its help."""
    found = {command.name: (command.callback.__doc__ or "").splitlines()[0] for command in app.registered_commands}
    for group in app.registered_groups:
        inner = group.typer_instance
        found |= {f"{inner.info.name} {name}": sentence for name, sentence in commands_of(inner).items()}
    return found


def scope_table() -> str:
    routes: dict[str, list[str]] = {}
    for name, need in NEEDS.items():
        of = " of an operator" if need and need.whose is Whose.OPERATOR else ""
        routes.setdefault("no key" if need is None else f"`{need.scope}`{of}", []).append(f"`{name}`")
    return markdown(("needs", "routes"), [(needs, ", ".join(names)) for needs, names in routes.items()])


def command_table() -> str:
    return markdown(
        ("command", "does"), [(f"`groundswell {name}`", does) for name, does in commands_of(cli.app).items()]
    )


def metric_table(metrics: object) -> str:
    rows = []
    for metric in vars(metrics).values():
        labels = f"{{{','.join(metric._labelnames)}}}" if metric._labelnames else ""
        name = metric._name + ("_total" if metric._type == "counter" else "")
        rows.append((f"`{name}{labels}`", metric._documentation))
    return markdown(("metric", "meaning"), rows)


def account_table() -> str:
    return markdown(("account", "holds"), [(f"`{account}`", holds) for account, holds in CHART.items()])


TABLES = {
    "accounts": account_table,
    "worker_metrics": lambda: metric_table(METRICS),
    "projector_metrics": lambda: metric_table(PROJECTOR_METRICS),
    "settings": settings_table,
    "problems": problem_table,
    "scopes": scope_table,
    "refusals": refusal_table,
    "reasons": reason_table,
    "topics": topic_table,
    "commands": command_table,
}
GENERATED = {
    "docs/architecture.md": {"topics"},
    "docs/api.md": {"problems", "refusals", "scopes"},
    "docs/books.md": {"accounts"},
    "docs/operations.md": {"settings", "reasons", "commands", "worker_metrics", "projector_metrics"},
}
SECTION = re.compile(r"(<!-- generated: (?P<what>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def written_anew(page: str) -> str:
    return SECTION.sub(lambda found: f"{found[1]}{TABLES[found['what']]()}{found[3]}", text_of(page))


@pytest.mark.parametrize("page", GENERATED)
def test_the_generated_tables_of_the_page_are_up_to_date(page):
    assert {found["what"] for found in SECTION.finditer(text_of(page))} == GENERATED[page]
    assert written_anew(page) == text_of(page), "write them anew: python tests/test_docs.py"


OPENAPI = "docs/openapi.json"


def openapi() -> str:
    """The API's description, as programs read it."""
    app = create_app(Settings(kafka="127.0.0.1:1", database="sqlite:///nowhere.db", secret="s"))
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def broken_by(new: str) -> list[str]:
    """What of a new description breaks programs that go by the one that is there. Another version of the API may."""
    before, after = json.loads(text_of(OPENAPI)), json.loads(new)
    return [] if before["info"]["version"] != after["info"]["version"] else breaking(before, after)


def test_the_apis_description_is_up_to_date_and_breaks_nobody():
    assert not broken_by(openapi()), "an incompatible change needs a new version of the API (service/api/)"
    assert openapi() == text_of(OPENAPI), "write it anew: python tests/test_docs.py"


# What is named


def test_documents_name_only_commands_that_exist():
    commands = set(commands_of(cli.app))
    groups = {command.split()[0] for command in commands if " " in command}
    assert {"up", "replay verify"} <= commands
    wrong = []
    for page in PAGES:
        if page == "docs/roadmap.md":
            continue
        for first, second in re.findall(r"(?:`|\$ |/)groundswell ([a-z]+)(?: ([a-z|-]+))?", text_of(page)):
            named = [f"{first} {one}" for one in second.split("|")] if first in groups else [first]
            wrong += [f"{page}: groundswell {name}" for name in named if name not in commands]
    assert not wrong


def test_the_api_page_has_every_route_and_no_other():
    app = create_app(Settings(kafka="127.0.0.1:1", database="sqlite:///nowhere.db", secret="s"))
    routes = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods} | {
        "GET /metrics"
    }
    named = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) [^`?]+)", text_of("docs/api.md"), re.MULTILINE))
    assert named == routes


def test_the_architecture_page_names_every_table_of_the_database(tmp_path):
    migrate(f"sqlite:///{tmp_path / 'empty.db'}")
    connection = sqlite3.connect(tmp_path / "empty.db")
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    unnamed = [name for name in names if f"`{name}`" not in text_of("docs/architecture.md")]
    assert not unnamed


def test_the_operations_page_names_every_metric_that_is_served():
    served = {value._name for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)}
    assert served
    unnamed = [name for name in served if f"`{name}" not in text_of("docs/operations.md")]
    assert not unnamed


def test_links_in_documents_lead_somewhere():
    missing = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)", BLOCK.sub("", text_of(page))):
            if "://" not in link and not ((ROOT / page).parent / link).exists():
                missing.append(f"{page}: {link}")
    assert not missing


def main() -> None:
    """Write the generated tables anew, the API's description and the rulebook."""
    rulebook: Any = importlib.import_module("test_rulebook")
    (ROOT / "docs" / "rules.md").write_text(rulebook.page(), encoding="utf-8")
    described = openapi()
    if broken := broken_by(described):
        sys.exit("\n  ".join(["docs/openapi.json is left as it is; this would break programs:", *broken]))
    (ROOT / OPENAPI).write_text(described, encoding="utf-8")
    for page in GENERATED:
        (ROOT / page).write_text(written_anew(page), encoding="utf-8")


if __name__ == "__main__":
    main()
