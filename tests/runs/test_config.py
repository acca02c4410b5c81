"""config.json of another run with values of wrong types: each is refused by the type of its setting."""

import json
import math

import pytest
from small_run import SMALL

from convnextv2 import pretrain
from convnextv2.errors import UserError
from convnextv2.runs.resume import settings_in_force
from convnextv2.tasks.pretrain.run import PRETRAIN
from convnextv2.tasks.pretrain.settings import PretrainSettings

WRONG = {
    bool: [1, 0, "true", 0.0, [], {}, math.nan],
    int: [True, "8", 8.5, math.inf, math.nan, [8], {}, "x"],
    float: [True, "0.5", math.inf, -math.inf, math.nan, [0.5], {}],
    str: [5, True, 1.5, [], {}, ["auto"]],
    tuple: ["1111", 5, True, [1], [], [[1, 1, 1, 1]], [True] * 4, ["1"] * 4, [1.5] * 4, {"0": 1}],
}
KINDS = {
    bool: ("compile", "cache", "flip", "norm_pix_loss"),
    int: (
        "batch_size",
        "micro_batch",
        "seed",
        "workers",
        "log_every",
        "image_size",
        "in_chans",
        "pictures",
        "max_pixels",
    ),
    float: (
        "epochs",
        "lr",
        "warmup_epochs",
        "weight_decay",
        "clip_grad",
        "mask_ratio",
        "min_scale",
        "checkpoint_minutes",
    ),
    str: ("device", "precision", "recipe", "inflate", "model"),
    tuple: ("depths", "dims"),
}


@pytest.fixture(scope="module")
def config(picture_folder, tmp_path_factory):
    run = pretrain(picture_folder, tmp_path_factory.mktemp("run") / "run", **SMALL, epochs=1).run
    found = json.loads((run / "config.json").read_text())
    return {name: value for name, value in found.items() if name != "seal"}


def started(config, tmp_path, text=None):
    """The settings that another run takes from a config.json."""
    (tmp_path / "config.json").write_text(json.dumps(config) if text is None else text)
    requested = PretrainSettings(out=tmp_path / "new", config=tmp_path / "config.json")
    return settings_in_force(PRETRAIN, requested, {"out", "config"})[0]


def test_the_settings_are_taken_as_they_are(config, tmp_path):
    found = started(config, tmp_path)
    assert (found.batch_size, found.dims, found.lr) == (8, (8, 8, 16, 16), config["settings"]["lr"])


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_a_setting_of_another_type_is_refused(kind, name, config, tmp_path):
    for value in WRONG[kind]:
        for part in ("settings", "given"):
            changed = {**config, part: config[part] | {name: value}}
            with pytest.raises(UserError) as caught:
                started(changed, tmp_path)
            said = str(caught.value)
            assert "config.json" in said
            assert said.isprintable()
            assert len(said) < 500
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"verb": "pretrain", "verb": "pretrain"}',
        "[" * 100_000,
        '{"verb": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "[]",
        "5",
        '"x"',
        "",
        "\0",
        "{}",
        '{"verb": "pretrain\\u001b[31m", "settings": {}, "given": {}, "data": {}, "model": {}}',
        '{"verb": "pretrain", "settings": [], "given": {}, "data": {}, "model": {}}',
        '{"verb": "pretrain", "settings": {"\\u001b[31m": 1}, "given": {}, "data": {}, "model": {}}',
        '{"verb": "pretrain", "settings": {"lr": 1e400}, "given": {}, "data": {}, "model": {}}',
        '{"verb": "pretrain", "settings": {"lr": "\\ud800"}, "given": {}, "data": {}, "model": {}}',
        '{"verb": "pretrain", "settings": {"seed": ' + "9" * 5000 + '}, "given": {}, "data": {}, "model": {}}',
    ],
    ids=range(15),
)
def test_what_is_no_config_json_is_refused(text, config, tmp_path):
    with pytest.raises(UserError) as caught:
        started(config, tmp_path, text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
