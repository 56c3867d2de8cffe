"""What is no HTTP at all is answered like every other mistake: by a problem document."""

from __future__ import annotations

import json
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import MEDIA_TYPE, document

_SAID: Final = "This is no valid HTTP request; look at the characters of its address and headers."


class Protocol(HttpToolsProtocol):
    """uvicorn's, whose own answer to such a request is a line of plain text."""

    def send_400_response(self, msg: str) -> None:
        """Answer, and end the connection: nothing more on it can be told apart."""
        body = json.dumps(document("invalid_request", f"{_SAID} ({msg})") | {"status": 400}).encode()
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head.encode() + body)
        self.transport.close()
