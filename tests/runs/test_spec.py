"""What a task must say of itself, how it is found, and what happens if a plugin is broken."""

import dataclasses
import importlib.util
import sys
from importlib.metadata import EntryPoint

import mean_colour.run
import pytest
import torch
from mean_colour.run import MEAN_COLOUR, MeanColourRun, MeanColourSettings

from convnextv2.errors import LoadError, Notice, UserError
from convnextv2.models.config import EncoderConfig
from convnextv2.records import Preprocessing
from convnextv2.runs import spec
from convnextv2.runs.spec import TaskSpec, check_settings, register_task, task_of_kind
from convnextv2.weights import kinds
from convnextv2.weights.files import save_tensors
from convnextv2.weights.load import kind_of, read
from convnextv2.weights.model_file import RESERVED, ModelInfo

ARCHITECTURE = EncoderConfig.named("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is gone after it."""
    kinds.import_own_tasks()
    monkeypatch.setattr(spec, "_TASKS", dict(spec._TASKS))
    monkeypatch.setattr(kinds, "_BUILDERS", dict(kinds._BUILDERS))


@pytest.fixture
def plugins(monkeypatch):
    """Stands in for the entry points of installed packages; give it their modules."""

    def install(*modules):
        points = [EntryPoint(name, name, kinds.PLUGINS) for name in modules]
        monkeypatch.setattr(kinds, "entry_points", lambda group: points)
        kinds._import_plugins.cache_clear()

    yield install
    kinds._import_plugins.cache_clear()


def changed(**values):
    return dataclasses.replace(MEAN_COLOUR, **values)


class OtherRun(MeanColourRun):
    """Of another task."""


def info(**values):
    record = {"kind": "mean-colour", "architecture": ARCHITECTURE, "options": {"hidden": 8}, "image_size": 32}
    return ModelInfo(preprocessing=Preprocessing.for_channels(3), **record | values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "mean_colour"}, "give lower-case letters, digits and hyphens, a letter first, as 'mean-colour'"),
        ({"kind": "Segmenter"}, "as 'segmenter'"),
        ({"kind": "MaskedSegmenter"}, "as 'masked-segmenter'"),
        ({"kind": "3d"}, "as 'kind-3d'"),
        ({"kind": ""}, "as 'kind'"),
        ({"kind": "segmenter\n"}, "as 'segmenter'"),
        ({"kind": "step"}, "is the name of an entry in every model file: give another, as 'step-model'"),
        ({"kind": "published"}, "as 'published-model'"),
        ({"kind": "encoder"}, "is a plain backbone, .*: leave out build, or .* as 'mean-colour'"),
        ({"kind": "classifier"}, "is a plain backbone"),
        ({"build": None}, "kind 'mean-colour' needs build"),
    ],
)
def test_a_task_whose_files_nobody_could_read_is_refused_when_it_is_declared(values, said):
    with pytest.raises(UserError, match=said) as caught:
        changed(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(name for name in RESERVED if name not in kinds.BACKBONES))
def test_no_kind_is_called_as_an_entry_of_the_metadata(name):
    with pytest.raises(UserError, match=f"kind '{name}' is "):
        changed(kind=name)


def test_what_a_file_says_has_reserved_names_and_those_of_its_kind():
    """Also of an entry that is added later."""
    said = info(
        trained_on="x", trained_from=(), published="x", licence="mit", step=1, classes=("a",), crop_pct=0.9
    ).to_metadata()
    assert said.keys() - RESERVED == {"mean-colour"}
    assert ModelInfo.from_metadata(said).options == {"hidden": 8}


def test_options_of_a_backbone_are_refused_before_they_replace_its_architecture():
    with pytest.raises(UserError, match="a file of kind 'encoder' has none"):
        info(kind="encoder").to_metadata()
    assert changed(kind="encoder", build=None).kind == "encoder"  # a task may train a plain one


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"verb": "classify", "kind": "other"}, "verb 'classify' is that of convnextv2.tasks.classify.run already"),
        ({"verb": "other", "kind": "fcmae"}, "kind 'fcmae' is that of convnextv2.tasks.pretrain.run already"),
        ({"verb": "other", "run": OtherRun}, "kind 'mean-colour' is that of mean_colour.run already; .* 'my-mean"),
        ({"kind": "other", "run": OtherRun}, "verb 'mean-colour' is that of mean_colour.run already"),
    ],
)
def test_a_name_of_another_task_is_refused(values, said):
    before = dict(spec._TASKS)
    with pytest.raises(UserError, match=said):
        register_task(changed(**values))
    assert before == spec._TASKS


def test_a_name_of_ours_is_taken_also_where_ours_was_not_imported_yet(monkeypatch):
    monkeypatch.setattr(spec, "_TASKS", {})
    asked = []
    monkeypatch.setattr(kinds, "import_own_tasks", lambda: asked.append(1))
    register_task(changed(verb="other", kind="other"))
    assert asked == [1]


def test_the_same_task_again_is_no_mistake():
    assert register_task(MEAN_COLOUR) is MEAN_COLOUR
    found = importlib.util.find_spec("mean_colour.run")
    assert found is not None
    assert found.loader is not None
    reloaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(reloaded)  # as by reload, but other tests keep theirs
    again = reloaded.MEAN_COLOUR
    assert again is not MEAN_COLOUR
    assert task_of_kind("mean-colour") is again


def test_a_broken_plugin_is_left_out_and_named(plugins, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("raise ImportError('no module\\nnamed torch_old')")
    (tmp_path / "good_plugin.py").write_text(
        "import dataclasses\nfrom mean_colour.run import MEAN_COLOUR\nfrom convnextv2.runs.spec import register_task\n"
        "class Run(MEAN_COLOUR.run): pass\n"
        "register_task(dataclasses.replace(MEAN_COLOUR, verb='good', kind='good', run=Run))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins("broken_plugin", "good_plugin")
    assert task_of_kind("fcmae").verb == "pretrain"  # ours needs no plugin: no warning
    assert kinds.shapes(info(kind="fcmae", image_size=64, options={"decoder_dim": 8, "decoder_depth": 1}))
    assert "broken_plugin" not in sys.modules
    with pytest.warns(Notice, match=r"plugin broken_plugin .* ImportError: no module named torch_old") as warned:
        assert task_of_kind("good").verb == "good"
    assert len(warned) == 1
    sys.modules.pop("good_plugin")


def test_a_kind_that_nobody_registers_is_named(plugins):
    plugins()
    with pytest.raises(
        UserError, match=r"knows models of kind 'lost': install the package .* classifier, fcmae"
    ) as said:
        task_of_kind("lost")
    assert "\n" not in str(said.value)
    with pytest.raises(LoadError, match="knows models of kind 'lost'"):
        kinds.build(info(kind="lost"))


def test_a_setting_that_a_plain_function_does_not_have():
    def judge(run, data, *, size: int = 3): ...

    check_settings("evaluate", judge, {"size": 3})
    with pytest.raises(UserError, match="evaluate has no setting 'split'; it has size"):
        check_settings("evaluate", judge, {"split": "val"})
    check_settings("evaluate", lambda run, data, **settings: None, {"split": "val"})  # it says so itself


def test_only_blocks_are_counted_as_blocks(tmp_path):
    """`max_depth` of a model of depth maps is in metres."""

    def build(described):
        return mean_colour.run.build(dataclasses.replace(described, options={"hidden": 8}))

    register_task(changed(verb="depth", kind="depth", run=OtherRun, build=build))
    described = info(kind="depth", options={"max_depth": 1000, "decoder_depth": 1})
    save_tensors(tmp_path / "model.safetensors", build(described).state_dict(), described.to_metadata())
    assert read(tmp_path / "model.safetensors").info.options["max_depth"] == 1000
    assert kind_of(tmp_path / "model.safetensors") == "depth"
    (tmp_path / "config.json").write_text("{}")  # as push writes it
    assert kind_of(tmp_path) == "depth"
    hostile = info(kind="depth", options={"decoder_depth": 10**9})
    save_tensors(tmp_path / "model.safetensors", {"x": torch.zeros(1)}, hostile.to_metadata())
    with pytest.raises(LoadError, match="more blocks than tensors"):
        read(tmp_path)


def test_a_task_can_be_declared_with_what_it_must_have():
    declared = TaskSpec(
        verb="v", kind="k", settings=MeanColourSettings, run=OtherRun, needs_data="give --data", build=MEAN_COLOUR.build
    )
    assert declared.title == "a model of kind k"
    assert dataclasses.replace(declared, model_title="a thing").title == "a thing"
