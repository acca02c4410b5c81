"""A segmenter over images of any size."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from convnextv2.models import create_model
from convnextv2.models.upernet import UPerNet
from convnextv2.records import Preprocessing
from convnextv2.tasks.segment import windows
from convnextv2.tasks.segment.windows import SceneScorer, WindowSettings, places

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    backbone = create_model("convnextv2_atto", num_classes=0, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    made = UPerNet(backbone, 5, head_dim=16, head_norm="group").eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return made


def scores(model, image, **settings):
    scorer = SceneScorer(model, Preprocessing(), WindowSettings(**settings), classes=5, device=CPU)
    bands = list(scorer.bands(image))
    assert [band.top for band in bands] == [sum(b.scores.shape[1] for b in bands[:n]) for n in range(len(bands))]
    return torch.cat([band.scores for band in bands], 1)


def whole(model, image, size):
    """Logits of an image whose sides are multiples of 32, at another size, as the definition has it."""
    pixels = windows.Normalise(Preprocessing())(image)
    with torch.no_grad():
        logits = F.interpolate(model(pixels[None]).logits, image.shape[1:], mode="bilinear")
    return F.interpolate(logits, size, mode="bilinear")[0]


def picture(height, width):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_a_window_that_covers_the_image_is_the_whole_image(model):
    image = picture(64, 96)
    slid = scores(model, image, size=128, base=0, mode="slide")
    assert torch.equal(slid, scores(model, image, size=128, base=0, mode="whole"))
    torch.testing.assert_close(slid, whole(model, image, (64, 96)), rtol=0, atol=1e-6)


def test_logits_are_resized_to_the_image_before_the_argmax(model):
    image = picture(32, 48)
    scaled = windows.CropResize((32, 48), 0, 0, 32, 48, size=(64, 96)).on_image(image)
    found = scores(model, image, size=64, base=64)
    torch.testing.assert_close(found, whole(model, scaled, (32, 48)), rtol=0, atol=1e-5)


def test_the_height_of_the_bands_does_not_matter(model, monkeypatch):
    image = picture(150, 200)
    settings = {"size": 64, "base": 0, "mode": "slide", "scales": (0.75, 1.0), "flip": True}
    expected = scores(model, image, **settings)
    monkeypatch.setattr(windows, "_BAND_BYTES", 5 * 4 * 200 * 17)
    torch.testing.assert_close(scores(model, image, **settings), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(expected.sum(0), torch.ones(150, 200))


def test_a_mirrored_image_gives_mirrored_scores(model):
    image = picture(64, 64)
    both = scores(model, image, size=64, base=0, flip=True)
    torch.testing.assert_close(both.flip(-1), scores(model, image.flip(-1), size=64, base=0, flip=True))


@pytest.mark.parametrize(("length", "window"), [(512, 512), (600, 512), (1300, 512), (7, 512), (513, 512)])
def test_windows_cover_every_pixel_and_stay_inside(length, window):
    starts = places(length, window)
    covered = torch.zeros(max(length, window))
    for start in starts:
        covered[start : start + window] += 1
    assert covered.min() >= 1
    assert starts == sorted({*starts})
    assert starts[-1] + window == max(length, window)
    assert max([b - a for a, b in pairwise(starts)], default=0) <= 341
