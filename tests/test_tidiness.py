"""Keeps the habits that a person forgets: import direction, no clock or float in domain code, lengths, docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "aggregates": {"schemas", "aggregates"},
    "streams": {"schemas", "aggregates", "streams"},
    "projections": {"schemas", "aggregates", "projections"},
    "service": {"schemas", "aggregates", "streams", "projections", "service"},
}
OURS = {*MAY_IMPORT, "tests", "benchmarks"}
STORAGE = {"aggregates/database.py", "aggregates/ledger.py", "aggregates/ledger_store.py",
           "aggregates/ledger_postgres.py", "aggregates/ledger_sqlite.py"}  # fmt: skip
"""The only files of aggregates/ that know that a database exists."""
DATABASES = {"eventsourcing", "psycopg", "sqlalchemy", "sqlite3"}
ENVIRONMENT_READERS = {"service/settings.py", "service/cli/__init__.py", "service/cli/command.py"}
"""Settings; how a defect is shown, before there are settings; the terminal's width."""

LONGEST_FILE = 400
LONGEST_FUNCTION = 80

DATE_CLOCKS = {
    f"{owner}.{name}"
    for owner in ("datetime.datetime", "datetime.date")
    for name in ("now", "utcnow", "today")
}  # fmt: skip
WALL_CLOCKS = DATE_CLOCKS | {f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime")}
CLOCKS = WALL_CLOCKS | {
    f"time.{name}{ns}" for name in ("monotonic", "perf_counter", "process_time", "thread_time") for ns in ("", "_ns")
}
CHANCE = {"random", "secrets", "uuid", "numpy.random", "os.urandom"}
READS_AND_WRITES = {
    "open", "connect", "fdopen", "read_text", "read_bytes", "write_text", "write_bytes", "urlopen", "popen", "Popen",
    "create_engine", "open_text", "open_binary", "getenv",
}  # fmt: skip
EVENT_NAMES = [
    "account.command-refused.1",
    "account.interaction-rewarded.1",
    "account.interaction-taken-back.1",
    "account.points-adjusted.1",
    "account.points-redeemed.1",
    "account.prize-awarded.1",
    "account.purchase-recorded.1",
    "account.redemption-cancelled.1",
    "account.referral-judged.1",
    "account.refund-recorded.1",
    "brand.campaign-launched.1",
    "brand.defined.1",
    "campaign.closed.1",
    "campaign.defined.1",
    "campaign.marker-passed.1",
    "campaign.settled.1",
    "campaign.standings-kept.1",
]
"""Every name that a ledger may hold. Add to it; a line that goes is a ledger that can no longer be read."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def listed(pattern: str) -> list[str]:
    """Files of the tree, tracked or about to be, whose path matches `pattern` (as git matches it)."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "--", pattern]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:  # not a checkout, such as an unpacked source archive
        skipped = (".venv", ".git", "build", "dist")
        paths = [path.relative_to(ROOT) for path in ROOT.rglob(pattern)]
        return sorted(path.as_posix() for path in paths if path.parts[0] not in skipped)
    return sorted({path for path in found.stdout.splitlines() if (ROOT / path).is_file()})


@cache
def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree(path: str) -> ast.Module:
    return ast.parse(source(path), path)


@cache
def files(*packages: str) -> list[str]:
    """The Python files of these packages, of all five without a name."""
    wanted = packages or tuple(MAY_IMPORT)
    return [path for path in listed("*.py") if path.split("/")[0] in wanted]


class Import(NamedTuple):
    """One name that a file imports, at any depth."""

    line: int
    full: str
    """`a.b` of `import a.b` and of `from a import b`."""
    local: str
    stands_for: str
    """What `local` is: `a` after `import a.b`, else the full name."""


def imports(path: str) -> Iterator[Import]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                yield Import(node.lineno, alias.name, alias.asname or top, alias.name if alias.asname else top)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module or '.'}.{alias.name}"
                yield Import(node.lineno, full, alias.asname or alias.name, full)


def uses(path: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every imported thing that a file names, `clock.time` read as `time.time`."""
    known: dict[str, str] = {}
    for line, full, local, stands_for in imports(path):
        known[local] = stands_for
        yield line, full
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            first, *rest = dotted(node).split(".")
            if first in known:
                yield node.lineno, ".".join((known[first], *rest))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain; what is no name is `?`."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{dotted(node.value)}.{node.attr}"
        case _:
            return "?"


def functions(path: str) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, FUNCTIONS))


def is_one_of(name: str, names: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in names)


def naming(paths: Iterable[str], names: set[str]) -> list[str]:
    """Where a file uses one of these names or something in it."""
    return sorted(
        {f"{path}:{line} uses {name}" for path in paths for line, name in uses(path) if is_one_of(name, names)}
    )


def none(breaches: Iterable[str], rule: str) -> None:
    """Fail with all breaches, a line each."""
    found = list(breaches)
    if found:
        pytest.fail("\n  ".join([rule, *found]), pytrace=False)


def at_import(body: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """What runs when a module is imported: everything but the bodies of functions."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, FUNCTIONS):
            waiting += [*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)]
        elif isinstance(node, ast.Lambda):
            waiting += node.args.defaults
        else:
            waiting += ast.iter_child_nodes(node)


def test_there_is_something_to_look_at():
    assert all(len(files(package)) > 3 for package in MAY_IMPORT)
    assert set(files()) >= STORAGE | ENVIRONMENT_READERS


def test_a_package_imports_only_what_stands_to_its_left():
    none(
        (
            f"{path}:{line} imports {name}"
            for path in files()
            for line, name, _, _ in imports(path)
            if (top := name.split(".")[0]) in OURS and top not in MAY_IMPORT[path.split("/")[0]]
        ),
        "schemas ← aggregates ← {streams, projections} ← service; nothing imports tests or benchmarks:",
    )


def test_nothing_is_imported_relatively():
    found = (n for path in files() for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.level)
    none((ast.unparse(node) for node in found), "imports say the whole name:")


def test_only_the_ledger_and_its_store_know_a_database_among_the_aggregates():
    domain = set(files("aggregates")) - STORAGE
    none(naming(domain, DATABASES | {"aggregates.database", "aggregates.ledger", "aggregates.ledger_store"}), "domain:")


def test_no_clock_is_read_among_the_aggregates():
    pools = {"aggregates/database.py", "aggregates/ledger_postgres.py"}
    none(naming(set(files("aggregates")) - pools, CLOCKS | {"time"}), "times come in as arguments:")
    none(naming(pools, WALL_CLOCKS), "how long a connection was idle may be measured, but not what time it is:")


def test_what_is_derived_from_the_log_never_asks_what_time_it_is():
    paths = files("schemas", "streams", "projections")
    none(naming(paths, WALL_CLOCKS), "a replay tomorrow gives what it gives today (durations may be measured):")


def test_nothing_derived_from_the_log_is_left_to_chance():
    none(naming(files("schemas", "aggregates", "streams", "projections"), CHANCE), "ids and chance come as arguments:")


def test_domain_code_has_no_float():
    def breaches() -> Iterator[str]:
        for path in sorted(set(files("aggregates")) - STORAGE):
            for node in ast.walk(tree(path)):
                match node:
                    case ast.Constant(value=float() | complex()):
                        yield f"{path}:{node.lineno} has {node.value!r}"
                    case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                        yield f"{path}:{node.lineno} divides with /"
                    case ast.Name(id="float"):
                        yield f"{path}:{node.lineno} names float"

    none(breaches(), "points and money are integers; // floors:")


def test_no_call_at_module_level_reads_or_writes_among_schemas_and_aggregates():
    none(
        (
            f"{path}:{node.lineno} calls {dotted(node.func)}"
            for path in files("schemas", "aggregates")
            for node in at_import(tree(path).body)
            if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in READS_AND_WRITES
        ),
        "what is imported does nothing yet:",
    )


IMPORT_ALL = """
import importlib, sys
opened = []

def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        opened.append(args[0])
    elif event in ("socket.connect", "sqlite3.connect", "subprocess.Popen"):
        opened.append(event)

sys.path.insert(0, sys.argv[1])
sys.addaudithook(watch)
for module in sys.argv[2:]:
    importlib.import_module(module)
print(*opened, sep="\\n")
"""


def test_importing_schemas_and_aggregates_opens_no_file_of_ours_and_no_connection():
    modules = [path.removesuffix(".py").replace("/", ".") for path in files("schemas", "aggregates")]
    command = [sys.executable, "-B", "-c", IMPORT_ALL, str(ROOT), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    opened = [ROOT / name for name in done.stdout.splitlines()]  # an absolute path stays what it is
    ours = [path for path in opened if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / ".venv")]
    assert ours, "not even the modules themselves were seen"
    none((str(path) for path in ours if path.suffix not in {".py", ".pyc"}), "opened at import:")


def test_every_file_says_why_it_exists():
    none((path for path in files() if not ast.get_docstring(tree(path))), "no docstring:")


def test_every_file_with_annotations_postpones_them():
    none(
        (
            path
            for path in files()
            if any(isinstance(node, (*FUNCTIONS, ast.AnnAssign)) for node in ast.walk(tree(path)))
            and not any(one.full == "__future__.annotations" for one in imports(path))
        ),
        "no `from __future__ import annotations`:",
    )


def test_every_public_class_and_function_says_what_it_does():
    none(
        (
            f"{path}:{node.lineno} {name}"
            for path in files()
            for node, name in public(tree(path).body)
            if not ast.get_docstring(node)
        ),
        "no docstring:",
    )


def public(body: Iterable[ast.stmt], within: str = "") -> Iterator[tuple[Function | ast.ClassDef, str]]:
    """Public classes, functions and methods, each with its name; what stands inside of a function is private."""
    for node in body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node, within + node.name
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{within}{node.name}.")


def test_no_file_is_too_long():
    lengths = ((path, len(source(path).splitlines())) for path in files())
    none((f"{path}: {lines} lines" for path, lines in lengths if lines > LONGEST_FILE), f"over {LONGEST_FILE}:")


def test_no_function_is_too_long():
    def lines(node: Function) -> int:
        return (node.end_lineno or node.lineno) - node.lineno + 1

    none(
        (
            f"{path}:{node.lineno} {node.name}: {lines(node)} lines"
            for path in files()
            for node in functions(path)
            if lines(node) > LONGEST_FUNCTION
        ),
        f"over {LONGEST_FUNCTION}:",
    )


def test_no_failure_of_any_kind_is_dropped_without_a_word():
    """Whoever catches every exception raises, counts or carries it; to log it and go on is not enough."""
    none(
        (
            f"{path}:{node.lineno} except {ast.unparse(node.type) if node.type else ''}"
            for path in files()
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ExceptHandler) and is_broad(node) and all(is_idle(line) for line in node.body)
        ),
        "caught and forgotten:",
    )


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(dotted(one) in {"Exception", "BaseException"} for one in caught)


def is_idle(node: ast.stmt) -> bool:
    match node:
        case ast.Pass() | ast.Continue() | ast.Break() | ast.Return(value=None):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger" | "logging")))):
            return True
        case _:
            return False


def test_the_environment_is_read_in_one_place():
    paths = set(files()) - ENVIRONMENT_READERS
    none(naming(paths, {"os.environ", "os.environb", "os.getenv", "os.putenv"}), "ask service/settings.py:")


def test_no_file_is_named_for_nothing():
    vague = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py", "base.py"}
    none((path for path in files() if path.split("/")[-1] in vague), "name it for what it has:")


def test_no_file_has_the_marks_of_a_merge():
    mark = re.compile(rb"^(<{7} |>{7} )", re.MULTILINE)
    paths = [path for pattern in ("*.md", "*.py", "*.toml", "*.yaml", "*.yml", "Makefile") for path in listed(pattern)]
    none((path for path in paths if mark.search((ROOT / path).read_bytes())), "resolve the merge:")


def test_stored_event_names_stay():
    from aggregates import events, upcasters

    assert not events.STORED_NAMES.keys() & upcasters.UPCASTERS.keys()
    assert sorted({**events.STORED_NAMES, **upcasters.UPCASTERS}) == EVENT_NAMES
    assert len(set(events.STORED_NAMES.values())) == len(events.STORED_NAMES)


def test_no_stored_event_name_is_given_twice():
    """Python keeps the last of two equal keys, so this reads the source."""
    tables = [
        node.value
        for node in tree("aggregates/events.py").body
        if isinstance(node, ast.AnnAssign) and dotted(node.target) == "STORED_NAMES"
    ]
    assert len(tables) == 1
    assert isinstance(tables[0], ast.Dict)
    counted = Counter(ast.literal_eval(key) for key in tables[0].keys if key is not None)
    assert [name for name, count in counted.items() if count > 1] == []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", source("Makefile"), re.MULTILINE))


def test_documents_name_only_make_targets_that_exist():
    targets = make_targets()
    called = re.compile(r"(?:`|^\s*(?:\$ )?)make ([a-z][a-z-]*)", re.MULTILINE)

    def breaches() -> Iterator[str]:
        for path in [*listed("*.md"), *listed(".ci/*")]:
            text = source(path)
            code = "\n".join(re.findall(r"^```.*?^```|`make [^`]*`", text, re.MULTILINE | re.DOTALL))
            for target in called.findall(text if path.startswith(".ci/") else code):
                if target not in targets:
                    yield f"{path}: make {target}"

    none(breaches(), f"the targets are {', '.join(sorted(targets))}:")


def test_make_help_lists_every_target_and_none_is_taken_for_a_file():
    text = source("Makefile")
    explained = set(re.findall(r"^([a-z][a-z-]*):.*## ", text, re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert explained == make_targets() == phony
