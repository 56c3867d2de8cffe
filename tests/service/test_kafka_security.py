"""Kafka's TLS and SASL settings fit together or are refused in one line, and what is secret is not shown."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority

from service import condition
from service.migrate import migrate
from service.problems import Unusable
from service.settings import Settings, load, started

HIDDEN = "correct-horse-battery"
SASL = {"SASL_MECHANISM": "SCRAM-SHA-512", "SASL_USERNAME": "groundswell", "SASL_PASSWORD": HIDDEN}
Given = Callable[..., Settings]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Loads the settings as a command does, from these variables of Kafka."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDSWELL_KAFKA", "kafka.internal:9093")
    monkeypatch.setenv("GROUNDSWELL_DATABASE", f"sqlite:///{tmp_path / 'l.db'}")
    monkeypatch.setenv("GROUNDSWELL_SECRET", "s")

    def loaded(**variables: object) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"GROUNDSWELL_KAFKA_{name}", str(value))
        return load()

    return loaded


def test_without_settings_clients_connect_in_the_clear(given):
    assert given().brokers.options == {
        "bootstrap_servers": "kafka.internal:9093",
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
    }


@pytest.mark.parametrize("security", ["ssl", "sasl_ssl", "SASL_SSL", "sasl_plaintext"])
def test_clients_connect_as_the_settings_say(given, authority, security):
    has_tls, has_sasl = "ssl" in security.lower(), "sasl" in security.lower()
    more = {"CA_FILE": authority.file} if has_tls else {}
    options = given(SECURITY=security, **more, **(SASL if has_sasl else {})).brokers.options
    assert options["security_protocol"] == security.upper()
    context = options["ssl_context"]
    if has_tls:
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert len(context.get_ca_certs()) == 1  # nobody else's word is taken
    else:
        assert context is None
    sasl = {name: value for name, value in options.items() if name.startswith("sasl_")}
    expected = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "groundswell", "sasl_plain_password": HIDDEN}
    assert sasl == (expected if has_sasl else {})


def test_without_a_ca_file_the_systems_certificates_count(given):
    context = given(SECURITY="ssl").brokers.tls
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()


def test_a_certificate_of_ours_is_taken_with_its_key_in_one_file_or_in_two(given, authority, tmp_path):
    certificate, key = authority.issue("groundswell")
    assert given(SECURITY="ssl", CERTIFICATE_FILE=certificate, KEY_FILE=key).brokers.tls
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    assert given(CERTIFICATE_FILE=both, KEY_FILE="").brokers.tls


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"SECURITY": "tls"}, "GROUNDSWELL_KAFKA_SECURITY: Input should be 'plaintext', 'ssl'"),
        ({"SECURITY": "sasl_ssl"}, "SASL_MECHANISM is not set.*PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ({"SECURITY": "sasl_ssl", "SASL_MECHANISM": "PLAIN"}, "SASL_USERNAME is not set"),
        ({"SECURITY": "sasl_ssl", "SASL_MECHANISM": "plain", "SASL_USERNAME": "u"}, "SASL_PASSWORD is not set"),
        ({"SECURITY": "sasl_ssl", "SASL_MECHANISM": "GSSAPI"}, "GROUNDSWELL_KAFKA_SASL_MECHANISM: Input should be"),
        (SASL, "SASL_MECHANISM is set, and GROUNDSWELL_KAFKA_SECURITY=plaintext uses no SASL: set that to sasl_ssl"),
        ({"SECURITY": "ssl", "SASL_PASSWORD": HIDDEN}, "SASL_PASSWORD is set, and GROUNDSWELL_KAFKA_SECURITY=ssl"),
        ({"CA_FILE": "ca.pem"}, "CA_FILE is set, and GROUNDSWELL_KAFKA_SECURITY=plaintext uses no TLS"),
        ({"SECURITY": "ssl", "CA_FILE": "nowhere.pem"}, r"CA_FILE: nowhere.pem cannot be read \(No such file"),
        ({"SECURITY": "ssl", "CA_FILE": "."}, r"CA_FILE: \. cannot be read \(Is a directory"),
        ({"SECURITY": "ssl", "CA_FILE": "text"}, "CA_FILE: text holds no certificate in PEM format"),
        ({"SECURITY": "ssl", "CERTIFICATE_FILE": "nowhere.pem"}, "CERTIFICATE_FILE: nowhere.pem cannot be read"),
        ({"SECURITY": "ssl", "CERTIFICATE_FILE": "text"}, "KEY_FILE: text and the key in it are not a certificate"),
        ({"SECURITY": "ssl", "KEY_FILE": "text"}, "KEY_FILE is set, and GROUNDSWELL_KAFKA_CERTIFICATE_FILE is not"),
    ],
)
def test_what_does_not_fit_together_is_one_line_that_names_the_setting(given, tmp_path, variables, says):
    (tmp_path / "text").write_text("no certificate\n")
    with pytest.raises(Unusable, match=says) as caught:
        given(**variables)
    assert "\n" not in str(caught.value)
    assert HIDDEN not in str(caught.value)


def test_a_key_of_another_certificate_or_with_a_password_is_refused_without_asking_for_one(given, authority):
    certificate, _ = authority.issue("groundswell")
    _, another = authority.issue("another")
    with pytest.raises(Unusable, match="are not a certificate and its private key"):
        given(SECURITY="ssl", CERTIFICATE_FILE=certificate, KEY_FILE=another)
    certificate, key = authority.issue("locked", password=b"x")
    with pytest.raises(Unusable, match="the key is encrypted"):
        given(CERTIFICATE_FILE=certificate, KEY_FILE=key)


def test_status_shows_the_settings_and_hides_the_password(given, authority, tmp_path):
    settings = given(SECURITY="sasl_ssl", CA_FILE=authority.file, **SASL)
    migrate(settings.database)
    shown = condition.status(settings)["settings"]
    assert shown["kafka_security"] == "sasl_ssl"
    assert shown["kafka_ca_file"] == str(authority.file)
    assert shown["kafka_sasl_username"] == "groundswell"
    assert shown["kafka_sasl_password"].strip("*") == ""
    assert HIDDEN not in json.dumps(shown)
    assert HIDDEN not in repr(settings)
    assert HIDDEN not in repr(settings.brokers)


def test_the_embedded_stacks_own_broker_is_reached_in_the_clear_whatever_the_environment_says(given, tmp_path):
    stack = {"pid": os.getpid(), "started": started(os.getpid()), "kafka": "127.0.0.1:1", "database": "sqlite:///x",
             "port": 9, "secret": "s", "partitions": 3}  # fmt: skip
    directory = tmp_path / ".groundswell"
    directory.mkdir()
    (directory / "stack.json").write_text(json.dumps(stack))
    settings = given(SECURITY="sasl_ssl", **SASL)
    assert settings.brokers.options["security_protocol"] == "PLAINTEXT"
    assert HIDDEN not in repr(settings.brokers.options)
