"""Repositories of the hub, from a server on this machine that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf
from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

from convnextv2.errors import UserError
from convnextv2.weights.sources import hub
from convnextv2.weights.sources.published import of_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the folders below `root`, OWNER/NAME each, and keeps what was asked for."""

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.asked = root, []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        if path.startswith("/api/models/"):
            folder = self.server.root.joinpath(*path.split("/")[3:5])
            if not folder.is_dir():
                self.send_error(404)
                return
            files = sorted(folder.iterdir())
            about: object = {
                "id": "/".join(path.split("/")[3:5]),
                "sha": COMMIT,
                "siblings": [{"rfilename": file.name} for file in files],
            }
            if "/tree/" in path:
                about = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _oid(f)} for f in files]
            self._send(json.dumps(about).encode(), {"Content-Type": "application/json"})
            return
        if "/resolve/" not in path:
            self.send_error(404)
            return
        owner, name, _, _, file = path.strip("/").split("/")
        path = self.server.root / owner / name / file
        self._send(path.read_bytes(), {"ETag": f'"{_oid(path)}"', "X-Repo-Commit": COMMIT})

    def _send(self, content, headers):
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _oid(file):
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    tiny = timm.create_model("convnextv2_atto", num_classes=1000)
    save_for_hf(tiny, root / "timm" / "convnextv2_atto.fcmae_ft_in1k", safe_serialization=True)
    config = ConvNextV2Config(depths=[2, 2, 6, 2], hidden_sizes=[40, 80, 160, 320], num_labels=3)
    old = root / "facebook" / "convnextv2-atto-1k-224"
    model = ConvNextV2ForImageClassification(config)
    old.mkdir(parents=True)
    config.save_pretrained(old)
    torch.save(model.state_dict(), old / "pytorch_model.bin")
    (old / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    parts = ConvNextV2ForImageClassification(
        ConvNextV2Config(depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_labels=4)
    )
    parts.save_pretrained(root / "someone" / "parts", max_shard_size="20KB")
    (root / "someone" / "empty").mkdir(parents=True)
    (root / "someone" / "empty" / "README.md").write_text("nothing here")
    with Hub(root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, code, cache, **environment):
    """Run code in a process of its own, as the hub's library reads its address when it is imported."""
    address = f"http://127.0.0.1:{server.server_address[1]}"
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", f"import convnextv2, warnings; {code}"]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=120, env=os.environ | settings | environment, check=False
    )


SHOW = "found = convnextv2.load({!r}); print(found.layout, len(found.classes), found.classes[0], found.licence)"


def test_a_repository_of_timm_comes_once(server, tmp_path):
    code = SHOW.format("hf:timm/convnextv2_atto.fcmae_ft_in1k")
    done = ask(server, code, tmp_path)
    assert done.stdout == "timm 1000 tench CC-BY-NC-4.0\n", done.stderr
    assert "not for commercial use" in done.stderr
    fetched = [path for command, path in server.asked if command == "GET" and "/resolve/" in path]
    assert {Path(path).name for path in fetched} == {"config.json", "model.safetensors"}  # no pickle beside it
    again = ask(server, code, tmp_path)
    assert again.stdout == done.stdout
    assert [p for command, p in server.asked if command == "GET" and "/resolve/" in p] == fetched
    offline = ask(server, code, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.stdout == done.stdout, offline.stderr


def test_without_safetensors_the_pickle_is_read(server, tmp_path):
    """The licence is that of where the weights come from, whatever the page says."""
    done = ask(server, SHOW.format("hf:facebook/convnextv2-atto-1k-224@main"), tmp_path)
    assert done.stdout == "transformers 3 LABEL_0 CC-BY-NC-4.0\n", done.stderr


def test_a_repository_in_parts(server, tmp_path):
    assert len(list((server.root / "someone" / "parts").glob("model-*-of-*.safetensors"))) > 1
    done = ask(server, SHOW.format("hf:someone/parts"), tmp_path)
    assert done.stdout.startswith("transformers 4 LABEL_0 unknown"), done.stderr


@pytest.mark.parametrize(
    ("source", "environment", "said"),
    [
        ("hf:someone/nothing", {}, "hf:someone/nothing cannot be fetched"),
        ("hf:someone/empty", {}, "hf:someone/empty has neither model.safetensors nor pytorch_model.bin"),
        ("hf:timm/convnextv2_atto.fcmae_ft_in1k", {"HF_HUB_OFFLINE": "1"}, "download it by hand and give the folder"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(source, environment, said, server, tmp_path):
    code = f"from convnextv2.cli import main; main(['convert', {source!r}, '--to', 'timm', '--out', 'a.pth'])"
    done = ask(server, code, tmp_path, **environment)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]  # after the library's own bars
    assert "Traceback" not in done.stderr


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs the hub's library: pip install 'convnextv2\[hub\]'"):
        hub.fetch_folder("hf:someone/cats")


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("timm/convnextv2_tiny.fcmae", "convnextv2_tiny.fcmae"),
        ("timm/convnext_tiny.fb_in22k", "convnext_tiny.fb_in22k"),
        ("facebook/convnextv2-huge-22k-512", "convnextv2_huge.fcmae_ft_in22k_in1k_512"),
        ("facebook/convnextv2-nano-22k-224", "convnextv2_nano.fcmae_ft_in22k_in1k"),
        ("facebook/convnextv2-base-1k-224", "convnextv2_base.fcmae_ft_in1k"),
        ("facebook/convnextv2-base-3k-224", None),
        ("someone/convnextv2_tiny.fcmae", None),
        ("timm/resnet50.a1_in1k", None),
        ("timm/convnext_small.eupe_lvd1689m", "convnext_small.eupe_lvd1689m"),
        ("facebook/dinov3-convnext-large-pretrain-lvd1689m", "convnext_large.dinov3_lvd1689m"),
        ("facebook/dinov3-vits16-pretrain-lvd1689m", None),
        ("facebook/EUPE-ConvNeXt-B", "convnext_base.eupe_lvd1689m"),
    ],
)
def test_repositories_of_published_weights_are_known(repository, name):
    entry = of_repository(repository)
    assert (entry.name if entry else None) == name
