"""Why brokers do not let us in: asked once more, and said in one line that names the settings to check."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from service.broker.security import NAME
from service.problems import Unusable
from streams.connection import Brokers

ASK_SECONDS: Final = 10.0
"""How long a broker may take to say why it refuses us."""
_NAMES_ANOTHER_HOST: Final = (62, 64)
"""OpenSSL's codes for a certificate of another host name, or of another IP address."""


async def unusable(brokers: Brokers, error: BaseException) -> Unusable:
    """What to say when a client has met `error` at its start."""
    why = await reason(brokers)
    if why is None:
        return Unusable(f"Kafka at {brokers.servers} does not answer, check GROUNDSWELL_KAFKA: {error}")
    return Unusable(f"Kafka at {brokers.servers} does not let us in: {why}")


async def reason(brokers: Brokers) -> str | None:
    """What the brokers have against us, and what to check; None when they let us in, or are away.

    They are asked once more, because the client keeps to itself what they said.
    """
    refused = None
    for host, port, _ in collect_hosts(brokers.servers, randomize=False):
        try:
            async with asyncio.timeout(ASK_SECONDS):
                connection = await create_conn(host, port, **brokers.security)
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    await connection.close()
        except (OSError, KafkaError, TimeoutError, ValueError) as why:
            refused = refused or _advice(why, brokers)
        else:
            return None
    return refused


def _advice(error: BaseException, brokers: Brokers) -> str | None:
    """What a broker's refusal means; None for one that is not there, or away."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return _of_certificate(found)
        if isinstance(found, ssl.SSLError):
            said = (found.reason or str(found)).lower().replace("_", " ")
            if "alert" in said and "certificate" in said:
                return f"it wants a certificate of ours ({said}): check {NAME}CERTIFICATE_FILE and {NAME}KEY_FILE"
            return f"there is no TLS to be had at that port ({said}): check {NAME}SECURITY and GROUNDSWELL_KAFKA"
        if isinstance(found, SaslAuthenticationFailed):
            return (
                f"the username, the password or the mechanism is wrong: check {NAME}SASL_USERNAME, "
                f"{NAME}SASL_PASSWORD and {NAME}SASL_MECHANISM"
            )
        if isinstance(found, UnsupportedSaslMechanismError) and brokers.sasl:
            return f"it does not take the mechanism {brokers.sasl.mechanism}: check {NAME}SASL_MECHANISM"
        if isinstance(found, IllegalSaslStateError):
            return f"there is no SASL at that port: check {NAME}SECURITY and GROUNDSWELL_KAFKA"
        found = found.__cause__
    if isinstance(error, ConnectionRefusedError | TimeoutError) or not isinstance(error, KafkaError | ConnectionError):
        return None
    if brokers.tls and not brokers.sasl:
        return f"it hangs up at once: check {NAME}SECURITY and {NAME}CERTIFICATE_FILE (does it want one, or SASL?)"
    return f"it hangs up at once: check {NAME}SECURITY and GROUNDSWELL_KAFKA (is that port for TLS, or for SASL?)"


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _NAMES_ANOTHER_HOST:
        return f"its certificate is of another host ({said}): name it in GROUNDSWELL_KAFKA as the certificate does"
    return f"its certificate is not trusted ({said}): check {NAME}CA_FILE"
