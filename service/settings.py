"""The one typed settings class: what `GROUNDSWELL_…` variables and a running embedded stack say."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.broker import security
from service.problems import Unusable
from streams.connection import Brokers

DEFAULT_DATA_DIR: Final = Path(".groundswell")
STACK_FILE: Final = "stack.json"
KNOWN_FILE: Final = "known.json"
"""In a directory that `replay known-at` has made: there is a database to read, and no Kafka."""
_Security = Annotated[Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"], BeforeValidator(str.lower)]
_Mechanism = Annotated[Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(str.upper)]


class Settings(BaseSettings):
    """Everything that can be set. Durations say their unit in their name."""

    model_config = SettingsConfigDict(env_prefix="GROUNDSWELL_", frozen=True, extra="ignore")

    kafka: str = Field("", description="Kafka bootstrap servers, `host:port,host:port`.")
    kafka_security: _Security = Field(
        "plaintext", description="How to connect to it: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`."
    )
    kafka_ca_file: str = Field(
        "", description="PEM file with the certificates that vouch for the brokers'; without it: the system's."
    )
    kafka_certificate_file: str = Field("", description="PEM file with our certificate, for brokers that want one.")
    kafka_key_file: str = Field("", description="PEM file with its private key; without it: in the same file.")
    kafka_sasl_mechanism: _Mechanism = Field("", description="`SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`.")
    kafka_sasl_username: str = Field("", description="Who we are to the brokers.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="What proves it.")
    database: str = Field("", description="`sqlite:///FILE` (the embedded default) or `postgresql://…`.")
    data_dir: Path = Field(DEFAULT_DATA_DIR, description="Directory of the embedded stack.")
    schema_registry: str = Field(
        "", description="Confluent-compatible schema registry, `http://USER:PASSWORD@HOST:8081`: `schemas register`."
    )
    api_keys_file: Path | None = Field(None, description="File with hashed API keys; without it: loopback only.")
    requests_per_second: int = Field(
        500, ge=0, le=1_000_000, description="Requests a second of each API key, in each API process; 0: no limit."
    )
    secret: SecretStr = Field(SecretStr(""), description="Signs internal records; the same for every role.")
    archived: Path | None = Field(
        None, description="File in which the embedded stack's archiver says what is on disk; set by `up`."
    )
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of the activity log, and of new topics.")
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address the API listens on; one that is not loopback needs API keys."
    )
    port: int = Field(8080, ge=1, le=65535, description="Port of the API.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of /metrics, /healthz and /readyz of a worker or projector; 0: none."
    )
    flush_interval_ms: int = Field(1000, ge=10, description="How often panes and read-state are written.")
    grace_hours: int = Field(
        24, ge=1, description="How long a pane waits for late events after its end, and a campaign before it closes."
    )
    session_seconds: float = Field(6.0, ge=2, description="How long a silent worker keeps its partitions.")
    dead_letter_run: int = Field(1_000, ge=1, description="So many rejected records in a row stop the worker.")
    dead_letter_percent: int = Field(
        50, ge=1, le=100, description="So many percent rejected of each 2,000 records stop the worker."
    )
    min_posts: int = Field(1, ge=1, description="Posts a member needs for a place by engagement rate.")

    @property
    def signing_key(self) -> bytes:
        """The secret as bytes."""
        return self.secret.get_secret_value().encode()

    def check_takes(self) -> None:
        """Raises `Unusable` for a directory that is there to be read: nothing may be written to its database."""
        if not self.kafka:
            raise Unusable(f"{self.data_dir} was made by `replay known-at`: it is there to be read, and takes nothing")

    @cached_property
    def brokers(self) -> Brokers:
        """Kafka, as clients reach it. Raises `Unusable` for settings that do not fit together or cannot be used."""
        self.check_takes()
        return security.brokers_of(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some settings replaced; how to reach Kafka is worked out from them anew."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("brokers", None)
        return copied


def from_environment(**overrides: Any) -> Settings:
    """The settings of the environment, some of them replaced. Raises `Unusable` for a value that is not valid."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"GROUNDSWELL_{'_'.join(str(part) for part in first['loc']).upper()}"
        raise Unusable(f"{name}: {first['msg']}") from None


def without_user(address: str) -> str:
    """An address of the web as a message may show it: without who we are there."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1***@", address, flags=re.IGNORECASE)


def stack_file(data_dir: Path) -> Path:
    """Where a running stack says how to reach it."""
    return data_dir / STACK_FILE


def started(pid: int) -> str:
    """When the process started, in the kernel's ticks: with its id it names it for ever. Empty where nobody tells."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(pid: int, start: str) -> bool:
    """Whether that very process runs; an id that another one has got since is not it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started(pid) == start


def running_stack(data_dir: Path) -> dict[str, Any] | None:
    """What the stack that runs on `data_dir` says of itself; None when none runs there."""
    try:
        stack: dict[str, Any] = json.loads(stack_file(data_dir).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise Unusable(f"{stack_file(data_dir)} cannot be read: {error}") from None
    return stack if is_alive(int(stack["pid"]), stack["started"]) else None


def load(data_dir: Path | None = None) -> Settings:
    """The settings to work with: those of the stack that runs on the data directory, else the environment's.

    Raises `Unusable` when no stack runs there and the environment names no Kafka and database, or something in it
    is not valid.
    """
    settings = from_environment()
    where = data_dir or settings.data_dir
    stack = running_stack(where)
    if stack is not None:
        said = {name: stack[name] for name in ("kafka", "database", "secret", "partitions", "port")}
        said |= {name: stack.get(name) for name in ("archived", "api_keys_file")}
        if os.getppid() == stack["pid"]:
            said["metrics_port"] = 0  # the roles that it starts would fight for one
        return from_environment(data_dir=where, **security.IN_THE_CLEAR, **said)
    if data_dir is not None and (data_dir / KNOWN_FILE).exists():
        database = f"sqlite:///{data_dir.absolute() / 'groundswell.db'}"
        return from_environment(data_dir=data_dir, kafka="", database=database, **security.IN_THE_CLEAR)
    missing = [name for name in ("kafka", "database") if not getattr(settings, name)]
    if len(missing) == 1:
        raise Unusable(f"GROUNDSWELL_{missing[0].upper()} is not set, and no stack runs on {where}")
    if missing:
        start = "groundswell up" if data_dir is None else f"groundswell up --data-dir {data_dir}"
        raise Unusable(
            f"no stack runs on {where}: start one with `{start}`, name its directory with --data-dir, or set "
            "GROUNDSWELL_KAFKA and GROUNDSWELL_DATABASE"
        )
    if not settings.secret.get_secret_value():
        raise Unusable("GROUNDSWELL_SECRET is not set: internal records are signed with it, give every role the same")
    if not settings.database.startswith(("sqlite:///", "postgresql://")):
        raise Unusable(
            f"GROUNDSWELL_DATABASE: {settings.database.split(':', 1)[0]} is not supported, use sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/NAME"
        )
    try:
        _ = urlsplit(settings.database).port
    except ValueError as error:
        raise Unusable(f"GROUNDSWELL_DATABASE: {error}; use postgresql://USER:PASSWORD@HOST:PORT/NAME") from None
    _ = settings.brokers  # what is wrong with them is said before anything begins
    return settings
