"""A licence goes with the weights: through every start, every layout, and to the hub."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import convnextv2
from convnextv2.errors import UserError
from convnextv2.models import create_model
from convnextv2.verbs.convert import convert
from convnextv2.verbs.push import push
from convnextv2.weights.foreign import tensors_of
from convnextv2.weights.layouts.recognise import writer
from convnextv2.weights.licences import may_become, terms
from convnextv2.weights.load import LicenceNotice, read
from convnextv2.weights.model_file import ModelInfo, read_model_file

DEPTHS, DIMS = (1, 1, 1, 1), (8, 8, 16, 16)
NC = "cc-by-nc-4.0"


def small(classes=0, name="convnextv2_atto"):
    return dict(create_model(name, num_classes=classes, depths=DEPTHS, dims=DIMS).state_dict())


def card(folder, text):
    (folder / "README.md").write_text(f"---\n{text}\n---\n")
    config = {"model_type": "convnextv2", "depths": DEPTHS, "hidden_sizes": DIMS}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(writer("transformers", "convnextv2_atto").write(small()), folder / "model.safetensors")
    return folder


def timms(folder):
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"license": NC, "input_size": [3, 64, 64]}}))
    save_file(writer("timm", "convnextv2_atto").write(small()), folder / "model.safetensors")
    return folder


def metadata(key):
    def write(folder):
        save_file(small(), folder / "weights.safetensors", {"format": "pt", key: NC})
        return folder / "weights.safetensors"

    return write


def pickled(key):
    def write(folder):
        torch.save({"model": small(), key: NC}, folder / "weights.pt")
        return folder / "weights.pt"

    return write


def published(folder):
    """By the name of the published file alone."""
    torch.save(
        {"model": create_model("convnextv2_atto", num_classes=0).state_dict()},
        folder / "convnextv2_atto_1k_224_fcmae.pt",
    )
    return folder / "convnextv2_atto_1k_224_fcmae.pt"


def published_folder(folder):
    folder = folder / "convnextv2_atto.fcmae"
    folder.mkdir()
    tensors = create_model("convnextv2_atto", num_classes=0).state_dict()
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"license": "apache-2.0"}}))
    save_file(writer("timm", "convnextv2_atto").write(tensors), folder / "model.safetensors")
    return folder


def unnamed(folder):
    torch.save({"model": small()}, folder / "weights.pt")
    return folder / "weights.pt"


def dinov3(folder):
    own = small(name="convnext_atto")
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov3_convnext"}))
    save_file(writer("transformers-dinov3", "convnext_atto").write(own), folder / "model.safetensors")
    return folder


SOURCES = {
    "card": (lambda folder: card(folder, "license: cc-by-nc-4.0"), NC),
    "card-of-another": (lambda folder: card(folder, "license: other\nlicense_name: dinov3-license"), "dinov3-license"),
    "config-of-timm": (timms, NC),
    "metadata": (metadata("licence"), NC),
    "metadata-american": (metadata("license"), NC),
    "pickle": (pickled("licence"), NC),
    "pickle-american": (pickled("license"), NC),
    "name-of-the-file": (published, "CC-BY-NC-4.0"),
    "name-of-the-folder": (published_folder, "CC-BY-NC-4.0"),
    "kind-of-the-folder": (dinov3, "dinov3-license"),
    "none": (unnamed, "unknown; weights published with the paper are CC-BY-NC-4.0"),
}


@pytest.mark.filterwarnings("ignore::convnextv2.weights.load.LicenceNotice")
@pytest.mark.parametrize("name", SOURCES)
def test_where_a_licence_is_found(name, tmp_path):
    make, licence = SOURCES[name]
    source = make(tmp_path)
    assert read(source).info.licence == licence
    with pytest.raises(UserError, match=r"made from some (under|whose licence is) .*add relicense"):
        push(source, "someone/cats", licence="apache-2.0", dry_run=True)


@pytest.mark.filterwarnings("ignore::convnextv2.weights.load.LicenceNotice")
@pytest.mark.parametrize("name", ["card", "kind-of-the-folder", "none"])
def test_a_licence_goes_all_the_way(name, picture_folder, tmp_path):
    """pretrain --init, classify --init, convert to every layout, push: no more permissive one is taken."""
    make, licence = SOURCES[name]
    first = tmp_path / "first"
    first.mkdir()
    source = make(first)
    settings = {"epochs": 0.2, "batch_size": 8, "workers": 0, "precision": "fp32", "image_size": 64}
    more = {"decoder_dim": 8, "pictures": 0}
    pretrained = convnextv2.pretrain(picture_folder, tmp_path / "pre", init=source, **settings, **more).run
    assert read_model_file(pretrained).info.licence == licence
    classified = convnextv2.classify(picture_folder, tmp_path / "run", init=pretrained, **settings).run
    info = read_model_file(classified).info
    assert info.licence == licence
    assert info.trained_from is not None
    assert len(info.trained_from) == 2
    endings = {"timm": "a.safetensors", "official": "a.pt", "mmpretrain": "a.pth", "convnextv2": "own.safetensors"}
    endings |= {"transformers": "folder"}
    for to, out in endings.items():
        convert(classified, to, tmp_path / out)
        assert read(tmp_path / out).info.licence == licence
    for start in (pretrained, classified, *(tmp_path / out for out in endings.values())):
        with pytest.raises(UserError, match=r"made from some (under|whose licence is) .*add relicense"):
            push(start, "someone/cats", licence="apache-2.0", dry_run=True)
    said = push(classified, "someone/cats", licence="apache-2.0", relicense=True, dry_run=True).card
    assert "license: apache-2.0" in said
    assert f"| licence | apache-2.0; of the weights that it was made from: {licence} |" in said
    stays = licence if not licence.startswith("unknown") else NC
    assert f"| licence | {stays}" in push(classified, "someone/cats", licence=stays, dry_run=True).card


def test_what_is_pushed_has_the_licence_when_it_comes_back(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        source = card(tmp_path, "license: other\nlicense_name: dinov3-license")
        done = push(source, "someone/cats", dry_run=True)
    assert "license: other\nlicense_name: dinov3-license\n" in done.card
    with pytest.warns(LicenceNotice, match="dinov3-license"):
        assert read(source).info.licence == "dinov3-license"


def test_the_history_of_an_older_file_names_its_licence(tmp_path):
    """Files of earlier versions may hold the name of published weights without their licence."""
    torch.save(small(3), tmp_path / "file.pt")
    held = read(tmp_path / "file.pt")
    said = held.info.to_metadata() | {
        "trained_from": json.dumps(
            [{"format": "convnextv2.encoder.1", "trained_on": "", "file": "convnextv2_atto.fcmae"}]
        )
    }
    del said["licence"]
    replace(held, info=ModelInfo.from_metadata(said)).write(tmp_path / "old.safetensors")
    with pytest.raises(UserError, match=r"made from some under CC-BY-NC-4.0"):
        push(tmp_path / "old.safetensors", "someone/cats", licence="mit", dry_run=True)


def test_the_metadata_of_every_layout_has_it(tmp_path):
    source = metadata("licence")(tmp_path)
    with warnings.catch_warnings(action="ignore"):
        for to, out in (("timm", "a.safetensors"), ("transformers", "folder"), ("convnextv2", "own.safetensors")):
            convert(source, to, tmp_path / out)
            file = tmp_path / out / "model.safetensors" if to == "transformers" else tmp_path / out
            with safe_open(file, "pt") as opened:
                assert opened.metadata()["licence"] == NC
        for to in ("official", "mmpretrain", "timm", "minkowski"):
            convert(source, to, tmp_path / f"{to}.pt")
            assert tensors_of(tmp_path / f"{to}.pt")[1]["licence"] == NC


def test_the_command_takes_the_word(tmp_path, command):
    source = unnamed(tmp_path)
    done = command("push", source, "--to", "someone/cats", "--licence", "apache-2.0", "--relicense", "--dry-run")
    assert "license: apache-2.0" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("carried", "requested", "may"),
    [
        ("CC BY-NC 4.0", "cc-by-nc-4.0", True),
        ("cc-by-nc-4.0", "apache-2.0", False),
        ("cc-by-nc-sa-4.0", "cc-by-nc-4.0", False),
        ("dinov3-license", "mit", False),
        ("fair-noncommercial-research-license", "apache-2.0", False),
        ("mit", "apache-2.0", True),
        ("mit", "cc-by-nc-4.0", True),
        ("apache-2.0", "cc0-1.0", False),
        ("cc0-1.0", "apache-2.0", True),
        ("gpl-3.0", "mit", False),
        ("openrail", "apache-2.0", False),
    ],
)
def test_what_may_become_what(carried, requested, may):
    assert may_become(carried, requested) is may


@pytest.mark.parametrize(
    ("licence", "asks"),
    [
        ("CC-BY-NC-4.0", "not for commercial use"),
        ("cc-by-nc-sa-4.0", "not for commercial use"),
        ("FAIR Noncommercial Research License", "for research, not for commercial use"),
        ("polyform-noncommercial-1.0.0", "not for commercial use"),
        ("apache-2.0", ""),
        ("ncsa", ""),
        ("unknown; weights published with the paper are CC-BY-NC-4.0", ""),
        ("", ""),
    ],
)
def test_what_a_licence_asks(licence, asks):
    assert terms(licence) == asks
