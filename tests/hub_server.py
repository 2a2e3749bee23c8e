"""A Hub in memory, on loopback: the parts of the Hugging Face Hub's HTTP API that huggingface_hub uses to create a
repository, push to it (pre-upload, LFS, commit) and load from it (info, tree, resolve), with tokens and private
repositories. The xet protocol is not spoken: set `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


LFS_SUFFIXES = (".safetensors", ".bin", ".parquet")
KINDS = {"model": "models", "dataset": "datasets"}


@dataclass
class Repository:
    """Its commits, oldest first: an id and the files, path to content."""

    owner: str
    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision names: `main`, or an id."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def commit(self, files: dict[str, bytes]) -> str:
        content = repr(sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items()))
        oid = hashlib.sha1(f"{len(self.commits)}{content}".encode()).hexdigest()
        self.commits.append((oid, files))
        return oid


class HubServer:
    """Use as a context manager; `endpoint` is for `HF_ENDPOINT`.

    Args:
        tokens: token to user name. A user sees and writes only his own private repositories.
    """

    def __init__(self, tokens: dict[str, str]):
        self.tokens = tokens
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.unknown: list[str] = []  # requests that this server does not understand
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo_id: str, kind: str = "models") -> dict[str, bytes]:
        """The newest content of a repository."""
        return self.repositories[kind, repo_id].commits[-1][1]


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str = ""):
        super().__init__(message or code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    # --- plumbing

    def _handle(self):
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        try:
            for method, pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method:
                    answer(self, *match.groups(), *([body] if self.command in ("POST", "PUT") else []))
                    return
            self.hub.unknown.append(f"{self.command} {self.path}")
            raise _Refusal(404, "EntryNotFound", "this server does not know that path")
        except _Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
            self._send(json.dumps({"error": str(refusal)}).encode(), refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_json(self, value, status: int = 200):
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    # --- who may do what

    def _user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise _Refusal(401, "", "Invalid user token.")
        return self.hub.tokens.get(token)

    def _repository(self, kind: str, repo_id: str, write: bool = False) -> Repository:
        user = self._user()
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None or repository.private and user != repository.owner:
            raise _Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        if write and user != repository.owner:
            raise _Refusal(403, "", "You have no right to write to this repository.")
        return repository

    def _commit(self, kind: str, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]]:
        commit = self._repository(kind, repo_id).at(revision)
        if commit is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # --- answers

    def whoami(self):
        if self._user() is None:
            raise _Refusal(401, "", "Invalid credentials")
        self._send_json({"type": "user", "name": self._user(), "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def client_registry(self):
        """Names of programs, which huggingface_hub looks its caller up in."""
        self._send_json({})

    def create(self, body):
        user, wish = self._user(), json.loads(body)
        if user is None:
            raise _Refusal(401, "", "A token is needed to create a repository")
        repo_id = f"{wish.get('organization') or user}/{wish['name']}"
        key = (KINDS[wish.get("type") or "model"], repo_id)
        url = f"{self.hub.endpoint}/{'datasets/' if key[0] == 'datasets' else ''}{repo_id}"
        if key in self.hub.repositories:
            self._send_json({"error": "You already created this repo", "url": url}, 409)
        else:
            private = wish.get("visibility") == "private" or bool(wish.get("private"))
            self.hub.repositories[key] = Repository(user, private=private)
            self._send_json({"url": url, "name": repo_id})

    def validate_yaml(self, body):
        is_complete = "license:" in json.loads(body)["content"]
        warnings = [] if is_complete else [{"message": "empty or missing yaml metadata in repo card"}]
        self._send_json({"errors": [], "warnings": warnings})

    def info(self, kind, repo_id, revision=None):
        oid, files = self._commit(kind, repo_id, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(files)]
        private = self._repository(kind, repo_id).private
        self._send_json({"id": repo_id, "modelId": repo_id, "sha": oid, "private": private, "siblings": siblings})

    def tree(self, kind, repo_id, revision, folder=None):
        _, files = self._commit(kind, repo_id, revision)
        inside = {path: data for path, data in files.items() if folder is None or path.startswith(f"{folder}/")}
        if folder is not None and not inside:
            raise _Refusal(404, "EntryNotFound", f"{folder} not found")
        self._send_json([_describe(path, data) for path, data in sorted(inside.items())])

    def paths_info(self, kind, repo_id, revision, body):
        _, files = self._commit(kind, repo_id, revision)
        self._send_json([_describe(path, files[path]) for path in json.loads(body)["paths"] if path in files])

    def resolve(self, prefix, repo_id, revision, path):
        oid, files = self._commit("datasets" if prefix else "models", repo_id, revision)
        if path not in files:
            raise _Refusal(404, "EntryNotFound", f"{path} not found")
        etag = f'"{hashlib.sha256(files[path]).hexdigest()}"'
        headers = {"X-Repo-Commit": oid, "ETag": etag, "Accept-Ranges": "bytes"}
        self._send(files[path], headers=headers)

    def preupload(self, kind, repo_id, revision, body):
        self._repository(kind, repo_id, write=True)
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"}
            for file in json.loads(body)["files"]
        ]
        self._send_json({"files": [{**mode, "shouldIgnore": False} for mode in modes]})

    def lfs_batch(self, prefix, repo_id, body):
        self._repository("datasets" if prefix else "models", repo_id, write=True)
        objects = [
            {
                **wanted,
                "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}},
            }
            for wanted in json.loads(body)["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid, body):
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refusal(400, "", "content and hash differ")
        self.hub.lfs[oid] = body
        self._send(b"")

    def commit(self, kind, repo_id, revision, body):
        repository = self._repository(kind, repo_id, write=True)
        _, files = self._commit(kind, repo_id, revision)
        files = dict(files)
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(files)
        prefix = "datasets/" if kind == "datasets" else ""
        url = f"{self.hub.endpoint}/{prefix}{repo_id}/commit/{oid}"
        self._send_json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _describe(path: str, data: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


_REPO = r"([\w.-]+/[\w.-]+)"
_API = rf"/api/(models|datasets)/{_REPO}"
_ROUTES: list[tuple[tuple[str, ...], str, Callable]] = [
    (("GET",), "/api/whoami-v2", _Handler.whoami),
    (("GET",), "/api/agent-harnesses", _Handler.client_registry),
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate_yaml),
    (("GET",), _API, _Handler.info),
    (("GET",), rf"{_API}/revision/([^/]+)", _Handler.info),
    (("GET",), rf"{_API}/tree/([^/]+)(?:/(.+))?", _Handler.tree),
    (("POST",), rf"{_API}/paths-info/([^/]+)", _Handler.paths_info),
    (("POST",), rf"{_API}/preupload/([^/]+)", _Handler.preupload),
    (("POST",), rf"{_API}/commit/([^/]+)", _Handler.commit),
    (("POST",), rf"/(datasets/)?{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), r"/lfs/(\w+)", _Handler.lfs_upload),
    (("GET", "HEAD"), rf"/(datasets/)?{_REPO}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
