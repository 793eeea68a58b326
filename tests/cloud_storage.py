"""A stand-in for Google Cloud Storage: its JSON API over loopback, as far as gcsfs, TensorStore and
google-cloud-storage use it.

It is a server and no patched client, so that vilg, etils, Orbax and JAX read and write gs://
through the very code that they use on a pod. Buckets are directories of nothing: objects are bytes
in memory by (bucket, name), each with a generation, as there."""

import base64
import contextlib
import email
import hashlib
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import google_crc32c


class Store:
    """The objects, and the uploads that are under way."""

    def __init__(self):
        self.objects: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.uploads: dict[str, tuple[str, str, bytearray]] = {}
        self.generations = itertools.count(1_700_000_000_000_000)
        self.lock = threading.Lock()

    def put(self, bucket: str, name: str, content: bytes, wanted: str | None = None) -> dict | None:
        """The object's metadata; None where it has not the generation that was asked for ("0": is
        not there).
        """
        with self.lock:
            if wanted is not None and self.objects.get((bucket, name), (b"", 0))[1] != int(wanted):
                return None
            self.objects[bucket, name] = (content, next(self.generations))
        return self.describe(bucket, name)

    def describe(self, bucket: str, name: str) -> dict:
        content, generation = self.objects[bucket, name]
        sums = {
            "md5Hash": hashlib.md5(content).digest(),
            "crc32c": google_crc32c.Checksum(content).digest(),
        }
        times = dict.fromkeys(("timeCreated", "updated"), "2026-11-01T00:00:00.000Z")
        described = {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(content)),
            "generation": str(generation),
        }
        return {
            **described,
            "metageneration": "1",
            "etag": str(generation),
            **times,
            **{k: base64.b64encode(v).decode() for k, v in sums.items()},
        }

    def list(
        self, bucket: str, prefix: str, delimiter: str, first: str = "", end: str = ""
    ) -> dict:
        items, prefixes = [], {}
        for there, name in sorted(self.objects):
            if (
                there != bucket
                or not name.startswith(prefix)
                or name < first
                or (end and name >= end)
            ):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes[prefix + rest.partition(delimiter)[0] + delimiter] = None
            else:
                items.append(self.describe(bucket, name))
        return {"kind": "storage#objects", "items": items, "prefixes": list(prefixes)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in (
            {"Content-Type": kind, "Content-Length": str(len(data))} | headers
        ).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # clients end reads that they no longer need
                self.wfile.write(data)

    def missing(self) -> None:
        self.answer(
            404,
            {
                "error": {
                    "code": 404,
                    "message": "No such object",
                    "errors": [{"reason": "notFound", "message": "No such object"}],
                }
            },
        )

    def refused(self) -> None:
        self.answer(
            412,
            {
                "error": {
                    "code": 412,
                    "message": "conditionNotMet",
                    "errors": [{"reason": "conditionNotMet"}],
                }
            },
        )

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        url = urllib.parse.urlsplit(self.path)
        asked = {
            k: v[0] for k, v in urllib.parse.parse_qs(url.query, keep_blank_values=True).items()
        }
        if url.path.startswith("/batch/storage/v1"):
            return self.batch(body)
        status, content, headers = self.reply(self.command, url.path, asked, body, self.headers)
        if status == 404:
            return self.missing()
        if status == 412:
            return self.refused()
        self.answer(status, content, **headers)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

    def batch(self, body: bytes) -> None:
        whole = email.message_from_bytes(
            f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body
        )
        parts = []
        for part in whole.get_payload():
            method, path, _ = part.get_payload().lstrip().split(" ", 2)
            url = urllib.parse.urlsplit(path)
            status = self.reply(method, url.path, {}, b"", {})[0]
            told = (
                f"HTTP/1.1 {status} {'OK' if status < 300 else 'Not Found'}\r\nContent-Length:"
                " 0\r\n\r\n"
            )
            parts.append(
                "--b\r\nContent-Type: application/http\r\nContent-ID:"
                f" <response-{part['Content-ID'].strip('<>')}>\r\n\r\n{told}\r\n"
            )
        self.answer(
            200, ("".join(parts) + "--b--\r\n").encode(), Content_Type="multipart/mixed; boundary=b"
        )

    def reply(
        self, method: str, path: str, asked: dict, body: bytes, headers: Any
    ) -> tuple[int, Any, dict]:
        store = self.store
        found = re.fullmatch(
            r"(/upload|/download)?/storage/v1/b(?:/([^/]+))?(?:/(o|storageLayout))?(?:/(.+))?", path
        )
        if not found:
            return 404, b"", {}
        kind, bucket, part, name = (
            found[1],
            found[2],
            found[3],
            urllib.parse.unquote(found[4] or ""),
        )
        if part != "o":
            return (
                200,
                {
                    "kind": "storage#bucket",
                    "name": bucket,
                    "id": bucket,
                    "location": "US",
                    "locationType": "region",
                    "storageClass": "STANDARD",
                },
                {},
            )
        if kind == "/upload":
            return self.upload(method, bucket, asked, body, headers)
        if moved := re.fullmatch(r"(.+)/moveTo/o/(.+)", found[4] or ""):
            source, target = urllib.parse.unquote(moved[1]), urllib.parse.unquote(moved[2])
            if (bucket, source) not in store.objects:
                return 404, b"", {}
            described = store.put(bucket, target, store.objects[bucket, source][0])
            del store.objects[bucket, source]
            return 200, described, {}
        if copied := re.fullmatch(r"(.+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", found[4] or ""):
            source, target = urllib.parse.unquote(copied[1]), urllib.parse.unquote(copied[3])
            if (bucket, source) not in store.objects:
                return 404, b"", {}
            resource = store.put(copied[2], target, store.objects[bucket, source][0])
            return (
                200,
                {"done": True, "resource": resource, "objectSize": "0", "totalBytesRewritten": "0"},
                {},
            )
        if not name:
            first, end = asked.get("startOffset", ""), asked.get("endOffset", "")
            return (
                200,
                store.list(bucket, asked.get("prefix", ""), asked.get("delimiter", ""), first, end),
                {},
            )
        if (bucket, name) not in store.objects:
            return 404, b"", {}
        content, generation = store.objects[bucket, name]
        if method == "DELETE":
            if asked.get("ifGenerationMatch", str(generation)) != str(generation):
                return 412, b"", {}
            store.objects.pop((bucket, name), None)
            return 204, b"", {}
        if asked.get("ifGenerationNotMatch") == str(generation):
            return 304, b"", {}
        if asked.get("alt") != "media":
            return 200, store.describe(bucket, name), {}
        told = {"x_goog_generation": str(generation), "ETag": str(generation)}
        if wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", "")):
            size = len(content)
            start = int(wanted[1]) if wanted[1] else size - int(wanted[2])
            stop = min(int(wanted[2]) + 1 if wanted[1] and wanted[2] else size, size)
            if start >= size:
                return 416, b"", {}
            return (
                206,
                content[start:stop],
                told | {"Content_Range": f"bytes {start}-{stop - 1}/{size}"},
            )
        return 200, content, told

    def upload(
        self, method: str, bucket: str, asked: dict, body: bytes, headers: Any
    ) -> tuple[int, Any, dict]:
        kind, wanted = asked.get("uploadType"), asked.get("ifGenerationMatch")
        if "upload_id" in asked:
            bucket, name, before = self.store.uploads[asked["upload_id"]]
            before += body
            if headers.get("Content-Range", "").endswith("/*"):
                return 308, b"", {"Range": f"bytes=0-{len(before) - 1}"}
            described = self.store.put(bucket, name, bytes(before))
        elif kind == "resumable":
            name = asked.get("name") or json.loads(body)["name"]
            id = str(next(self.store.generations))
            self.store.uploads[id] = (bucket, name, bytearray())
            page = f"http://{headers['Host']}/upload/storage/v1/b/{bucket}/o"
            return 200, b"", {"Location": f"{page}?uploadType=resumable&upload_id={id}"}
        elif kind == "multipart":
            whole = email.message_from_bytes(
                b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
            )
            about, _ = whole.get_payload()
            boundary = b"--" + whole.get_boundary().encode()
            content = body.split(boundary)[2].partition(
                b"\n\n" if b"\r\n\r\n" not in body.split(boundary)[2] else b"\r\n\r\n"
            )[2]
            content = content[: -2 if content.endswith(b"\r\n") else -1]
            described = self.store.put(
                bucket, json.loads(about.get_payload())["name"], content, wanted
            )
        else:
            described = self.store.put(bucket, asked["name"], body, wanted)
        return (200, described, {}) if described else (412, b"", {})


@contextlib.contextmanager
def cloud_storage() -> Iterator[tuple[Store, dict[str, str]]]:
    """(what is stored, the environment with which clients find it) while the server runs."""
    store = Store()
    handler = type("Bound", (Handler,), {"store": store})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    variables = {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "FSSPEC_GCS_TOKEN": "anon",
        "GOOGLE_CLOUD_PROJECT": "project",
    }
    try:
        yield store, variables
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
