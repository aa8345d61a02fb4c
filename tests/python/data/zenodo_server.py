"""A server on this machine that answers as Zenodo does, and misbehaves on request."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RECORD = 7257688
NAMES = ("labels.geojson", "features.tar.gz", "test_features.tar.gz")

Fault = Callable[["Handler", bytes], None]


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``faults`` answer the first requests for a file, one each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # Larger than what socket buffers swallow would make the tests slow; this is enough.
        self.files = {name: name.encode() * 3000 for name in NAMES}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.edit: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.requests: list[tuple[str, str | None]] = []
        self.stopping = threading.Event()

    def record(self) -> bytes:
        files = [
            {
                "key": name,
                "size": len(content),
                "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                "links": {"self": f"{self.url}/api/records/{RECORD}/files/{name}/content"},
            }
            for name, content in self.files.items()
        ]
        answer = self.edit({"id": RECORD, "files": files})
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what is tested."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 10

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == f"/api/records/{RECORD}":
            name, content = "record", self.server.record()
        else:
            name = self.path.partition("?")[0].removesuffix("/content").rpartition("/")[2]
            content = self.server.files.get(name, b"")
        self.server.requests.append((name, self.headers["Range"]))
        if self.server.faults[name]:
            self.server.faults[name].pop(0)(self, content)
        elif name in self.server.always:
            self.server.always[name](self, content)
        elif name in (*self.server.files, "record"):
            serve(self, content)
        else:
            status(404)(self, content)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def tag(content: bytes) -> str:
    return f'"{hashlib.sha1(content).hexdigest()}"'


def serve(handler: Handler, content: bytes) -> None:
    """Answer as a good server: ranges, and If-Range."""
    wanted = handler.headers["Range"]
    condition = handler.headers["If-Range"]
    if wanted is None or condition not in (None, tag(content)):
        handler.head(200, Content_Length=len(content), ETag=tag(content))
    else:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        given = f"bytes {start}-{len(content) - 1}/{len(content)}"
        content = content[start:]
        handler.head(206, Content_Length=len(content), Content_Range=given)
    handler.wfile.write(content)


def status(code: int, **headers: object) -> Fault:
    return lambda handler, _: handler.head(code, Content_Length=0, **headers)


def instead(content: bytes) -> Fault:
    """Serve something else."""
    return lambda handler, _: serve(handler, content)


def drops(handler: Handler, content: bytes) -> None:
    """Promise all, send half, close."""
    handler.head(200, Content_Length=len(content), ETag=tag(content))
    handler.wfile.write(content[: len(content) // 2])


def resets(handler: Handler, content: bytes) -> None:
    """Promise all, send half, reset the connection."""
    drops(handler, content)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def truncates(handler: Handler, content: bytes) -> None:
    """Promise half and send half, as if that were all."""
    half = content[: len(content) // 2]
    handler.head(200, Content_Length=len(half), ETag=tag(content))
    handler.wfile.write(half)


def promises_more(handler: Handler, content: bytes) -> None:
    handler.head(200, Content_Length=2 * len(content))
    handler.wfile.write(content)


def promises_less(handler: Handler, content: bytes) -> None:
    handler.head(200, Content_Length=len(content) // 3, ETag=tag(content))
    handler.wfile.write(content)


def promises_nothing(handler: Handler, content: bytes) -> None:
    """No length at all, and half of the content."""
    handler.head(200)
    handler.wfile.write(content[: len(content) // 2])


def breaks_a_chunk(handler: Handler, content: bytes) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.head(200, Transfer_Encoding="chunked", Connection="close")
    handler.wfile.write(b"%x\r\n" % len(content) + content[:1000])
    handler.close_connection = True


def stalls(handler: Handler, content: bytes) -> None:
    """Send half, then nothing for longer than anybody waits."""
    drops(handler, content)
    handler.wfile.flush()
    handler.server.stopping.wait(5)


def speaks_no_http(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"220 ready\r\n\r\n")


def ignores_ranges(handler: Handler, content: bytes) -> None:
    handler.head(200, Content_Length=len(content))
    handler.wfile.write(content)


def gives_another_range(handler: Handler, content: bytes) -> None:
    """Give the start of the file where its end was asked for."""
    handler.head(206, Content_Length=10, Content_Range=f"bytes 0-9/{len(content)}")
    handler.wfile.write(content[:10])


def gives_a_range_unasked(handler: Handler, content: bytes) -> None:
    gives_another_range(handler, content)


def names_an_encoding(handler: Handler, content: bytes) -> None:
    """Call the archive's own compression one of the transfer, as some servers do."""
    handler.head(200, Content_Length=len(content), Content_Encoding="gzip")
    handler.wfile.write(content)


def sends_more(handler: Handler, content: bytes) -> None:
    serve(handler, content + b"more")


def moved_to(address: str) -> Fault:
    return status(302, Location=address)
