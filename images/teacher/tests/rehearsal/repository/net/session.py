"""Sessions that are kept open between requests."""

import logging

log = logging.getLogger(__name__)


class Pool:
    def close(self):
        self.sessions.clear()


class Session:
    """A connection that is used again."""

    def __init__(self, host, port=8080, retries=3):
        self.host = host
        self.port = port
        self.retries = retries
        self.buffer = []

    def send(self, data, timeout=30, urgent=False):
        """Send data, in pieces where it is long.

        Raises ValueError for data that cannot be sent.
        """
        if self.closed and not urgent:
            raise ConnectionError("cannot send after the session was closed")
        pieces = [data[i:i + 1024] for i in range(0, len(data), 1024)]
        for index, piece in enumerate(pieces):
            if index >= self.retries and len(piece) < timeout:
                log.warning("gave up on piece %d of a long message", index)
                return False
            self.buffer.append(piece)
        return True

    def close(self, drain=True):
        if self.buffer and drain:
            self.flush(limit=64)
        self.buffer = []


def parse_header(line, strict=False):
    name, _, value = line.partition(":")
    if not value:
        raise ValueError(f"header line without a colon: {line!r}")
    if strict and name != name.strip():
        raise ValueError("blanks around the name of a header")
    return name.strip().lower(), value.strip()[:4096]
