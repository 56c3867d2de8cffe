"""The image and the Compose file: linted, valid, and naming only settings, commands and files that exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
import yaml

from service import cli
from service.api_keys import is_loopback
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEALTHCHECK = DOCKER / "healthcheck.py"
ROLES = ("worker", "projector", "api")
OURS = (*ROLES, "prepare")
SECRETS = ("GROUNDSWELL_SECRET", "POSTGRES_PASSWORD")
VARIABLE = re.compile(r"GROUNDSWELL_[A-Z_]*[A-Z]")
PAGES = (
    "docker/Dockerfile",
    "docker/compose.yaml",
    "docker/healthcheck.py",
    "docker/env.example",
    "docs/deployment.md",
)


def tool(name: str) -> str:
    """A command of this environment, else of the path."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: it comes with the dev extra")
    return found


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment or None)


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile with its arguments on one line."""
    lines = "".join(line for line in DOCKERFILE.splitlines(keepends=True) if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def final_stage() -> list[tuple[str, str]]:
    all_of_them = instructions()
    return all_of_them[max(number for number, (word, _) in enumerate(all_of_them) if word == "FROM") :]


def only(word: str) -> str:
    (found,) = [rest for one, rest in final_stage() if one == word]
    return found


# The Dockerfile


def test_hadolint_finds_nothing_in_the_dockerfile():
    done = run(tool("hadolint"), "--no-color", "--failure-threshold", "style", str(DOCKER / "Dockerfile"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_stage_is_a_slim_python_that_the_project_supports_pinned_to_its_minor_version():
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2
    least = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    for base in bases:
        found = re.fullmatch(r"python:(\d+)\.(\d+)-slim-[a-z]+( AS \w+)?", base)
        assert found, base
        assert (int(found[1]), int(found[2])) >= least


def test_the_image_runs_groundswell_as_a_numbered_user_who_is_not_root():
    assert json.loads(only("ENTRYPOINT")) == [*PROJECT["project"]["scripts"]] == ["groundswell"]
    user, _, group = only("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(only("HEALTHCHECK").partition(" CMD ")[2]) == ["python", "/opt/groundswell/healthcheck.py"]


def test_the_final_image_has_no_tool_that_installs_or_builds():
    removed = next(rest for word, rest in final_stage() if word == "RUN")
    assert {"pip", "setuptools", "wheel"} <= set(removed.partition("&&")[0].split())
    assert not any("apt-get" in rest or " install " in rest for _, rest in final_stage())


def test_the_wheel_is_built_from_every_package_of_the_project_and_nothing_it_needs_is_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored, "a list of what goes in, so that nothing slips in"
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)
    needed = {*PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], PROJECT["project"]["readme"]}
    assert needed < copied


# The Compose file


def test_the_compose_file_is_valid_by_the_schema_of_the_specification():
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_has_every_role_and_what_they_need():
    assert set(SERVICES) == {"kafka", "postgres", *OURS}
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert image, name
        assert tag not in {"", "latest"}, f"{name} names no version"
    assert {SERVICES[name]["image"] for name in OURS} == {"groundswell:local"}


@pytest.mark.parametrize("name", ["kafka", "postgres", *ROLES])
def test_what_keeps_running_has_a_health_check_a_restart_policy_and_time_to_stop(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])


@pytest.mark.parametrize("name", OURS)
def test_our_own_services_have_no_privileges_and_write_nothing_but_tmp(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert not any("privileged" in one for one in SERVICES.values())


def test_the_roles_start_after_tables_and_topics_are_there():
    assert SERVICES["prepare"]["restart"] == "no"
    assert SERVICES["prepare"]["depends_on"] == {
        "kafka": {"condition": "service_healthy"},
        "postgres": {"condition": "service_healthy"},
    }
    for role in ROLES:
        assert SERVICES[role]["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}


def test_no_port_is_open_to_other_machines():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


def test_the_api_answers_outside_of_its_container_with_keys_that_are_kept_and_may_be_written():
    api = SERVICES["api"]
    assert [port.rpartition(":")[2] for port in api["ports"]] == [str(Settings.model_fields["port"].default)]
    assert not is_loopback(api["environment"]["GROUNDSWELL_HOST"])
    volume, _, folder = api["volumes"][0].partition(":")
    assert volume in yaml.safe_load(COMPOSE)["volumes"]
    assert Path(api["environment"]["GROUNDSWELL_API_KEYS_FILE"]).parent == Path(folder)
    owner = only("USER")
    made = next(rest for word, rest in final_stage() if word == "RUN")
    assert f"mkdir --mode=700 {folder} && chown {owner} {folder}" in made, "a new volume is as the image has its folder"


def test_there_is_no_secret_that_nobody_has_chosen():
    """Each stands there as `${NAME:?what to do}`, which ends Compose, also for one that is empty."""
    for name in SECRETS:
        uses = re.findall(rf"\$\{{?{name}[^}}]*\}}?", COMPOSE)
        assert uses
        for use in uses:
            assert re.fullmatch(rf"\$\{{{name}:\?[^}}]*docker/\.env[^}}]*\}}", use), use
    example = (DOCKER / "env.example").read_text(encoding="utf-8")
    assert re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE) == [(name, "") for name in SECRETS]
    assert ".env" in (DOCKER / ".gitignore").read_text(encoding="utf-8").split()
    assert not any(name in DOCKERFILE for name in SECRETS)


# What both name


def named_commands() -> Iterator[list[str]]:
    """The words after `groundswell` of everything the Compose file runs."""
    for name in OURS:
        service = SERVICES[name]
        if "entrypoint" not in service:
            yield service["command"]
            continue
        (script,) = service["command"]
        for line in script.splitlines():
            first, *words = shlex.split(line)
            assert first == "groundswell"
            yield words


def command_and_rest(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name (None for none), and what follows it."""
    command: Any = typer.main.get_command(cli.app)
    while words and hasattr(command, "commands"):
        command, words = command.commands.get(words[0]), words[1:]
    return command, words


def test_the_compose_file_runs_only_commands_and_options_that_exist():
    commands = list(named_commands())
    assert [role for role in ROLES if [role] in commands] == list(ROLES)
    for words in commands:
        command, rest = command_and_rest(words)
        assert command is not None, words
        options = {option for parameter in command.params for option in parameter.opts}
        assert not hasattr(command, "commands"), f"{words} names a group"
        assert {word for word in rest if word.startswith("-")} <= options, words


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_ours_that_is_named_is_a_setting(page):
    settings = {f"GROUNDSWELL_{name.upper()}" for name in Settings.model_fields}
    named = set(VARIABLE.findall((ROOT / page).read_text(encoding="utf-8")))
    assert named
    assert named - settings == set()


def test_every_role_gets_the_same_settings_and_they_can_be_read():
    (one, *others) = [SERVICES[name]["environment"] for name in OURS]
    assert all(other == one for other in others)
    shown = {name: re.sub(r"\$\{\w+(?::-(\w+)|:\?[^}]*)\}", r"\1", str(value)) for name, value in one.items()}
    known = {name.removeprefix("GROUNDSWELL_").lower(): value for name, value in shown.items()}
    read = Settings(**known)
    assert read.kafka == "kafka:9092"
    assert read.database.startswith("postgresql://")


# The health check


def healthcheck() -> Any:
    spec = importlib.util.spec_from_file_location("healthcheck", HEALTHCHECK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that lives, and is not ready."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            alive = self.path == "/healthz"
            self.send_response(200 if alive else 503)
            self.end_headers()
            self.wfile.write(b"alive" if alive else b"no worker is running")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_ports_it_asks_are_the_settings_own():
    ports = healthcheck().PORTS
    assert set(ports) == {*ROLES, "up", "demo"}
    for variable, default in ports.values():
        field = Settings.model_fields[variable.removeprefix("GROUNDSWELL_").lower()]
        assert str(field.default) == default or f"{variable}={default}" in only("ENV")


@pytest.mark.parametrize(
    ("role", "variable"),
    [("api", "GROUNDSWELL_PORT"), ("worker", "GROUNDSWELL_METRICS_PORT"), ("projector", "GROUNDSWELL_METRICS_PORT")],
)
def test_each_role_is_asked_on_its_own_port(role, variable, port):
    done = run(sys.executable, str(HEALTHCHECK), role, **{variable: str(port)})
    assert (done.returncode, done.stdout) == (0, "")


def test_one_who_lives_and_is_not_ready_says_what_is_missing(port):
    done = run(sys.executable, str(HEALTHCHECK), "api", "/readyz", GROUNDSWELL_PORT=str(port))
    assert done.returncode == 1
    assert done.stdout == "api answers 503: no worker is running\n"


def test_one_who_does_not_answer_is_not_healthy():
    done = run(sys.executable, str(HEALTHCHECK), "worker", GROUNDSWELL_METRICS_PORT="1")
    assert done.returncode == 1
    assert done.stdout.startswith("worker on port 1: ConnectionRefusedError")


def test_a_role_that_is_none_is_said():
    done = run(sys.executable, str(HEALTHCHECK), "wroker", PATH="")
    assert done.returncode == 1
    assert done.stdout == "'wroker' is no role: name one of api, up, demo, worker, projector\n"


@pytest.mark.parametrize(
    ("command_line", "role"),
    [
        ("/opt/groundswell/bin/python /opt/groundswell/bin/groundswell worker", "worker"),
        ("/sbin/docker-init -- groundswell api", "api"),
        ("groundswell projector --data-dir /tmp", "projector"),
        ("groundswell demo --speed day", "demo"),
    ],
)
def test_without_a_role_it_is_that_of_the_first_process(command_line, role):
    assert healthcheck().role_of(command_line.split()) == role


@pytest.mark.parametrize("option", [["--port", "8123"], ["--port=8123"]])
def test_a_port_among_the_arguments_counts(option, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_PORT", "8099")
    assert healthcheck().port_of("up", ["groundswell", "up", *option]) == 8123
    assert healthcheck().port_of("up", ["groundswell", "up"]) == 8099


def test_a_container_that_has_no_role_says_so():
    with pytest.raises(ValueError, match="no role in 'groundswell migrate'"):
        healthcheck().role_of(["groundswell", "migrate"])
