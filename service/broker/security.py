"""Kafka's TLS and SASL settings: checked together, and made into what clients take."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from service.problems import Unusable
from streams.connection import Brokers, Sasl

if TYPE_CHECKING:
    from service.settings import Settings

NAME: Final = "GROUNDSWELL_KAFKA_"
IN_THE_CLEAR: Final = {
    "kafka_security": "plaintext",
    "kafka_ca_file": "",
    "kafka_certificate_file": "",
    "kafka_key_file": "",
    "kafka_sasl_mechanism": "",
    "kafka_sasl_username": "",
    "kafka_sasl_password": "",
}
"""The settings for the embedded stack's own broker, whatever the environment says of another one."""


def brokers_of(settings: Settings) -> Brokers:
    """What the settings say of Kafka. Raises `Unusable` for what does not fit together or cannot be read."""
    for server in settings.kafka.split(","):
        _, colon, port = server.rpartition(":")
        if colon and not port.strip().isdecimal() and not port.endswith("]"):  # that is the end of an IPv6 address
            raise Unusable(f"GROUNDSWELL_KAFKA: the port of `{server}` is no number; give `host:port,host:port`")
    security = settings.kafka_security
    files = {
        "CA_FILE": settings.kafka_ca_file,
        "CERTIFICATE_FILE": settings.kafka_certificate_file,
        "KEY_FILE": settings.kafka_key_file,
    }
    named = {
        "SASL_MECHANISM": settings.kafka_sasl_mechanism,
        "SASL_USERNAME": settings.kafka_sasl_username,
        "SASL_PASSWORD": settings.kafka_sasl_password.get_secret_value(),
    }
    tls = sasl = None
    if security in ("ssl", "sasl_ssl"):
        tls = _tls(*files.values())
    else:
        _unset(files, security, "TLS", "ssl or sasl_ssl")
    if security in ("sasl_plaintext", "sasl_ssl"):
        sasl = _sasl(named, security)
    else:
        _unset(named, security, "SASL", "sasl_ssl")
    return Brokers(settings.kafka, tls, sasl)


def _unset(named: dict[str, str], security: str, what: str, instead: str) -> None:
    """Raise `Unusable` for a setting that would have no effect: somebody believes that it has."""
    for name, value in named.items():
        if value:
            raise Unusable(
                f"{NAME}{name} is set, and {NAME}SECURITY={security} uses no {what}: set that to {instead}, or unset "
                f"{NAME}{name}"
            )


def _sasl(named: dict[str, str], security: str) -> Sasl:
    for name, value in named.items():
        if not value:
            hint = ": PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512" if name == "SASL_MECHANISM" else ""
            raise Unusable(f"{NAME}{name} is not set, and {NAME}SECURITY={security} needs it{hint}")
    return Sasl(*named.values())


def _tls(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """Verifies the broker's certificate and host name; without a CA file by the system's certificates."""
    for name, path in (("CA_FILE", ca), ("CERTIFICATE_FILE", certificate), ("KEY_FILE", key)):
        if path:
            _check_readable(name, path)
    if key and not certificate:
        raise Unusable(f"{NAME}KEY_FILE is set, and {NAME}CERTIFICATE_FILE is not: a key alone proves nothing")
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError:
        raise Unusable(f"{NAME}CA_FILE: {ca} holds no certificate in PEM format") from None
    if certificate:
        try:
            context.load_cert_chain(certificate, key or None, password=_no_password)
        except ssl.SSLError as error:
            raise Unusable(
                f"{NAME}CERTIFICATE_FILE, {NAME}KEY_FILE: {certificate} and {key or 'the key in it'} are not a "
                f"certificate and its private key in PEM format ({error.reason or error})"
            ) from None
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise Unusable(f"{NAME}{name}: {path} cannot be read ({error.strerror})") from None


def _no_password() -> str:
    raise Unusable(f"{NAME}KEY_FILE: the key is encrypted; give it without a password, readable by its user only")
