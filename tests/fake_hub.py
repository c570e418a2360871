"""A hub on this machine, and its cache as huggingface_hub lays it out, both made of folders with models.

The server answers what the client of huggingface_hub asks when it downloads a snapshot: the model, the tree of a commit, the head
and the content of a file, from any byte on.
"""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The real names and commits, as in config/models.yaml.
Z_IMAGE = ("Tongyi-MAI/Z-Image-Turbo", "f332072aa78be7aecdf3ee76d5c247082da564a6")
QWEN3_VL = ("Qwen/Qwen3-VL-4B-Instruct", "ebb281ec70b05090aa6165b016eac8ec08e71b17")
CARD = "---\nlicense: apache-2.0\nlibrary_name: {library}\n---\n# A model\n"


@dataclass
class Request:
    """A request that was answered: its method, path, and the `Range` that was asked for."""

    method: str
    path: str
    range: str | None


@dataclass
class FakeHub:
    """Repositories that a server answers for.

    Attributes:
        repositories: Id -> (commit, folder).
        url: Address of the server.
        requests: Requests that it has got.
    """

    repositories: dict[str, tuple[str, Path]]
    url: str = ""
    requests: list[Request] = field(default_factory=list)

    def of(self, path: str) -> tuple[str, Path, str] | None:
        """Returns (commit, folder, rest of the path) of the repository that a path begins with."""
        for repo, (commit, folder) in self.repositories.items():
            if path.startswith(f"/{repo}/"):
                return commit, folder, path.removeprefix(f"/{repo}/")
        return None

    def sent(self, ending: str) -> list[Request]:
        """Returns the requests for the content of files with an ending."""
        return [one for one in self.requests if one.method == "GET" and one.path.endswith(ending)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_large(path: Path) -> bool:
    """Whether a file is kept in large file storage, so that its ETag is its SHA-256."""
    return path.suffix == ".safetensors" or path.name == "tokenizer.json"


def etag(path: Path) -> str:
    """Returns the ETag of a file: its SHA-256 in large file storage, else the id of a git blob."""
    content = path.read_bytes()
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _model(repo: str, commit: str, folder: Path) -> dict[str, Any]:
    siblings = []
    for path in _files(folder):
        size = path.stat().st_size
        entry = {"rfilename": path.relative_to(folder).as_posix(), "size": size, "blobId": etag(path)[:40]}
        if is_large(path):
            entry["lfs"] = {"sha256": etag(path), "size": size, "pointerSize": 130}
        siblings.append(entry)
    return {"id": repo, "sha": commit, "siblings": siblings, "cardData": {"license": "apache-2.0"}}


def _tree(folder: Path) -> list[dict[str, Any]]:
    entries = []
    for path in _files(folder):
        size = path.stat().st_size
        entry = {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": size,
            "oid": etag(path)[:40],
        }
        if is_large(path):
            entry["lfs"] = {"oid": etag(path), "size": size, "pointerSize": 130}
        entries.append(entry)
    return entries


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Writes nothing to the terminal."""

    def do_HEAD(self) -> None:
        """Answers without content."""
        self._answer(has_content=False)

    def do_GET(self) -> None:
        """Answers."""
        self._answer(has_content=True)

    def _answer(self, has_content: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range")))
        if path.startswith("/api/models"):
            found = self.hub.of(path.removeprefix("/api/models"))
            return self._api(path, found)
        found = self.hub.of(path)
        match = re.fullmatch(r"resolve/([0-9a-f]{40})/(.+)", found[2]) if found else None
        if not found or not match or match[1] != found[0] or not (found[1] / match[2]).is_file():
            return self._refuse("EntryNotFound" if found and match else "RepoNotFound")
        return self._file(found[0], found[1] / match[2], has_content)

    def _api(self, path: str, found: tuple[str, Path, str] | None) -> None:
        if found is None:
            return self._refuse("RepoNotFound")
        commit, folder, rest = found
        what, _, revision = rest.partition("/")
        if revision.strip("/") != commit:
            return self._refuse("RevisionNotFound")
        repo = path.removeprefix("/api/models/").partition(f"/{what}/")[0]
        return self._send(
            200, json.dumps(_tree(folder) if what == "tree" else _model(repo, commit, folder)).encode(), {}
        )

    def _file(self, commit: str, path: Path, has_content: bool) -> None:
        content, status = path.read_bytes(), 200
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(path)}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content, status = content[first:], 206
        self._send(status, content, headers, has_content)

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str], has_content: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if has_content:
            self.wfile.write(content)


@contextmanager
def serve(repositories: dict[str, tuple[str, Path]]) -> Iterator[FakeHub]:
    """Answers for repositories until the end of the block."""
    hub = FakeHub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def published_folders(family: Path, folder: Path) -> dict[str, tuple[str, Path]]:
    """Copies the small family to folders of repositories under the real names, with a model card and files nobody needs.

    Returns:
        Id of the repository -> (commit, folder).
    """
    repositories = {}
    for (repo, commit), name in ((Z_IMAGE, "z-image"), (QWEN3_VL, "qwen3-vl-instruct")):
        own = folder / name
        shutil.copytree(family / name, own)
        (own / "README.md").write_text(CARD.format(library="diffusers"))
        (own / "pytorch_model.bin").write_bytes(b"never downloaded")
        repositories[repo] = (commit, own)
    return repositories


def lay_out_cache(cache: Path, repo: str, commit: str, folder: Path) -> Path:
    """Writes a repository to a cache as huggingface_hub does: blobs named by their ETags, links to them, a ref.

    Returns:
        The snapshot.
    """
    own = cache / f"models--{repo.replace('/', '--')}"
    snapshot = own / "snapshots" / commit
    for part in (own / "blobs", own / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (own / "refs/main").write_text(commit)
    for path in _files(folder):
        blob, link = own / "blobs" / etag(path), snapshot / path.relative_to(folder)
        if not blob.exists():
            shutil.copy2(path, blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot
