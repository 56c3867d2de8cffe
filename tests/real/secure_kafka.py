"""A real Apache Kafka that lets nobody in without a password over TLS, or without a certificate."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from certificates import Authority
from kafka import CannotStart, Kafka, free_port

USERNAME = "groundswell"
PASSWORD = "correct-horse-battery"
HOST = "localhost"
"""What the broker's certificate is for."""
ALLOWED = [
    "--topic * --operation Create --operation Describe --operation DescribeConfigs --operation Read --operation Write",
    "--group groundswell --operation Read",
    "--transactional-id groundswell- --resource-pattern-type prefixed --operation Describe --operation Write",
]


@dataclass
class SecureKafka(Kafka):
    """Its plain listener is for the test itself; others are `SASL` (a password over TLS), `MUTUAL` and `CLEAR`."""

    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in ("SASL", "MUTUAL", "CLEAR")})

    def __post_init__(self) -> None:
        directory = self.directory / "certificates"
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(directory, "authority")
        self.ours = self.authority.issue(USERNAME)
        certificate, key = self.authority.issue(HOST)
        self._both = directory / "broker.pem"
        self._both.write_bytes(key.read_bytes() + certificate.read_bytes())

    @classmethod
    def start(cls, directory: Path, *, heap_mb: int = 700) -> Self:
        """As for a plain one; our user may then do what docs/deployment.md asks for, and no more."""
        broker = super().start(directory, heap_mb=heap_mb)
        command = [*broker._java(64), "org.apache.kafka.tools.AclCommand", "--bootstrap-server", broker.bootstrap]
        command += ["--add", "--allow-principal", f"User:{USERNAME}"]
        running = [
            subprocess.Popen([*command, *of.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for of in ALLOWED
        ]
        for process in running:
            said, _ = process.communicate(timeout=60)
            if process.returncode:
                raise CannotStart(f"Kafka does not take an ACL: {said}")
        return broker

    def format_options(self) -> list[str]:
        """The user whose password is kept as a salted hash."""
        return ["--add-scram", f"SCRAM-SHA-512=[name={USERNAME},password={PASSWORD}]"]

    def properties(self, controller: int) -> dict[str, object]:
        """Those of a plain broker, and the other listeners."""
        plain = super().properties(controller)
        security = "org.apache.kafka.common.security"
        for name, port in self.ports.items():
            plain["listeners"] = f"{plain['listeners']},{name}://127.0.0.1:{port}"
            plain["advertised.listeners"] = f"{plain['advertised.listeners']},{name}://{HOST}:{port}"
        plain["listener.security.protocol.map"] = (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,CLEAR:SASL_PLAINTEXT"
        )
        plain["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        plain["super.users"] = "User:ANONYMOUS"  # the test itself, and the broker
        plain["ssl.principal.mapping.rules"] = "RULE:^.*CN=([^,]+).*$/$1/"
        plain["sasl.enabled.mechanisms"] = "SCRAM-SHA-512,PLAIN"
        plain["listener.name.mutual.ssl.client.auth"] = "required"
        for name in ("sasl", "clear"):
            of = f"listener.name.{name}"
            plain[f"{of}.scram-sha-512.sasl.jaas.config"] = f"{security}.scram.ScramLoginModule required;"
            plain[f"{of}.plain.sasl.jaas.config"] = (
                f'{security}.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";'
            )
        for name in ("sasl", "mutual"):
            for store, file in (("keystore", self._both), ("truststore", self.authority.file)):
                plain[f"listener.name.{name}.ssl.{store}.type"] = "PEM"
                plain[f"listener.name.{name}.ssl.{store}.location"] = file
        return plain

    def at(self, listener: str, host: str = HOST) -> str:
        """The address of a listener."""
        return f"{host}:{self.ports[listener]}"

    def with_password(self, mechanism: str = "SCRAM-SHA-512", **changed: str) -> dict[str, str]:
        """The settings that are let in at `SASL`, some of them changed."""
        return _variables(
            {
                "": self.at("SASL"),
                "_SECURITY": "sasl_ssl",
                "_CA_FILE": str(self.authority.file),
                "_SASL_MECHANISM": mechanism,
                "_SASL_USERNAME": USERNAME,
                "_SASL_PASSWORD": PASSWORD,
                **changed,
            }
        )

    def with_certificate(self, **changed: str) -> dict[str, str]:
        """The settings that are let in at `MUTUAL`, some of them changed."""
        certificate, key = self.ours
        return _variables(
            {
                "": self.at("MUTUAL"),
                "_SECURITY": "ssl",
                "_CA_FILE": str(self.authority.file),
                "_CERTIFICATE_FILE": str(certificate),
                "_KEY_FILE": str(key),
                **changed,
            }
        )


def _variables(settings: dict[str, str]) -> dict[str, str]:
    return {f"GROUNDSWELL_KAFKA{name}": value for name, value in settings.items()}
