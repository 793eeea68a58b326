"""The HTTP server of a study: its page, its pictures, and votes in and out. It reads no file
outside of STUDY/public, and uses the standard library alone.

GET / is the page, GET /items/NAME.png a picture, GET /votes?rater=NAME the votes of a rater, POST
/votes adds the answers of one item. A request that is refused is answered by 4xx and {"error":
sentence}."""

import json
import re
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from vilg.report.judge import SERVED, STATIC
from vilg.run.judge.votes import Refused, Votes, posted
from vilg.types import UserError

LONGEST = 65536  # bytes of a request's body
PICTURE = re.compile(r"/(items/[0-9a-f]{32}\.png)")
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src"
    " 'unsafe-inline'; connect-src 'self'; form-action 'none'"
)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: "JudgeServer"
    server_version, sys_version = "vilg", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent client holds a thread

    def do_GET(self) -> None:
        """Sends the page, a picture, or a rater's votes."""
        address = urlsplit(self.path)
        picture = PICTURE.fullmatch(address.path)
        if address.path in ("/", "/index.html"):
            self.send(200, "text/html; charset=utf-8", self.server.page)
        elif picture and (self.server.public / picture[1]).is_file():
            self.send(200, "image/png", (self.server.public / picture[1]).read_bytes(), keep=True)
        elif address.path == "/votes":
            rater = parse_qs(address.query).get("rater", [""])[0]
            self.answer(lambda: {"votes": self.server.votes.of(rater)})
        else:
            self.say(404, {"error": f"{address.path}: is not here; open /"})

    def do_POST(self) -> None:
        """Stores the answers to an item's questions."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LONGEST:
            self.close_connection = True  # the body is left unread
            self.say(413, {"error": f"a vote has 1 to {LONGEST} bytes; send one item at a time"})
            return
        body = self.rfile.read(int(length))
        if urlsplit(self.path).path != "/votes":
            self.say(404, {"error": f"{self.path}: takes no votes; send them to /votes"})
        elif self.headers.get_content_type() != "application/json":
            # a form of another site cannot send this type
            self.say(415, {"error": "a vote is application/json; send it so"})
        else:
            self.answer(lambda: self.store(body))

    def store(self, body: bytes) -> dict[str, int]:
        """Stores the votes of a request; {"saved": their number}. Errors: Refused."""
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Refused(400, f"the vote is not JSON ({error}); reload the page") from None
        if not isinstance(request, dict):
            raise Refused(400, "the vote is not an object; reload the page")
        answers = posted(request)
        self.server.votes.add(request.get("rater"), request.get("study"), answers)
        return {"saved": len(answers)}

    def answer(self, make: Callable[[], Mapping[str, object]]) -> None:
        """Sends the object that `make` returns, or the reason for which it was refused."""
        try:
            self.say(200, make())
        except Refused as error:
            self.say(error.status, {"error": error.reason})

    def say(self, status: int, body: Mapping[str, object]) -> None:
        """Sends a JSON response."""
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status: int, kind: str, body: bytes, keep: bool = False) -> None:
        """Sends a response; with `keep` the browser may keep it, which only pictures allow."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=86400, immutable" if keep else "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing, because requests hold the names of raters."""


class JudgeServer(ThreadingHTTPServer):
    """Serves a study's public directory and stores its votes. Errors: UserError for an address on
    which it cannot listen.
    """

    daemon_threads = True
    # connections that wait to be accepted; with socketserver's 5 the votes of a room that rates at
    # once are reset
    request_queue_size = 128

    def __init__(self, host: str, port: int, public: Path, votes: Votes):
        self.public, self.votes = public, votes
        page = (public / "index.html").read_text(encoding="utf-8")
        self.page = page.replace(STATIC, SERVED, 1).encode()
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UserError(
                f"port={port}: {host} cannot be listened on there ({said}); give another --port or"
                " --host"
            ) from None

    @property
    def address(self) -> str:
        """The URL of the page."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"
