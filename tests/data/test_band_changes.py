"""Changes of images of any bands: quarter turns, jitter, and the absence of bands."""

import pytest
import torch

from convnextv2.data.transforms.bands import BandJitter, RandomTurn, Turn
from convnextv2.data.transforms.transform import AnnotatedImage
from convnextv2.records import Bands, Preprocessing

STATISTICS = Preprocessing((1000.0, 50.0, 0.5), (100.0, 5.0, 0.1), bands=Bands(3, (0, 1, 2)))


@pytest.mark.parametrize("quarters", range(4))
def test_boxes_and_masks_stay_on_the_image(quarters):
    image = torch.zeros(2, 30, 40)
    image[:, 4:10, 7:20] = 1
    target = AnnotatedImage(image, mask=image[0].to(torch.uint8), boxes=torch.tensor([[7.0, 4.0, 20.0, 10.0]]))
    turned = Turn((30, 40), quarters)(target)
    assert torch.equal(turned.image, torch.rot90(image, quarters, (1, 2)))
    assert torch.equal(turned.mask, turned.image[0].to(torch.uint8))
    rows, columns = turned.mask.nonzero().T
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert turned.boxes.tolist() == [[float(edge) for edge in box]]


def test_all_four_turns_are_drawn():
    torch.manual_seed(0)
    drawn = [RandomTurn().draw(torch.zeros(1, 8, 8)).quarters for _ in range(200)]
    assert all(30 < drawn.count(quarters) < 70 for quarters in range(4))


def image_of(size=64):
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (STATISTICS.mean, STATISTICS.std))
    return torch.randn(3, size, size, generator=generator) * std + mean


def test_each_band_changes_by_itself_within_its_strength():
    torch.manual_seed(0)
    image, jitter = image_of(), BandJitter(STATISTICS, 0.3)
    moved = []
    for _ in range(50):
        changed = jitter(image)
        shift = (changed - image).mean((1, 2)) / torch.tensor(STATISTICS.std)
        spread = changed.std((1, 2)) / image.std((1, 2))
        assert (shift.abs() < 0.32).all()
        assert ((spread > 0.69) & (spread < 1.31)).all()
        moved.append(shift)
    assert torch.stack(moved).std(0).min() > 0.1
    assert torch.corrcoef(torch.stack(moved).T).fill_diagonal_(0).abs().max() < 0.5
    assert torch.equal(BandJitter(STATISTICS, 0.0)(image), (image - jitter._mean) * 1 + jitter._mean)


def test_missing_pixels_stay_missing_and_others_do_not_become_so():
    torch.manual_seed(0)
    image = image_of()
    image[:, :20] = torch.nan
    for _ in range(20):
        assert torch.equal(BandJitter(STATISTICS, 0.3, 0.5)(image).isnan(), image.isnan())


def test_bands_are_absent_with_the_probability_and_one_always_stays():
    torch.manual_seed(0)
    jitter, image, mean = BandJitter(STATISTICS, 0.1, 0.4), image_of(8), torch.tensor(STATISTICS.mean)
    absent = torch.stack([(jitter(image) == mean.view(-1, 1, 1)).all(2).all(1) for _ in range(2000)])
    assert not absent.all(1).any()
    expected = 0.4 * (1 - 1 / 3)  # one of the three, drawn evenly, stays
    assert absent.float().mean(0).tolist() == pytest.approx([expected] * 3, abs=0.04)
