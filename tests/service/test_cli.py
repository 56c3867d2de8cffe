"""The command line: what is printed, the exit codes, and that every failure is one line. A whole stack: end_to_end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import own_broker
import pytest
import typer.main

from schemas.topics import ACTIVITY
from service import cli
from service.api_keys import Keys
from service.reads import Reads
from service.settings import Settings

SHARE = {
    "event_id": "s1",
    "occurred_at": "2026-03-02T10:00:00Z",
    "brand_id": "acme",
    "member_id": "ann",
    "surface": "brand_post",
    "kind": "share",
    "quantity": 1,
    "platform": "x",
    "post_id": "p1",
}


class Done:
    """What a command printed and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def line(self) -> str:
        """The one line on standard error."""
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.strip()


Run = Callable[..., Done]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command where nothing is set."""
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA", "DATABASE", "DATA_DIR", "SECRET", "DEBUG", "EPOCH", "HOST", "API_KEYS_FILE", "PARTITIONS"):
        monkeypatch.delenv(f"GROUNDSWELL_{name}", raising=False)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["groundswell", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return Done(int(stop.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def run(bare: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a filled database without a Kafka."""
    monkeypatch.setenv("GROUNDSWELL_KAFKA", settings.kafka)
    monkeypatch.setenv("GROUNDSWELL_DATABASE", settings.database)
    monkeypatch.setenv("GROUNDSWELL_SECRET", "very-secret")
    return bare


@pytest.fixture
def with_broker(run: Run, broker: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a filled database and a real broker with its topics."""
    monkeypatch.setenv("GROUNDSWELL_KAFKA", broker)
    assert run("topics", "create").code == 0
    return run


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


EVERY = dict(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(bare: Run, path: tuple[str, ...]) -> None:
    done = bare(*path, "--help")
    assert done.code == 0
    assert f"Example: groundswell {' '.join(path)}" in " ".join(done.out.split())
    assert "--data-dir" in done.out


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_help_of_an_option_says_what_its_value_looks_like(path: tuple[str, ...]) -> None:
    for one in EVERY[path].params:
        said = getattr(one, "help", None) or ""
        if one.metavar == "T":
            assert any(how in said for how in ("ISO 8601", "2026-03-15T12:00:00Z", "Refused")), (one.name, said)
        elif one.metavar == "P":
            assert any(how in said for how in ("such as", "position", "partition")), (one.name, said)
        elif one.name in ("tier", "key", "reason", "rate"):
            assert "such as" in said or one.metavar == "WORDS", (one.name, said)


def test_the_help_says_that_engagement_has_no_recorded_time(run: Run) -> None:
    for path in (("engagement", "acme"), ("posts", "acme", "ann"), ("tiers", "acme"), ("report", "acme", "spring")):
        assert "--known-at T Refused" in " ".join(run(path[0], "--help").out.split())
        assert "known_at_needs_rederive" in run(*path, "--known-at", "2026-03-15T12:00:00Z").line


def test_help_imports_nothing_heavy() -> None:
    check = (
        "import sys, service.cli; print({'sqlalchemy','aiokafka','fastapi','faust','eventsourcing'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "service", "schemas", "check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_json_is_the_http_body_unchanged(run: Run, settings: Settings) -> None:
    reads = Reads(settings)
    assert run("balance", "acme", "ann", "--json").out == reads.balance("acme", "ann").model_dump_json() + "\n"
    body = json.loads(run("engagement", "acme", "--window", "all", "--json").out)
    assert body["counts"]["self"]["like"] == 0
    posts = run("posts", "acme", "ann", "--window", "all", "--json").out
    assert posts == reads.posts("acme", "ann", "all").model_dump_json() + "\n"
    reads.close()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["balance", "acme", "ann"], "50"),
        (["statement", "acme", "ann"], "spring v1 share"),
        (["statement", "acme", "ann", "--limit", "1"], "--cursor"),
        (["standings", "acme", "spring"], "nano"),
        (["engagement", "acme", "--window", "all"], "0.800 %"),
        (["engagement", "acme", "--window", "all", "--member", "ann"], "acme/ann"),
        (["posts", "acme", "ann", "--window", "all"], "p9"),
        (["posts", "acme", "bob", "--window", "all"], "Posts of acme/bob"),
        (["tiers", "acme", "--window", "all"], "micro ≥ 1,000"),
        (["tiers", "acme", "--member", "ann"], "x (decides)"),
        (["explain", "acme", "ann"], "record e1 at members.activity.v1:0:0"),
        (["explain", "acme", "ann"], "Paid nothing"),
        (["explain", "acme", "ann", "--event", "e1"], "Interaction e1 at members.activity.v1:0:0"),
        (["explain", "acme", "bob", "--event", "0:3"], "no points came of it"),
        (["digest"], "balances"),
        (["status"], "no worker is running"),
        (["schemas", "list"], "Interaction"),
        (["schemas", "show", "purchase"], '"amount_minor"'),
    ],
)
def test_reads_are_printed_for_people(run: Run, arguments: list[str], shown: str) -> None:
    done = run(*arguments)
    assert done.code == 0, done.err
    assert shown in done.out + done.err


def test_a_read_can_be_asked_for_an_earlier_time(run: Run) -> None:
    earlier = run("balance", "acme", "ann", "--as-of", "2026-03-01T01:30:00Z", "--json")
    assert json.loads(earlier.out)["active"] == 30


def test_digest_lists_balances_statements_and_standings_first(run: Run) -> None:
    body = json.loads(run("digest", "--json").out)
    assert [one["name"] for one in body["projections"]][:3] == ["balances", "statements", "standings"]
    assert {"name", "version", "position", "rows", "digest"} <= body["projections"][0].keys()


def test_status_asks_kafka_too(run: Run) -> None:
    body = json.loads(run("status", "--json").out)
    assert body["ready"] is False
    assert any("127.0.0.1:1 does not answer" in line for line in body["missing"])
    assert body["activity"]["ends"] == {}


def test_status_hides_the_secret(run: Run) -> None:
    for arguments in (["status"], ["status", "--json"]):
        assert "very-secret" not in run(*arguments).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["balance", "nope", "ann"], "There is no brand `nope`"),
        (["standings", "acme", "nope"], "no campaign `nope`"),
        (["explain", "acme", "ann", "nope"], "no statement entry `nope`"),
        (["explain", "acme", "ann", "--event", "nope"], "comes from `nope`"),
        (["explain", "acme", "ann", "nope", "--event", "e1"], "not both"),
        (["balance", "acme", "ann", "--as-of", "2026-03-01"], "with a zone"),
        (["balance", "acme", "ann", "--as-of", "2026-03-01T10:00:00"], "has no zone"),
        (["statement", "acme", "ann", "--cursor", "x"], "cursor"),
        (["balance", "acme", "ann", "--min-position", "x"], "is not a position"),
        (["engagement", "acme", "--known-at", "2026-03-01T10:00:00Z"], "known_at_needs_rederive"),
        (["posts", "acme", "ann", "--known-at", "2026-03-01T10:00:00Z"], "known_at_needs_rederive"),
        (["tiers", "acme", "--known-at", "2026-03-01T10:00:00Z"], "replay rederive"),
        (["redeem", "acme", "ann", "0"], "points"),
        (["redeem", "nope", "ann", "5"], "There is no brand `nope`"),
        (["redeem", "acme", "a/b", "5"], "member"),
        (["redeem", "acme", "ann", "5", "--key", ""], "Idempotency-Key"),
        (["enrol", "acme", "ann", "nope"], "has no campaign"),
        (["publish", "purchases", "nope.csv"], "nope.csv"),
        (["publish", "purchases", "-", "--map", "nope.yaml"], "nope.yaml"),
        (["import", "tweets", "nope.csv", "--brand", "nope"], "--define"),
        (["simulate", "--rate", "fast"], "500/s"),
        (["schemas", "show", "Purchas"], "did you mean Purchase"),
        (["apply", "nope.yaml"], "nope.yaml"),
        (["topics", "check"], "127.0.0.1:1 does not answer, check GROUNDSWELL_KAFKA"),
        (["topics", "create"], "127.0.0.1:1 does not answer, check GROUNDSWELL_KAFKA"),
        (["dlt", "list"], "127.0.0.1:1 does not answer, check GROUNDSWELL_KAFKA"),
        (["wait"], "127.0.0.1:1 does not answer, check GROUNDSWELL_KAFKA"),
        (["worker"], "127.0.0.1:1 does not answer, check GROUNDSWELL_KAFKA"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_run_says_so_in_one_line_and_ends_with_2(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if line.startswith("groundswell: ")]
    assert len(lines) == 1, done.err
    assert said in lines[0]
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nope"], "No such command 'nope'; see `groundswell --help`"),
     (["balance", "acme"], "Missing argument 'MEMBER'; see `groundswell balance --help`"),
     (["balance", "acme", ""], "Invalid value for 'MEMBER': it is empty"),
     (["balance", "acme", "ann", "--nope"], "No such option: --nope"),
     (["publish", "x", "y"], "Invalid value for 'TYPE': 'x' is not one of 'interactions', 'purchases'"),
     (["dlt", "list", "--limit", "0"], "Invalid value for '--limit'"),
     (["dlt", "list", "--brand", ""], "Invalid value for '--brand': it is empty"),
     (["keys", "create", "--brand", "acme"], "Missing option '--scope'. Choose from: read, redeem, admin; see"),
     (["engagement", "acme", "--platform", ""], "Invalid value for '--platform': it is empty"),
     (["tiers", "acme", "--member", ""], "Invalid value for '--member': it is empty"),
     (["cancel", "acme", "ann", ""], "Invalid value for 'REDEMPTION': it is empty"),
     (["whatif", "acme", "ann", ""], "Invalid value for 'FILE': it is empty"),
     (["publish", "purchases", ""], "Invalid value for 'FILE': it is empty")],
)  # fmt: skip
def test_a_command_that_is_written_wrongly_ends_with_2_and_one_line(bare: Run, arguments: list[str], said: str) -> None:
    done = bare(*arguments)
    assert done.code == 2
    assert done.line.startswith("groundswell: ")
    assert said in done.line


@pytest.mark.parametrize(
    ("database", "said"),
    [("sqlite:///none/here.db", "cannot be made, check GROUNDSWELL_DATABASE"),
     ("sqlite:///folder", "(unable to open database file): check GROUNDSWELL_DATABASE"),
     ("sqlite:///text", "(file is not a database): check GROUNDSWELL_DATABASE"),
     ("postgresql://127.0.0.1:1/none", "does not answer (connection failed")],
)  # fmt: skip
def test_a_database_that_is_none_is_said_in_one_line(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, said: str
) -> None:
    for name, value in (("KAFKA", "127.0.0.1:1"), ("SECRET", "s"), ("DATABASE", database)):
        monkeypatch.setenv(f"GROUNDSWELL_{name}", value)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("this is a text " * 100)
    done = bare("migrate")
    assert done.code == 2
    assert said in done.line


def test_a_file_where_an_archive_should_be_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert f"{file} is a file: name the directory" in run("archive", "create", str(file)).line
    assert f"no directory {file}" in run("archive", "verify", str(file)).line
    assert f"no directory {file}" in run("replay", "rederive", "--from", str(file)).line


@pytest.mark.parametrize("arguments", [[], ["replay"]])
def test_a_command_without_one_of_its_own_lists_those(bare: Run, arguments: list[str]) -> None:
    done = bare(*arguments)
    assert done.code == 2
    assert "Commands:" in done.err


def test_without_a_stack_and_settings_a_command_says_how_to_start_one(bare: Run, tmp_path: Path) -> None:
    assert "groundswell up" in bare("balance", "acme", "ann").line
    assert str(tmp_path) in bare("balance", "acme", "ann", "--data-dir", str(tmp_path)).line


def test_a_database_without_tables_is_told_to_be_migrated(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GROUNDSWELL_DATABASE", f"sqlite:///{tmp_path / 'new.db'}")
    done = run("balance", "acme", "ann")
    assert done.code == 2
    assert "groundswell migrate" in done.line
    assert run("migrate").code == 0
    assert "There is no brand" in run("balance", "acme", "ann").line


def test_a_defect_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of\ncheese")

    monkeypatch.setattr(Reads, "balance", broken)
    done = run("balance", "acme", "ann")
    assert done.code == 2
    assert "RuntimeError: out of cheese" in done.line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("brand: acme\ncurency: EUR\n", "curency"),
        ("brand: acme\ncurrency: EUR\ntimezone: UTC\ntiers: {nano: 0, micro: 0}\n", "tiers"),
        ("", "no brand and no campaign"),
    ],
)
def test_a_definition_that_is_refused_ends_with_1_and_its_reason(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    done = run("apply", str(file), "--check")
    assert done.code == 1
    assert said in done.line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"brand: [", "not YAML"),
        (b"brand: \xff", "not UTF-8"),
        (b"brand: acme\ncurrency: EUR\nplan: free\nplan: pro\n", "line 4, column 1: the key `plan` is there twice"),
        (b"campaign: c\nbrand: acme\nearn:\n  - {rule: a, points: 1, rule: b}\n", "line 4, column 26: the key `rule`"),
        (b"brand: " + b"[" * 5_000, "it is nested too deep"),
        (b"points: 010\n", "line 1, column 9: YAML reads `010` as another number"),
        (b"hold: 1:30\n", "`1:30` as another number"),
        (b"points: [0x10]\n", "`0x10`"),
        (b"tier_multiplier: {nano: 1:30.5}\n", "`1:30.5`"),
        (b"prizes: {01: 5}\n", "`01`"),
    ],
)
def test_a_file_that_is_no_yaml_ends_with_2(run: Run, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    done = run("apply", str(file), "--check")
    assert done.code == 2
    assert said in done.line


def test_an_old_version_with_other_content_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "changed.yaml"
    file.write_text("brand: acme\nplan: pro\ntimezone: UTC\ncurrency: EUR\n")
    done = run("apply", str(file), "--check")
    assert (done.code, done.err) == (1, "")
    assert "raise `version` to 2" in " ".join(done.out.split())


def test_apply_check_accepts_without_publishing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("brand: other\nplan: pro\ntimezone: UTC\ncurrency: EUR\n")
    assert "brand other version 1: accepted" in run("apply", str(file), "--check").out
    assert run("balance", "other", "ann").code == 2


def test_topics_are_created_once_and_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_broker.running() as address:
        monkeypatch.setenv("GROUNDSWELL_KAFKA", address)
        assert run("topics", "check").code == 1
        assert ACTIVITY in json.loads(run("topics", "create", "--json").out)["created"]
        assert json.loads(run("topics", "create", "--json").out) == {"created": []}
        assert run("topics", "check").code == 0
        monkeypatch.setenv("GROUNDSWELL_PARTITIONS", "8")
        done = run("topics", "check", "--json")
    said = f"{ACTIVITY} has 4 partitions and GROUNDSWELL_PARTITIONS is 8: set it to 4 for every role"
    assert (done.code, json.loads(done.out)) == (1, {"problems": [said]})


def test_lines_that_are_refused_are_kept_beside_those_that_are_taken(with_broker: Run, tmp_path: Path) -> None:
    file = tmp_path / "shares.jsonl"
    bad = [
        "not json",
        json.dumps(SHARE | {"occurred_at": "2026-03-02T10:00:00"}),
        json.dumps(SHARE | {"occurred_at": "2099-03-02T10:00:00Z"}),
        json.dumps(SHARE | {"quantity": 1.5}),
        json.dumps({name: value for name, value in SHARE.items() if name != "platform"}),
        json.dumps(SHARE | {"platfrom": "x"}),
    ]
    file.write_text("\n".join([json.dumps(SHARE), *bad, json.dumps(SHARE | {"event_id": "s2"})]) + "\n")
    done = with_broker("publish", "interactions", str(file), "--json")
    rejected = tmp_path / "shares.jsonl.rejected.jsonl"
    assert done.code == 1
    assert json.loads(done.out) == {"accepted": 2, "refused": 6, "left_out": {}, "rejected_file": str(rejected)}
    rows = [json.loads(line) for line in rejected.read_text().splitlines()]
    assert [row["line"] for row in rows] == [2, 3, 4, 5, 6, 7]
    assert [row["raw"] for row in rows] == bad
    assert all(row["reason"] for row in rows)
    assert len(done.err.splitlines()) == 6


def test_a_file_with_nothing_to_refuse_ends_with_0_and_takes_the_old_refusals_away(
    with_broker: Run, tmp_path: Path
) -> None:
    file = tmp_path / "shares.jsonl"
    file.write_text(json.dumps(SHARE))
    (tmp_path / "shares.jsonl.rejected.jsonl").write_text("of an earlier run")
    done = with_broker("publish", "interactions", str(file))
    assert (done.code, done.err) == (0, "")
    assert "accepted 1, refused 0" in done.out
    assert not (tmp_path / "shares.jsonl.rejected.jsonl").exists()


def test_refused_lines_are_kept_here_where_they_cannot_be_beside_the_file(
    with_broker: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "shares.jsonl.rejected.jsonl").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    (there / "shares.jsonl").write_text("not json\n")
    for name in ("shares.jsonl.rejected.jsonl", "shares.jsonl.rejected-2.jsonl"):  # what is there is of another file
        done = with_broker("publish", "interactions", str(there / "shares.jsonl"))
        assert (done.code, f"(see {name})" in done.out) == (1, True)
    for name in ("shares.jsonl.rejected.jsonl", "shares.jsonl.rejected-2.jsonl"):
        assert json.loads((here / name).read_text())["raw"] == "not json"


def test_nothing_is_published_where_refused_lines_cannot_be_kept(
    with_broker: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shares.jsonl").write_text("not json\n")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root anything can be written to
    done = with_broker("publish", "interactions", str(tmp_path / "shares.jsonl"))
    assert (done.code, done.out) == (2, "")
    assert "run this in a directory that can be written to" in done.line


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").out == f"groundswell {version('groundswell')}\n"


def test_records_of_a_brand_without_a_definition_are_pointed_out(with_broker: Run, tmp_path: Path) -> None:
    file = tmp_path / "shares.jsonl"
    file.write_text(json.dumps(SHARE | {"brand_id": "zzz"}))
    assert "brand `zzz` is not defined" in with_broker("publish", "interactions", str(file)).line


def test_lines_can_come_from_standard_input(with_broker: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{json.dumps(SHARE)}\nnot json\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    done = with_broker("publish", "interactions", "-")
    assert done.code == 1
    assert "accepted 1, refused 1 (see stdin.rejected.jsonl)" in done.out
    assert (tmp_path / "stdin.rejected.jsonl").exists()


def test_an_enrolment_answers_with_a_position_to_wait_for(with_broker: Run) -> None:
    body = json.loads(with_broker("enrol", "acme", "ann", "spring", "--json").out)
    assert body["kind"] == "joined"
    assert ":" in body["position"]


def test_a_redemption_without_a_worker_says_that_it_is_on_the_log(with_broker: Run) -> None:
    done = with_broker("redeem", "acme", "ann", "5", "--key", "k", "--timeout", "0.2", "--json")
    assert done.code == 2
    assert "no_answer_yet" in done.line


def test_there_are_no_dead_letters_at_first(with_broker: Run) -> None:
    assert json.loads(with_broker("dlt", "list", "--json").out) == {"dead_letters": []}


def test_waiting_without_a_worker_ends_with_what_is_behind(with_broker: Run, tmp_path: Path) -> None:
    file = tmp_path / "shares.jsonl"
    file.write_text("\n".join(json.dumps(SHARE | {"event_id": f"w{n}", "member_id": f"m{n}"}) for n in range(50)))
    assert with_broker("publish", "interactions", str(file)).code == 0
    done = with_broker("wait", "--timeout", "0.1")
    assert done.code == 2
    assert "not done after 0.1 s" in done.line


def test_whatif_says_what_an_event_of_a_file_would_earn(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    event = {"type": "interaction", "surface": "brand_post", "kind": "share", "platform": "x"}
    file.write_text(json.dumps({**event, "occurred_at": "2026-03-05T12:00:00Z"}))
    found = json.loads(run("whatif", "acme", "ann", str(file), "--json").out)
    assert (found["points"], found["campaigns"][0]["rules"][0]["verdict"]) == (10, "pays")
    assert "10 points for acme/ann (unknown), interaction" in run("whatif", "acme", "ann", str(file)).out
    file.write_text('{"type": "interaction"}')
    wrong = run("whatif", "acme", "ann", str(file))
    assert wrong.code == 2
    assert "surface" in wrong.line
    file.write_text("not JSON")
    assert run("whatif", "acme", "ann", str(file)).code == 2
    assert run("whatif", "acme", "ann", str(tmp_path / "none.json")).code == 2


def test_apply_check_says_what_would_become_of_each_definition_and_stores_nothing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "programs.yaml"
    file.write_text("""
campaign: spring
version: 2
brand: acme
effective_at: 2026-03-15T00:00:00Z
starts_at: 2026-03-01T00:00:00Z
ends_at: 2027-04-01T00:00:00Z
earn: [{rule: share, on: interaction, points: 5, caps: {per_day: 0}}]
---
campaign: summer
brand: acme
starts_at: 2026-03-10T00:00:00Z
ends_at: 2026-08-01T00:00:00Z
""")
    for _ in range(2):
        done = run("apply", str(file), "--check", "--json")
        assert done.code == 1, "one of them is refused"
        accepted, refused = json.loads(done.out)["checks"]
        assert refused["verdict"] == "refused"
        assert "from 2026-04-01" in refused["refusal"]
        assert accepted["verdict"] == "accepted"
        assert accepted["notes"][0] == "it supersedes version 1 for what occurs from 2026-03-15T00:00:00Z on"
        assert any("per_day is 0" in warning for warning in accepted["warnings"])
    text = run("apply", str(file), "--check").out
    assert "campaign acme/summer version 1: refused: " in text
    assert "  warning: rule share: per_day is 0, so it never pays" in text
    file.write_text("campaign: autumn\nbrand: acme\nstarts_at: 2026-09-01T00:00:00Z\nends_at: 2026-10-01T00:00:00Z\n")
    assert "it takes the free plan's one launch of 2026-09" in run("apply", str(file), "--check").out


# API keys


def test_a_key_is_made_shown_once_listed_without_its_secret_and_revoked(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDSWELL_API_KEYS_FILE", "keys.json")
    made = bare("keys", "create", "--brand", "acme", "--scope", "redeem")
    token = made.out.strip()
    key_id, secret = token.split("_", 2)[1:]
    assert (made.code, token[:4]) == (0, "gsk_")
    assert "it is shown only now" in made.line
    assert token not in made.err
    operator = json.loads(bare("keys", "create", "--brand", "*", "--scope", "read", "--json").out)
    assert (operator["brand"], operator["key"].split("_", 2)[1]) == ("*", operator["id"])
    listed = bare("keys", "list")
    assert key_id in listed.out
    assert secret not in listed.out + json.dumps(json.loads(bare("keys", "list", "--json").out))
    revoked = bare("keys", "revoke", key_id)
    assert (revoked.code, "is revoked since" in revoked.out) == (0, True)
    assert bare("keys", "revoke", key_id).out == revoked.out
    (first, second) = json.loads(bare("keys", "list", "--json").out)["keys"]
    assert first["revoked_at"]
    assert second["revoked_at"] is None
    assert Keys(tmp_path / "keys.json").authenticate(token) is None


def test_keys_that_cannot_be_made_are_refused_with_one_line(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ("keys", "create", "--brand", "acme", "--scope", "read")
    nowhere = bare(*create)
    assert (nowhere.code, "GROUNDSWELL_API_KEYS_FILE" in nowhere.line) == (2, True)
    monkeypatch.setenv("GROUNDSWELL_API_KEYS_FILE", str(tmp_path / "no" / "keys.json"))
    assert bare(*create).code == 2
    assert "No such file" in bare(*create).line
    monkeypatch.setenv("GROUNDSWELL_API_KEYS_FILE", str(tmp_path / "keys.json"))
    assert "brand" in bare("keys", "create", "--brand", "a/b", "--scope", "read").line
    unknown = bare("keys", "revoke", "5d41402abc4b")
    assert (unknown.code, "has no key `5d41402abc4b`" in unknown.line) == (2, True)
    assert bare("keys", "create", "--brand", "acme", "--scope", "all").code == 2
    assert not (tmp_path / "keys.json").exists()
    (tmp_path / "keys.json").write_text("{")
    assert "no file of API keys" in bare("keys", "list").line
