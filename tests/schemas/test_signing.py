"""Signatures of internal records."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.signing import SIGNATURE_HEADER, sign, verify

BYTES = st.binary(max_size=40)


@given(st.binary(min_size=1, max_size=40), BYTES, BYTES)
def test_a_signature_is_good_for_its_own_record(secret, key, value):
    assert verify(secret, key, value, sign(secret, key, value))


@given(BYTES, BYTES, BYTES, BYTES)
def test_a_signature_is_good_for_no_other_record(key, value, other_key, other_value):
    same = (key, value) == (other_key, other_value)
    assert verify(b"s", other_key, other_value, sign(b"s", key, value)) == same


def test_bytes_cannot_move_between_key_and_value():
    assert not verify(b"s", b"acme/m1", b"2x", sign(b"s", b"acme/m", b"12x"))


def test_another_secret_no_signature_and_a_cut_one_are_not_good():
    good = sign(b"secret", b"k", b"v")
    assert not verify(b"other", b"k", b"v", good)
    assert not verify(b"secret", b"k", b"v", None)
    assert not verify(b"secret", b"k", b"v", good[:-1])
    assert not verify(b"secret", b"k", b"v", b"")


def test_an_empty_secret_signs_nothing():
    with pytest.raises(ValueError, match="the signing secret is empty"):
        sign(b"", b"k", b"v")


def test_the_signature_is_plain_hmac_sha256_so_that_others_can_check_it():
    expected = hmac.new(b"secret", b"\0\0\0\1kv", hashlib.sha256).digest()
    assert sign(b"secret", b"k", b"v") == expected
    assert SIGNATURE_HEADER == "groundswell-signature"
