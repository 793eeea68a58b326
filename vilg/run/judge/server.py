"""The server of a study: its page, its pictures, and votes in and out. Standard library only;
nothing outside STUDY/public is read.

GET / is the page, GET /items/NAME.png a picture, GET /votes?rater=NAME that rater's votes, POST
/votes an item's answers. What cannot be kept is answered by 4xx and {"error": sentence}."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vilg.report.judge import SERVED, STATIC
from vilg.run.judge.votes import Refused, Votes, posted
from vilg.types import UserError

LONGEST = 65536  # bytes of a vote
PICTURE = re.compile(r"/(items/[0-9a-f]{32}\.png)")
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src"
    " 'unsafe-inline'; connect-src 'self'; form-action 'none'"
)


class Handler(BaseHTTPRequestHandler):
    """One request; `public` and `votes` are the server's."""

    server: "JudgeServer"
    server_version, sys_version = "vilg", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent client holds a thread

    def do_GET(self) -> None:
        """The page, a picture, or a rater's votes."""
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
        """Keeps the answers to an item's questions."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LONGEST:
            self.close_connection = True  # the body is left unread
            self.say(413, {"error": f"a vote has 1 to {LONGEST} bytes; send one item at a time"})
            return
        body = self.rfile.read(int(length))
        if urlsplit(self.path).path != "/votes":
            self.say(404, {"error": f"{self.path}: takes no votes; send them to /votes"})
        elif (
            self.headers.get_content_type() != "application/json"
        ):  # which another site's form cannot send
            self.say(415, {"error": "a vote is application/json; send it so"})
        else:
            self.answer(lambda: self.keep(body))

    def keep(self, body: bytes) -> dict[str, Any]:
        """The votes of a request, kept."""
        try:
            given = json.loads(body)
        except ValueError as error:
            raise Refused(400, f"the vote is not JSON ({error}); reload the page") from None
        if not isinstance(given, dict):
            raise Refused(400, "the vote is not an object; reload the page")
        answers = posted(given)
        self.server.votes.add(given.get("rater"), given.get("study"), answers)
        return {"saved": len(answers)}

    def answer(self, make: Any) -> None:
        """What `make` gives, or why it was refused."""
        try:
            self.say(200, make())
        except Refused as error:
            self.say(error.status, {"error": error.reason})

    def say(self, status: int, body: dict[str, Any]) -> None:
        """A JSON response."""
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status: int, kind: str, body: bytes, keep: bool = False) -> None:
        """A response; nothing but pictures may be kept by the browser."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=86400, immutable" if keep else "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: raters' names are nobody's business."""


class JudgeServer(ThreadingHTTPServer):
    """Serves a study's public directory and takes its votes. Errors: UserError for an address that
    cannot be had.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, public: Path, votes: Votes):
        self.public, self.votes = public, votes
        page = (public / "index.html").read_text(encoding="utf-8")
        self.page = page.replace(STATIC, SERVED, 1).encode()
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"port={port}: {host} cannot be listened on there ({said}); give another --port or"
                " --host"
            ) from None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"
