"""API keys in their file: hashed, looked up, revoked, and read again when it changes; the rate of each; addresses."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.rate_limit import SECOND_NS, RateLimit
from service.api_keys import Keys, Scope, is_loopback, known_keys
from service.problems import Unusable
from service.settings import Settings

AT = "2026-03-01T00:00:00.000Z"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.json")


def test_a_token_is_the_key_that_was_made_for_it(keys: Keys):
    acme, token = keys.create("acme", Scope.READ, AT)
    other, _ = keys.create("other", Scope.ADMIN, AT)
    assert keys.authenticate(token) == acme
    assert (acme.brand, acme.scope, acme.created_at) == ("acme", "read", AT)
    assert acme.id != other.id
    assert token.split("_", 2)[:2] == ["gsk", acme.id]
    assert len(token.split("_", 2)[2]) == 43, "32 random bytes"


@pytest.mark.parametrize(
    "wrong",
    ["", "gsk", "gsk_", "gsk__", "x", "é\udcff", "gsk_{id}", "gsk_{id}_", "gsk_{id}_x", "gsk_none_x", "{token}x",
     "{token} ", "{short}", "GSK_{id}_x", "{other}"],
)  # fmt: skip
def test_anything_else_is_no_key(keys: Keys, wrong: str):
    key, token = keys.create("acme", Scope.READ, AT)
    other, _ = keys.create("acme", Scope.READ, AT)
    other_id = token.replace(key.id, other.id)
    assert keys.authenticate(wrong.format(id=key.id, token=token, short=token[:-1], other=other_id)) is None
    assert keys.authenticate(token) == key


@given(st.text())
def test_no_text_is_a_key_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str):
    keys = Keys(tmp_path_factory.getbasetemp() / "some-keys.json")
    if not keys.path.exists():
        keys.create("acme", Scope.READ, AT)
    assert keys.authenticate(text) is None


def test_no_digest_is_a_key(keys: Keys):
    """Whoever reads the file has nothing to send."""
    key, token = keys.create("acme", Scope.ADMIN, AT)
    content = keys.path.read_text()
    assert token not in content
    assert token.split("_", 2)[2] not in content
    assert keys.authenticate(key.digest) is None
    assert keys.authenticate(f"gsk_{key.id}_{key.digest}") is None


def test_a_revoked_key_is_none_at_once_for_who_has_the_file_open(keys: Keys):
    key, token = keys.create("acme", Scope.READ, AT)
    other, other_token = keys.create("acme", Scope.READ, AT)
    serving = Keys(keys.path)
    assert serving.authenticate(token) == key
    assert keys.revoke(key.id, AT).revoked_at == AT
    assert serving.authenticate(token) is None
    assert serving.authenticate(other_token) == other
    assert keys.revoke(key.id, "2026-04-01T00:00:00.000Z").revoked_at == AT, "again changes nothing"
    with pytest.raises(Unusable, match="has no key `nope`"):
        keys.revoke("nope", AT)


def test_without_a_file_no_key_is_good_and_one_that_comes_is_seen(keys: Keys):
    serving = Keys(keys.path)
    assert serving.authenticate("gsk_a_b") is None
    key, token = keys.create("acme", Scope.READ, AT)
    assert serving.authenticate(token) == key
    keys.path.unlink()
    assert serving.authenticate(token) is None


def test_the_file_is_its_owners_alone_and_nothing_is_left_beside_it(keys: Keys):
    old = os.umask(0)
    try:
        keys.create("acme", Scope.READ, AT)
        keys.path.chmod(0o666)
        keys.create("acme", Scope.READ, AT)
    finally:
        os.umask(old)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert list(keys.path.parent.iterdir()) == [keys.path]


def test_keys_made_at_the_same_time_are_all_there(keys: Keys):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Keys(keys.path).create("acme", Scope.READ, AT), range(24)))
    assert set(keys.all()) == {key.id for key, _ in made}
    assert all(keys.authenticate(token) == key for key, token in made)


def test_a_file_that_was_interrupted_is_written_over(keys: Keys):
    keys.path.with_name("keys.json.part").write_text("half")
    key, token = keys.create("acme", Scope.READ, AT)
    assert keys.authenticate(token) == key


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"keys": [{}]}', b'{"keys": 5}', b"\xff\xfe",
                                     b'{"keys": ["\xff"]}', b'{"keys": [], "more": 1}'])  # fmt: skip
def test_a_damaged_file_lets_nobody_in_and_is_not_written_over(keys: Keys, content: bytes):
    _, token = keys.create("acme", Scope.READ, AT)
    keys.path.write_bytes(content)
    with pytest.raises(Unusable, match=r"keys\.json"):
        keys.authenticate(token)
    with pytest.raises(Unusable):
        keys.create("acme", Scope.READ, AT)
    assert keys.path.read_bytes() == content


def test_a_scope_that_there_is_not_is_a_damaged_file(keys: Keys):
    _, token = keys.create("acme", Scope.READ, AT)
    found = json.loads(keys.path.read_text())
    found["keys"][0]["scope"] = "everything"
    keys.path.write_text(json.dumps(found))
    with pytest.raises(Unusable, match="everything"):
        keys.authenticate(token)


def test_each_scope_has_those_before_it():
    assert [[one.has(other) for other in Scope] for one in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_brands_key_sees_its_brand_and_an_operators_every_one(keys: Keys):
    acme, _ = keys.create("acme", Scope.READ, AT)
    operator, _ = keys.create("*", Scope.READ, AT)
    assert [acme.sees(brand) for brand in ("acme", "other", "acm", "acme2", "*", "")] == [True] + [False] * 5
    assert operator.sees("acme")
    assert operator.sees("*")


# The rate


def test_a_second_has_so_many_requests_and_no_more_at_once():
    limit = RateLimit(4)
    assert [limit.wait_ns("a", 10) for _ in range(6)] == [0, 0, 0, 0, SECOND_NS // 4, SECOND_NS // 4]
    assert limit.wait_ns("b", 10) == 0, "each has a bucket of its own"
    assert limit.wait_ns("a", 10 + SECOND_NS // 4 - 1) == 1
    assert limit.wait_ns("a", 10 + SECOND_NS // 4) == 0


def test_without_a_limit_nobody_waits():
    limit = RateLimit(0)
    assert not any(limit.wait_ns("a", 0) for _ in range(10_000))


@given(st.integers(1, 50), st.lists(st.integers(0, SECOND_NS // 10), max_size=300))
def test_the_rate_is_that_of_a_bucket_that_fills_steadily(per_second: int, pauses: list[int]):
    """Against the obvious bucket: it holds a second, fills as time goes by, and a request takes its share."""
    limit, now = RateLimit(per_second), 0
    each = SECOND_NS // per_second
    level, at = SECOND_NS, 0
    for pause in pauses:
        now += pause
        level, at = min(SECOND_NS, level + now - at), now
        wait = limit.wait_ns("a", now)
        assert (wait == 0) == (level >= each)
        assert wait == max(0, each - level)
        if not wait:
            level -= each


# Where it listens


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example.org", False), ("127.0.0.1.nip.io", False), ("", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(host: str, is_one: bool):
    assert is_loopback(host) is is_one


def test_without_keys_it_listens_on_loopback_only_and_says_so(tmp_path: Path, keys: Keys):
    assert "loopback only" in known_keys(Settings())
    with pytest.raises(Unusable, match=r"GROUNDSWELL_HOST is 0\.0\.0\.0.*GROUNDSWELL_API_KEYS_FILE"):
        known_keys(Settings(host="0.0.0.0"))
    opened = Settings(host="0.0.0.0", api_keys_file=keys.path)
    assert "every request is refused" in known_keys(opened)
    keys.create("acme", Scope.READ, AT)
    assert known_keys(opened) == f"1 in {keys.path}"
    keys.path.write_text("{}")
    with pytest.raises(Unusable, match="no file of API keys"):
        known_keys(opened)
