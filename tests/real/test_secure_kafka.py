"""Over TLS, with a password or a certificate, everything works; whoever is not let in is told why, in one line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
from certificates import Authority
from deployment import Deployment, finished
from kafka import free_port
from secure_kafka import SecureKafka

from service.broker import topic_admin
from service.problems import Unusable
from service.settings import Settings

SECONDS = 20
"""Within which a program that is not let in has said so."""
PURCHASE = {"occurred_at": "2025-10-01T10:00:00Z", "brand_id": "blue", "member_id": "ann", "kind": "completed",
            "amount_minor": 90_000, "currency": "USD", "campaign_id": "loyal"}  # fmt: skip


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """In place of the one that lets everybody in."""
    broker = SecureKafka.start(tmp_path_factory.mktemp("secure-kafka"))
    yield broker
    broker.kill()


def settings_of(variables: dict[str, str]) -> Settings:
    return Settings(**{name.removeprefix("GROUNDSWELL_").lower(): value for name, value in variables.items()})


@contextmanager
def api(deployment: Deployment) -> Iterator[httpx.Client]:
    """The API of a deployment, as a process of its own."""
    port = free_port()
    with (deployment.directory / "api.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "api"], stdout=log, stderr=log,
            env={**deployment.environment, "GROUNDSWELL_PORT": str(port)},
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deployment.until(lambda: answers(client), 60, "the API answers")
            yield client
    finally:
        process.terminate()
        process.wait(20)


def answers(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/healthz").status_code == 200
    return False


def test_every_role_and_command_works_over_tls_with_a_password(deploy, kafka, tmp_path):
    deployment: Deployment = deploy(**kafka.with_password())
    deployment.workers.scale(2)
    assert "all topics are as they must be" in deployment.run("topics", "check")
    purchases = tmp_path / "purchases.jsonl"
    lines = [{**PURCHASE, "event_id": f"e{n}", "order_id": f"o{n}"} for n in range(20)]
    stranger = {**lines[0], "event_id": "x", "order_id": "x", "brand_id": "nobody", "campaign_id": None}
    purchases.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, stranger]))
    deployment.run("publish", "purchases", str(purchases))
    deployment.run("wait", "--timeout", "60")
    with api(deployment) as client:
        deployment.until(lambda: client.get("/readyz").status_code == 200, 30, "ready")
        url = "/v1/brands/blue/members/ann"
        spent = client.post(f"{url}/redemptions", json={"points": 1_000}, headers={"Idempotency-Key": "k"})
        assert spent.status_code == 201, spent.text
        position = spent.json()["position"]
        balance = client.get(f"{url}/balance", params={"min_position": position}).json()
    assert (balance["active"], balance["spent"]) == (20 * 2_700 - 1_000, 1_000)
    assert "unknown_brand" in deployment.run("dlt", "list")
    archive = str(tmp_path / "archive")
    assert "archived" in deployment.run("archive", "create", archive)
    assert "is as it was written" in deployment.run("archive", "verify", archive)
    assert not deployment.workers.unasked()
    assert not deployment.projectors.unasked()


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "PLAIN", "certificate"])
def test_a_password_or_a_certificate_lets_us_in(kafka, way):
    variables = kafka.with_certificate() if way == "certificate" else kafka.with_password(way)
    settings = settings_of(variables)
    asyncio.run(topic_admin.create(settings))
    assert asyncio.run(topic_admin.check(settings)) == []


# The client leaves a connection that was refused in the middle of its handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_reason_for_not_being_let_in_names_the_setting_to_check(kafka, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    certificate, key = (str(path) for path in stranger.issue("groundswell"))
    in_the_clear = {"_SECURITY": "plaintext", "_CA_FILE": "", "_SASL_MECHANISM": "", "_SASL_USERNAME": "",
                    "_SASL_PASSWORD": ""}  # fmt: skip
    only_tls = {**in_the_clear, "_SECURITY": "ssl", "_CA_FILE": str(kafka.authority.file)}
    sasl_only = {"_SECURITY": "sasl_plaintext", "_CA_FILE": ""}
    tls_or_sasl = "check GROUNDSWELL_KAFKA_SECURITY"
    cases = [
        (kafka.with_password(_SASL_PASSWORD="wrong"), "check .*SASL_USERNAME, .*SASL_PASSWORD and .*SASL_MECHANISM"),
        (kafka.with_password("PLAIN", _SASL_PASSWORD="wrong"), "SASL_PASSWORD"),
        (kafka.with_password(_SASL_USERNAME="somebody"), "SASL_USERNAME"),
        (kafka.with_password("SCRAM-SHA-256"), "does not take the mechanism SCRAM-SHA-256"),
        (kafka.with_password(_CA_FILE=str(stranger.file)), "certificate is not trusted .*: check .*CA_FILE"),
        (kafka.with_password(**{"": kafka.at("SASL", "127.0.0.1")}), "is of another host .*GROUNDSWELL_KAFKA"),
        (kafka.with_password(**{"": kafka.bootstrap}), tls_or_sasl),
        (kafka.with_password(**{"": kafka.at("CLEAR")}), tls_or_sasl),
        (kafka.with_password(**{"": kafka.bootstrap, **sasl_only}), "there is no SASL at that port"),
        (kafka.with_password(**in_the_clear), tls_or_sasl),
        (kafka.with_password(**{**in_the_clear, "": kafka.at("CLEAR")}), tls_or_sasl),
        (kafka.with_password(**only_tls), tls_or_sasl),
        (kafka.with_certificate(_CERTIFICATE_FILE="", _KEY_FILE=""), "check .*CERTIFICATE_FILE"),
        (kafka.with_certificate(_CERTIFICATE_FILE=certificate, _KEY_FILE=key), "check .*CERTIFICATE_FILE"),
    ]
    for variables, says in cases:
        began = time.monotonic()
        with pytest.raises(Unusable, match=f"Kafka at .* does not let us in: .*{says}") as caught:
            asyncio.run(topic_admin.check(settings_of(variables)))
        assert "\n" not in str(caught.value)
        assert time.monotonic() - began < SECONDS, says


@pytest.mark.parametrize("setting", ["_SASL_PASSWORD", "_CA_FILE"])
def test_no_role_and_no_command_tries_for_ever_with_what_is_wrong(deploy, kafka, tmp_path, setting):
    deployment: Deployment = deploy(**kafka.with_password())
    wrong = "wrong" if setting == "_SASL_PASSWORD" else str(Authority(tmp_path, "stranger").file)
    deployment.environment.update(kafka.with_password(**{setting: wrong}))
    deployment.projectors.scale(0)
    purchases = tmp_path / "purchases.jsonl"
    purchases.write_text(json.dumps({**PURCHASE, "event_id": "e", "order_id": "o"}) + "\n")
    began = time.monotonic()
    commands = [["worker"], ["projector"], ["topics", "check"], ["wait"], ["dlt", "list"],
                ["publish", "purchases", str(purchases)], ["redeem", "blue", "ann", "5", "--json"]]  # fmt: skip
    running = [deployment.command(*command) for command in commands]
    for command, process in zip(commands, running, strict=True):
        lines = finished(process, 2).splitlines()
        assert len(lines) == 1 or command[0] in ("worker", "projector"), lines  # a role logs what its client says too
        assert f"GROUNDSWELL_KAFKA{setting}" in lines[-1]
        assert "Traceback" not in "".join(lines)
    with api(deployment) as client:
        missing = client.get("/readyz").json()["missing"]
        assert any(f"GROUNDSWELL_KAFKA{setting}" in line for line in missing), missing
        answer = client.post(
            "/v1/brands/blue/members/ann/redemptions", json={"points": 5}, headers={"Idempotency-Key": "k"}
        )
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert time.monotonic() - began < 6 * SECONDS
