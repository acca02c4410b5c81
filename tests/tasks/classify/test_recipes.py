"""Every number of the published tables, and what the recipe for small folders chooses."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnextv2.errors import UserError
from convnextv2.models import SIZES
from convnextv2.tasks.classify import recipes

# One row a setting and one column a size, as in the paper; a single value holds for all sizes.
OURS = {"betas": (0.9, 0.999), "min_lr": 1e-6, "min_scale": 0.08, "ema_warmup": False, "lr_rule": "linear"}
IN1K = OURS | {
    "size": ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"),
    "batch_size": 1024,
    "lr": (8e-4, 8e-4, 8e-4, 8e-4, 3.2e-3, 2.5e-3, 2.5e-3, 5e-4),
    "weight_decay": (0.3, 0.05, 0.3, 0.3, 0.05, 0.05, 0.05, 0.05),
    "layer_decay": (0.9, 0.9, 0.9, 0.9, 0.9, 0.6, 0.6, 0.75),
    "layer_decay_type": ("single", "single", "single", "single", "single", "group", "group", "single"),
    "warmup_epochs": (0, 0, 0, 0, 40, 20, 20, 10),
    "epochs": (600, 600, 600, 600, 300, 100, 100, 50),
    "smoothing": (0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1),
    "mixup": (0, 0.3, 0.3, 0.5, 0.8, 0.8, 0.8, 0.8),
    "cutmix": (0, 0.3, 0.3, 0.5, 1.0, 1.0, 1.0, 1.0),
    "drop_path": (0.1, 0.0, 0.0, 0.1, 0.2, 0.1, 0.2, 0.3),
    "rand_augment": 9,
    "erasing": 0.25,
    "head_init": 0.001,
    "ema": 0.9999,
}
IN22K = OURS | {
    "size": ("nano", "tiny", "base", "large", "huge"),
    "batch_size": 4096,
    "lr": 4e-3,
    "weight_decay": 0.05,
    "layer_decay": (0.9, 0.9, 0.8, 0.8, 0.8),
    "layer_decay_type": ("single", "single", "group", "group", "single"),
    "warmup_epochs": 5,
    "epochs": 90,
    "smoothing": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "drop_path": (0, 0, 0.1, 0.1, 0.3),
    "rand_augment": 9,
    "erasing": 0.25,
    "head_init": 0.001,
    "ema": None,
}
IN22K_TO_IN1K = OURS | {
    "size": ("nano", "tiny", "base", "large", "huge"),
    "batch_size": 512,
    "lr": 5e-5,
    "weight_decay": 1e-8,
    "layer_decay": (0.9, 0.9, 0.8, 0.8, 0.85),
    "layer_decay_type": ("single", "single", "group", "group", "single"),
    "warmup_epochs": 0,
    "epochs": (90, 90, 30, 30, 30),
    "smoothing": 0.1,
    "mixup": 0,
    "cutmix": 0,
    "drop_path": (0.1, 0.1, 0.2, 0.3, 0.5),
    "rand_augment": 9,
    "erasing": 0.25,
    "head_init": 0.001,
    "ema": (0.9999, 0.9999, 0.9999, 0.9999, None),
}
SUPERVISED = OURS | {
    "size": ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "huge"),
    "batch_size": 4096,
    "lr": 4e-3,
    "weight_decay": 0.05,
    "layer_decay": 1.0,
    "layer_decay_type": "single",
    "warmup_epochs": 20,
    "epochs": 300,
    "smoothing": 0.1,
    "mixup": (0, 0.3, 0.3, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8),
    "cutmix": (0, 0.3, 0.3, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0),
    "drop_path": (0.1, 0.0, 0.0, 0.1, 0.1, 0.4, 0.5, 0.5, 0.5),
    "rand_augment": 9,
    "erasing": 0.25,
    "head_init": 1.0,
    "ema": 0.9999,
}
TABLES = {"in1k": IN1K, "in22k": IN22K, "in22k-to-in1k": IN22K_TO_IN1K, "supervised": SUPERVISED}
BY_SIZE = {
    "in1k": recipes.in1k,
    "in22k": recipes.in22k,
    "in22k-to-in1k": recipes.in22k_to_in1k,
    "supervised": recipes.supervised,
}


def columns():
    for recipe, table in TABLES.items():
        rows = {key: row for key, row in table.items() if key != "size"}
        for place, size in enumerate(table["size"]):
            column = {k: row[place] if isinstance(row, tuple) and k != "betas" else row for k, row in rows.items()}
            yield pytest.param(recipe, size, column, id=f"{recipe}-{size}")


@pytest.mark.parametrize(("recipe", "size", "column"), [*columns()])
def test_every_cell_of_the_tables(recipe, size, column):
    found = dataclasses.asdict(BY_SIZE[recipe](size))
    assert found.pop("source")
    rate = column.pop("lr")
    assert found.pop("lr") == pytest.approx(rate, rel=1e-12)
    assert found == column


@pytest.mark.parametrize("recipe", ["in1k", "in22k", "in22k-to-in1k"])
def test_small_has_the_column_of_tiny(recipe):
    small, tiny = BY_SIZE[recipe]("small"), BY_SIZE[recipe]("tiny")
    assert dataclasses.replace(small, source=tiny.source) == tiny
    assert "Tiny" in small.source


@pytest.mark.parametrize(("size", "base"), [("base", 6.25e-4), ("large", 6.25e-4), ("huge", 1.25e-4)])
def test_where_code_and_paper_differ_the_source_says_so(size, base):
    recipe = recipes.in1k(size)
    assert recipes.scaled_lr(recipe, 256) == pytest.approx(base)
    assert "random erasing" in recipe.source
    assert f"{base:.2e}".replace("e-0", "e-") in recipe.source


@pytest.mark.parametrize("recipe", BY_SIZE)
def test_the_largest_of_v1_gets_the_column_of_large(recipe):
    found, large = recipes.named(recipe, "convnext_xlarge", 1000, pretrained=True), BY_SIZE[recipe]("large")
    assert found.source == f"{large.source}; the column of Large"
    assert dataclasses.replace(found, source=large.source) == large


@pytest.mark.parametrize("model", sorted(SIZES.keys() - {"convnext_xlarge"}))
@pytest.mark.parametrize("recipe", BY_SIZE)
def test_a_model_gets_the_column_of_its_size(recipe, model):
    size = model.split("_")[1]
    if recipe.startswith("in22k") and size in ("atto", "femto", "pico"):
        message = (
            f"recipe {recipe} is not published for {size}.* nano, tiny, small, base, large, huge: use recipe='in1k'"
        )
        with pytest.raises(UserError, match=message):
            recipes.named(recipe, model, 1_281_167, pretrained=True)
    else:
        assert recipes.named(recipe, model, 1_281_167, pretrained=True) == BY_SIZE[recipe](size)


@pytest.mark.parametrize("recipe", BY_SIZE)
def test_a_timm_model_gets_the_column_of_tiny(recipe):
    found, tiny = recipes.named(recipe, "timm:vit_small_patch16_224", 1000, pretrained=True), BY_SIZE[recipe]("tiny")
    assert dataclasses.replace(found, source=tiny.source) == tiny
    assert found.layer_decay_type == "single"
    assert "Tiny" in found.source


@pytest.mark.parametrize("model", ["convnextv2_atto", "convnext_large", "timm:resnet18"])
@pytest.mark.parametrize("pretrained", [True, False])
def test_small_data_is_the_same_for_every_model(model, pretrained):
    assert recipes.named("small-data", model, 5000, pretrained) == recipes.small_data(5000, pretrained)


def test_every_name_gives_a_recipe():
    assert {*BY_SIZE, "small-data"} == set(recipes.RECIPES)


@pytest.mark.parametrize(
    ("recipe", "model", "message"),
    [
        ("in1", "convnextv2_atto", "'in1': give recipe='in1k', in22k, in22k-to-in1k, supervised or small-data"),
        (
            "in1k",
            "convnextv2_atom",
            "a model called 'convnextv2_atom': give convnextv2_SIZE, convnext_SIZE or timm:NAME",
        ),
        ("small-data", "resnet18", "a model called 'resnet18'"),
    ],
)
def test_unknown_names_are_refused_in_one_line(recipe, model, message):
    with pytest.raises(UserError, match=message) as error:
        recipes.named(recipe, model, 1000, pretrained=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("recipe", list(BY_SIZE.values()))
def test_an_unknown_size_is_refused(recipe):
    with pytest.raises(UserError, match="no size is called 'xlarge': give one of atto, femto"):
        recipe("xlarge")


@pytest.mark.parametrize(
    ("pictures", "batch", "epochs", "warmup"),
    [(1, 1, 200, 5), (10, 8, 200, 5), (400, 16, 200, 5), (1797, 64, 56, 5), (3000, 64, 33, 3.3), (10**6, 256, 30, 3)],
)
def test_small_data_by_hand(pictures, batch, epochs, warmup):
    recipe = recipes.small_data(pictures, pretrained=True)
    assert (recipe.batch_size, recipe.epochs) == (batch, epochs)
    assert recipe.warmup_epochs == pytest.approx(warmup)


@given(pictures=st.integers(1, 10**8), pretrained=st.booleans())
def test_small_data_fits_any_folder(pictures, pretrained):
    recipe = recipes.small_data(pictures, pretrained)
    assert 1 <= recipe.batch_size <= min(pictures, 256)
    assert recipe.batch_size.bit_count() == 1
    assert recipe.batch_size >= min(16, pictures // 2)
    assert int(pictures // recipe.batch_size * recipe.epochs) >= 1
    assert 0 < recipe.warmup_epochs < recipe.epochs
    assert 30 <= recipe.epochs <= 200
    assert 0 < recipe.lr <= 2e-3
    assert recipe.layer_decay == (0.85 if pretrained else 1.0)


@given(pictures=st.integers(1, 10**6))
def test_a_larger_folder_has_no_smaller_batch_and_no_more_epochs(pictures):
    smaller, larger = (recipes.small_data(n, pretrained=False) for n in (pictures, pictures + 1))
    assert larger.batch_size >= smaller.batch_size
    assert larger.epochs <= smaller.epochs


@pytest.mark.parametrize("pictures", [0, -1])
def test_small_data_of_no_pictures_is_refused(pictures):
    with pytest.raises(UserError, match=f"{pictures} images to train on: give data"):
        recipes.small_data(pictures, pretrained=False)


def test_the_rate_of_another_batch_follows_the_rule():
    assert recipes.scaled_lr(recipes.in1k("atto"), 256) == pytest.approx(2e-4)
    assert recipes.scaled_lr(recipes.supervised("base"), 8192) == pytest.approx(8e-3)
    small = recipes.small_data(10**6, pretrained=True)  # 2e-3 at 256
    assert recipes.scaled_lr(small, 64) == pytest.approx(1e-3)
    assert recipes.scaled_lr(small, 1024) == pytest.approx(4e-3)


@given(
    pictures=st.integers(1, 10**6), batch=st.integers(1, 10**4), recipe=st.sampled_from(["in22k", "small-data", "in1k"])
)
def test_the_rate_at_the_recipes_batch_is_its_own(pictures, batch, recipe):
    found = recipes.named(recipe, "convnextv2_base", pictures, pretrained=True)
    assert recipes.scaled_lr(found, found.batch_size) == found.lr
    assert (recipes.scaled_lr(found, batch) < found.lr) == (batch < found.batch_size)
