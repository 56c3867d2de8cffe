"""How every Kafka client of ours connects: the bootstrap servers, and TLS and SASL where the brokers want them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sasl:
    """Who we say we are."""

    mechanism: str
    """`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."""
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Brokers:
    """A Kafka cluster, as clients reach it."""

    servers: str
    """`host:port,host:port`, to begin with."""
    tls: ssl.SSLContext | None = None
    """None: in the clear."""
    sasl: Sasl | None = None
    """None: no authentication by SASL."""

    @property
    def security(self) -> dict[str, Any]:
        """The keyword arguments that secure any aiokafka client or connection."""
        protocol = f"{'SASL_' if self.sasl else ''}{'SSL' if self.tls else 'PLAINTEXT'}"
        secured: dict[str, Any] = {"security_protocol": protocol, "ssl_context": self.tls}
        if self.sasl:
            secured["sasl_mechanism"] = self.sasl.mechanism
            secured["sasl_plain_username"] = self.sasl.username
            secured["sasl_plain_password"] = self.sasl.password
        return secured

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments by which any aiokafka client connects."""
        return {"bootstrap_servers": self.servers, **self.security}
