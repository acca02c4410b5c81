"""What the recipes choose."""

import pytest

from convnextv2.tasks.pretrain import recipes
from convnextv2.tasks.pretrain.settings import PretrainSettings


def test_the_paper_recipe_is_table_8():
    recipe, chosen = recipes.resolve(PretrainSettings(recipe="paper"), 1_281_167)
    assert (recipe.batch_size, recipe.epochs, recipe.warmup_epochs) == (4096, 1600, 40)
    assert recipe.lr == pytest.approx(2.4e-3)  # 1.5e-4 * 4096 / 256
    assert (recipe.weight_decay, recipe.betas) == (0.05, (0.9, 0.95))
    assert {why for *_, why in chosen} == {"Table 8 of the paper"}


@pytest.mark.parametrize("pictures", [2, 31, 500, 1_797, 30_000, 1_281_167, 50_000_000])
def test_auto_gives_every_folder_steps(pictures):
    recipe, _ = recipes.resolve(PretrainSettings(), pictures)
    assert pictures // recipe.batch_size >= 1
    assert recipe.batch_size <= 4096
    assert 0 < recipe.lr <= 2.4e-3
    assert recipe.warmup_epochs < recipe.epochs


def test_what_the_user_gives_is_used_and_not_told_as_a_choice():
    settings = PretrainSettings(batch_size=100, epochs=7, lr=1e-3, warmup_epochs=0, weight_decay=0)
    recipe, chosen = recipes.resolve(settings, 5000)
    assert (recipe.batch_size, recipe.epochs, recipe.lr) == (100, 7, 1e-3)
    assert (recipe.warmup_epochs, recipe.weight_decay) == (0, 0)
    assert chosen == []
