"""What config.json, preprocessor_config.json and a card say of weights beside them."""

import json

import pytest
import timm
import torch
from timm.models import save_for_hf
from transformers import AutoImageProcessor, ConvNextImageProcessor, ConvNextV2Config, ConvNextV2ForImageClassification

import convnextv2
from convnextv2.errors import LoadError, UserError
from convnextv2.models import create_model
from convnextv2.records import Preprocessing
from convnextv2.verbs.convert import convert
from convnextv2.verbs.push import push
from convnextv2.weights.load import read
from convnextv2.weights.sources.sidecar import About, about

NAMES = ("crack", "dent", "scratch")
SHAPE = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
GREY = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.fixture
def folder(tmp_path):
    """As transformers saves a fine-tuned classifier that differs from the published ones in all it can."""
    config = ConvNextV2Config(
        **SHAPE,
        image_size=96,
        id2label=dict(enumerate(NAMES)),
        label2id={name: index for index, name in enumerate(NAMES)},
        problem_type="multi_label_classification",
    )
    processor = ConvNextImageProcessor(
        size={"shortest_edge": 96}, crop_pct=0.75, image_mean=list(GREY.mean), image_std=list(GREY.std)
    )
    ConvNextV2ForImageClassification(config).save_pretrained(tmp_path / "folder")
    processor.save_pretrained(tmp_path / "folder")
    return tmp_path / "folder"


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_all_that_a_folder_of_transformers_says_is_heard(folder, tmp_path):
    found = read(folder)
    assert (found.info.classes, found.info.image_size, found.info.preprocessing) == (NAMES, 96, GREY)
    assert (found.info.crop_pct, found.info.multi_label) == (0.75, True)
    convert(folder, "transformers", tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    processor = AutoImageProcessor.from_pretrained(tmp_path / "again")
    assert (processor.size["shortest_edge"], processor.crop_pct) == (96, 0.75)
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (GREY.mean, GREY.std)
    convert(folder, "convnextv2", tmp_path / "own.safetensors")
    own = read(tmp_path / "own.safetensors")
    assert (own.info.classes, own.info.image_size, own.info.preprocessing) == (NAMES, 96, GREY)
    assert (own.info.crop_pct, own.info.multi_label) == (0.75, True)


def test_transformers_takes_the_whole_picture_from_384_pixels_on(folder):
    change(folder / "preprocessor_config.json", size={"shortest_edge": 384})
    found = read(folder)
    assert (found.info.image_size, found.info.crop_pct) == (384, None)


@pytest.mark.parametrize(("mode", "crop"), [("squash", None), ("center", 1.0)])
def test_all_that_a_folder_of_timm_says_is_heard(mode, crop, tmp_path):
    overlay = {"input_size": (3, 384, 384), "crop_pct": 1.0, "crop_mode": mode, "license": "cc-by-4.0"}
    model = timm.create_model(
        "convnextv2_atto", num_classes=3, pretrained_cfg_overlay=overlay | {"mean": GREY.mean, "std": GREY.std}
    )
    save_for_hf(model, tmp_path, model_config={"label_names": list(NAMES)}, safe_serialization=True)
    found = read(tmp_path)
    assert (found.info.classes, found.info.image_size, found.info.preprocessing) == (NAMES, 384, GREY)
    assert (found.info.crop_pct, found.info.licence) == (crop, "cc-by-4.0")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_act": "relu"}, "its hidden_act is 'relu', and ConvNeXt's is 'gelu'"),
        ({"layer_norm_eps": 1e-2}, "its layer_norm_eps is 0.01, and ConvNeXt's 1e-6"),
    ],
)
def test_another_function_than_ours_is_refused(values, message, folder):
    change(folder / "config.json", **values)
    with pytest.raises(LoadError, match=message):
        read(folder)


def test_a_processor_that_does_not_normalise_is_heard(folder):
    change(folder / "preprocessor_config.json", do_normalize=False)
    assert read(folder).info.preprocessing == Preprocessing((0.0,) * 3, (1.0,) * 3)


def test_statistics_of_other_channels_are_not_taken(folder):
    change(folder / "preprocessor_config.json", image_mean=[0.5], image_std=[0.5])
    assert read(folder).info.preprocessing == Preprocessing()


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"id2label": {"0": "a", "2": "b"}}),
        ("config.json", {"id2label": {"first": "a"}}),
        ("config.json", {"id2label": ["a", "b", "c"]}),
        ("config.json", {"image_size": -1, "size": None}),
        ("preprocessor_config.json", {"size": {"shortest_edge": "large"}}),
        ("preprocessor_config.json", {"size": {"shortest_edge": 2**40}}),
        ("preprocessor_config.json", {"crop_pct": 0}),
        ("preprocessor_config.json", {"crop_pct": 7.5}),
        ("preprocessor_config.json", {"image_mean": "none"}),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5, float("nan")]}),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5, 0.0]}),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5]}),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_in_one_line(file, values, folder):
    if "image_size" in values:
        (folder / "preprocessor_config.json").unlink()
    change(folder / file, **values)
    with pytest.raises(LoadError, match=r"cannot be read \(.+\): fetch it again, or move it away") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000 + b"]" * 100_000])
def test_a_damaged_config_is_refused_in_one_line(content, folder):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(LoadError, match=r"config.json cannot be read \(.+\): fetch it again") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("content", ['{"name": "my project", "image_size": 7}', '["a"]', '{"model_type": "vit"}'])
def test_a_config_of_something_else_is_not_heard(content, tmp_path):
    torch.save(create_model("convnextv2_atto", num_classes=2).state_dict(), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "README.md").write_text("---\nlicense: gpl-3.0\n---\nMy project.")
    assert about(tmp_path) == About()
    found = read(tmp_path / "model.pt")
    assert (found.info.image_size, found.info.classes) == (224, ("LABEL_0", "LABEL_1"))
    assert found.info.licence.startswith("unknown")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\ntags:\n- x\nlicense: cc-by-nc-4.0\n---\n# A model", "cc-by-nc-4.0"),
        ("\ufeff---\nlicense: CC BY-NC 4.0  # see below\n---\n", "CC BY-NC 4.0"),
        ("---\nlicense:\n- cc-by-nc-4.0\ntags: []\n---\n", "cc-by-nc-4.0"),
        ("---\ntags: []\n---\nlicense: mit\n", ""),
        ("# A model\nlicense: mit\n", ""),
    ],
)
def test_the_licence_of_a_card_goes_along(card, licence, folder):
    (folder / "README.md").write_text(card)
    assert about(folder).licence == licence
    if licence:
        with pytest.warns(UserWarning, match=rf"under {licence}: not for commercial use"):
            assert convnextv2.load(folder).licence == licence


def test_a_licence_may_be_spelt_in_several_ways(folder):
    (folder / "README.md").write_text("---\nlicense: CC BY-NC 4.0\n---\n")
    for asked in (None, "cc-by-nc-4.0", "CC-BY-NC-4.0"):
        with pytest.warns(UserWarning, match="commercial"):
            assert "license: cc-by-nc-4.0" in push(folder, "someone/cats", licence=asked, dry_run=True).card
    with pytest.warns(UserWarning, match="commercial"), pytest.raises(UserError, match=r"licence='cc-by-nc-4.0'"):
        push(folder, "someone/cats", licence="mit", dry_run=True)


@pytest.mark.parametrize("name", ["convnextv2-atto-1k-224", "models--facebook--convnextv2-atto-1k-224/snapshots/0123"])
def test_a_published_folder_fetched_by_hand_keeps_its_licence(name, tmp_path):
    """Whatever its card says, the weights are the published ones."""
    model = ConvNextV2ForImageClassification(
        ConvNextV2Config(depths=[2, 2, 6, 2], hidden_sizes=[40, 80, 160, 320], num_labels=1000)
    )
    model.save_pretrained(tmp_path / name)
    (tmp_path / name / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with pytest.warns(UserWarning, match="under CC-BY-NC-4.0: not for commercial use"):
        found = read(tmp_path / name)
    assert (found.info.published, found.info.classes[0]) == ("convnextv2_atto.fcmae_ft_in1k", "tench")


def test_a_fine_tuned_file_under_a_published_name_is_its_own(tmp_path):
    file = tmp_path / "convnextv2_atto_1k_224_ema.pt"
    torch.save({"model_ema": create_model("convnextv2_atto", num_classes=10).state_dict()}, file)
    with pytest.warns(UserWarning, match="under CC-BY-NC-4.0"):
        found = read(file)
    assert found.info.published is None
    assert (len(found.info.classes), found.averaged) == (10, True)


@pytest.mark.parametrize("to", ["timm", "transformers", "official", "mmpretrain", "convnextv2"])
def test_a_licence_survives_every_layout(to, tmp_path):
    file = tmp_path / "convnextv2_atto_1k_224_ema.pt"
    torch.save({"model": create_model("convnextv2_atto").state_dict()}, file)
    out = {"timm": "a.pth", "transformers": "folder", "convnextv2": "own.safetensors"}.get(to, "a.pt")
    with pytest.warns(UserWarning, match=r"not for commercial use"):
        convert(file, to, tmp_path / out)
    with pytest.warns(UserWarning, match=r"under CC-BY-NC-4.0: not for commercial use"):
        assert convnextv2.load(tmp_path / out).licence == "CC-BY-NC-4.0"
