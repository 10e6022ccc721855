"""A Hugging Face hub on this machine: repositories can be made, committed to and read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Repositories = dict[str, dict[str, dict[str, bytes]]]
"""By "models/owner/name": files by their names, by commit."""


@contextmanager
def serving() -> Iterator[tuple[dict[str, str], Repositories]]:
    """The variables with which huggingface_hub finds a new hub, and what is on it."""
    repositories: Repositories = {}

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.partition("?")[0]
            if path == "/api/validate-yaml":
                self.answer({})
            elif path == "/api/repos/create":
                given = json.loads(body)
                place = f"{given.get('type') or 'model'}s/{given['organization']}/{given['name']}"
                repositories.setdefault(place, {"0" * 40: {".gitattributes": b""}})
                self.answer({"url": place, "id": place.partition("/")[2]})
            elif found := re.match(r"/api/(\w+/[^/]+/[^/]+)/preupload/main", path):
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                self.answer({"files": files})
            elif found := re.match(r"/api/(\w+/[^/]+/[^/]+)/commit/main", path):
                commits = repositories[found[1]]
                files = dict(list(commits.values())[-1])
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "deletedFile":
                        del files[value["path"]]
                commit = hashlib.sha1(body).hexdigest()
                commits[commit] = files
                url = f"http://{self.headers['Host']}/{found[1]}/commit/{commit}"
                self.answer({"commitUrl": url, "commitOid": commit, "success": True})
            else:
                self.answer({}, 404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if found := re.match(r"/api/(\w+/[^/]+/[^/]+)/(revision|tree)/(\w+)", self.path):
                commits = repositories.get(found[1], {})
                commit = list(commits)[-1] if commits and found[3] == "main" else found[3]
                files = commits.get(commit)
                if files is None:
                    self.answer({"error": "no such revision"}, 404)
                elif found[2] == "tree":
                    self.answer(
                        [
                            {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                            for name, data in files.items()
                        ]
                    )
                else:
                    siblings = [{"rfilename": name} for name in files]
                    name = found[1].partition("/")[2]
                    self.answer({"id": name, "sha": commit, "siblings": siblings})
                return
            if self.path.startswith("/api/datasets?"):
                names = [name.partition("/") for name in repositories]
                self.answer([{"id": name} for kind, _, name in names if kind == "datasets"])
                return
            found = re.match(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)", self.path)
            commits = repositories.get(f"{found[1] or 'models'}/{found[2]}") if found else None
            if found is None or not commits:
                self.answer({}, 404)
                return
            commit = list(commits)[-1] if found[3] == "main" else found[3]
            content = commits.get(commit, {}).get(found[4])
            if content is None:
                self.send({"X-Error-Code": "EntryNotFound"}, b"", 404)
            else:
                self.send({"X-Repo-Commit": commit, "ETag": f'"{_oid(content)}"'}, content)

        def answer(self, document: Any, status: int = 200) -> None:
            data = json.dumps(document).encode()
            self.send({"Content-Type": "application/json"}, data, status)

        def send(self, heads: dict[str, str], data: bytes, status: int = 200) -> None:
            self.send_response(status)
            for head in (*heads.items(), ("Content-Length", str(len(data)))):
                self.send_header(*head)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_of_a_test",
            "NO_PROXY": "127.0.0.1",
        }
        yield settings, repositories
        server.shutdown()


def _oid(data: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
