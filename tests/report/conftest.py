"""A fake run folder, and the page taken apart."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from PIL import Image

from convnextv2.tasks.pretrain.description import describe_run

CONFIG = {
    "verb": "pretrain",
    "settings": {"epochs": 10, "batch_size": 256, "mask_ratio": 0.6, "nested": {"amp": True}},
    "chosen": [["batch_size", 256, "the largest that fits"], ["model", "atto", "few pictures"]],
    "data": {"source": "/data/cats", "pictures": 1536, "bad": 3},
    "model": {"name": "convnextv2_atto", "parameters": 3708400},
    "versions": {"torch": "2.11.0"},
    "machine": {"cores": 2},
    "started": "2026-11-23T01:53:22+00:00",
}
CONFIG["report"] = json.loads(json.dumps(dataclasses.asdict(describe_run("convnextv2_atto", 1536))))
VOID = {"meta", "link", "img", "br", "hr", "input"}


def train_line(step, **more):
    line = {"step": step, "epoch": step / 6, "phase": "train", "time": step * 2.0}
    line |= {"loss": 0.4 + math.exp(-step / 20), "lr": 1e-5 * step, "images_per_second": 100.0 + step % 3}
    return line | more


@pytest.fixture
def make_run(tmp_path):
    """Makes a run folder of these parts; `lines` are metric records or ready text."""

    def make(config=CONFIG, lines=(), pictures=0, size=(128, 64), name="run"):
        run = tmp_path / name
        (run / "pictures").mkdir(parents=True)
        if config is not None:
            (run / "config.json").write_text(json.dumps(config))
        if lines:
            text = [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines]
            (run / "metrics.jsonl").write_text("".join(text))
        for index in range(1, pictures + 1):
            image = Image.new("RGB", size, (index * 7 % 256, 90, 120))
            image.save(run / "pictures" / f"step-{index * 100:08d}-reconstruction.png")
        return run

    return make


@dataclass
class Parsed(HTMLParser):
    """What the tests ask of a page: its tags, its text, its sections; raises where a tag is not closed."""

    html: str
    tags: list = field(default_factory=list)
    open: list = field(default_factory=list)
    text: str = ""
    folded: str = ""
    sections: dict = field(default_factory=dict)

    def __post_init__(self):
        super().__init__()
        self.feed(self.html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"{tag} closed twice"
        assert self.open[-1][0] == tag, f"{tag} closed inside {self.open[-1]}"
        self.open.pop()

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "style" in inside:
            return
        self.text += data
        if "details" in inside:
            self.folded += data
        for tag, attrs in self.open:
            if tag == "section":
                self.sections[attrs["id"]] = self.sections.get(attrs["id"], "") + data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def parse():
    """Takes a page apart, checking on the way that it is well formed and loads nothing from anywhere."""

    def parse_page(path):
        page = Parsed(path.read_text(encoding="utf-8"))
        for tag, attrs in page.tags:
            assert tag not in {"script", "link", "iframe", "object"}
            for name, value in attrs.items():
                assert not name.startswith("on")
                if name in {"src", "href", "xlink:href", "srcset", "action"}:
                    assert value.startswith(("data:image/", "#")), value[:80]
        assert "://" not in page.html
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        return page

    return parse_page


@pytest.fixture
def line():
    return train_line


@pytest.fixture
def config():
    return json.loads(json.dumps(CONFIG))
