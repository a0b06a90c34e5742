"""Names on the Hugging Face hub, against a small server on this machine that speaks as much of its protocol as is needed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tectum import hub
from tectum.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys, tectum
for name in sys.argv[1:]:
    try:
        space = tectum.load(name)
        print(space.name, space.fingerprint, tuple(space.embed(text=["a cab"])["text"].shape))
    except tectum.errors.CheckpointError as error:
        print("refused:", error)
"""


class Hub:
    """Serves the folders of `root` as models owner/name and keeps the paths it was asked for."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.split("?")[0]
                hub.asked.append(path)
                name, _, rest = path.removeprefix("/api/models/").strip("/").partition("/resolve/")
                if path.startswith("/api/models/"):
                    tree, name = "/tree/" in name, "/".join(name.split("/")[:2])
                    files = [path for path in sorted((root / name).rglob("*")) if path.is_file()]
                    paths = [str(file.relative_to(root / name)) for file in files]
                    sizes = [{"size": file.stat().st_size, "oid": COMMIT} for file in files]
                    listed = [{"type": "file", "path": path, **size} for path, size in zip(paths, sizes, strict=True)]
                    info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in paths]}
                    content = json.dumps(listed if tree else info).encode() if files else None
                else:
                    file = root / name / rest.partition("/")[2]
                    content = file.read_bytes() if file.is_file() else None
                self.send_response(200 if content is not None else 404)
                if content is None:
                    self.send_header("X-Error-Code", "RepoNotFound")
                    content = b""
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.end_headers()
                if body:
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def local_hub(tmp_path: Path, clip_folder: Path) -> Iterator[Hub]:
    tiny = tmp_path / "served" / "someone" / "tiny-clip"
    shutil.copytree(clip_folder, tiny)
    (tiny / "pytorch_model.bin").write_bytes(b"never fetched")
    (tiny / "open_clip_model.safetensors").write_bytes(b"not needed")
    (tiny / "onnx").mkdir()
    (tiny / "onnx" / "config.json").write_text("{}")
    pickled = tmp_path / "served" / "someone" / "only-pickle"
    shutil.copytree(clip_folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    served = Hub(tmp_path / "served")
    yield served
    served.server.shutdown()


def load(names: list[str], cache: Path, endpoint: str, **variables: str) -> list[str]:
    """What a fresh process says of each name."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "PYTHONWARNINGS": "ignore"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    done = subprocess.run([sys.executable, "-c", LOAD, *names], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_name_is_fetched_once_without_pickles_and_opens_offline(local_hub: Hub, clip_folder: Path, tmp_path: Path) -> None:
    expected = f"someone/tiny-clip {hub.load(clip_folder).fingerprint} (1, 20)"
    names = ["someone/tiny-clip", "someone/only-pickle", "someone/nothing"]
    found, pickled, nothing = load(names, tmp_path / "cache", local_hub.url)
    assert found == expected
    assert pickled.startswith("refused: 'someone/only-pickle' has no weights in safetensors on the hub: convert its pickle")
    assert "'someone/nothing' is no model at hand and could not be fetched" in nothing
    fetched = {path for path in local_hub.asked if path.startswith("/someone/tiny-clip/resolve/")}
    wanted = {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.rpartition(f"/{COMMIT}/")[2] for path in fetched} == wanted
    local_hub.asked.clear()
    again, other = load(["someone/tiny-clip", "someone/other"], tmp_path / "cache", local_hub.url, HF_HUB_OFFLINE="1")
    assert again == expected and "could not be fetched" in other
    assert local_hub.asked == []


def test_without_the_package_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"needs the package huggingface_hub: install tectum\[hub\], or download"):
        hub.load("openai/clip-vit-base-patch32")
