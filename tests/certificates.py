"""A certificate authority for tests, and PEM files as Kafka and we read them."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


class Authority:
    """Issues certificates; what it says of itself is in `file`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._ca = trustme.CA(organization_unit_name=name)
        self._directory = directory
        self.file = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *, password: bytes | None = None) -> tuple[Path, Path]:
        """A certificate for a host of that name, and its key; the key encrypted if there is a password."""
        issued = self._ca.issue_cert(name, common_name=name)
        certificate, key = (self._directory / f"{self.file.stem}-{name}.{kind}" for kind in ("pem", "key"))
        issued.cert_chain_pems[0].write_to_path(certificate)
        loaded = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pkcs8 = serialization.PrivateFormat.PKCS8  # the only one that Kafka reads
        key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, pkcs8, encryption))
        return certificate, key
