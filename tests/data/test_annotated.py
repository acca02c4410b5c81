"""Image, mask, boxes and instance masks are moved together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from convnextv2.data.transforms.augment_operations import OPERATIONS
from convnextv2.data.transforms.colour import RandAugment, RandomErase
from convnextv2.data.transforms.geometry import Affine, CenterFit, CropResize, RandomResizedCropFlip
from convnextv2.data.transforms.transform import AnnotatedImage
from convnextv2.records import Preprocessing

FIXED = settings(deadline=None, max_examples=60, derandomize=True)
MOVES = OPERATIONS[:5]


def painted(height, width, boxes, value=255):
    """An image with rectangles on black, their boxes, their masks and a class map (1, 2, ...)."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    mask = torch.zeros(height, width, dtype=torch.int64)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        image[:, y0:y1, x0:x1] = value
        mask[y0:y1, x0:x1] = number + 1
        masks[number, y0:y1, x0:x1] = True
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return AnnotatedImage(image, mask, boxes, torch.arange(len(boxes)) + 1, masks)


def extent(bright):
    """x0, y0, x1, y1 of what is True in (H, W)."""
    box = masks_to_boxes(bright[None])[0]
    return box + torch.tensor([0.0, 0, 1, 1])


@st.composite
def scenes(draw):
    height, width = draw(st.integers(30, 90)), draw(st.integers(30, 90))
    x0, y0 = draw(st.integers(0, width - 12)), draw(st.integers(0, height - 12))
    return painted(height, width, [(x0, y0, draw(st.integers(x0 + 12, width)), draw(st.integers(y0 + 12, height)))])


@FIXED
@given(scene=scenes(), seed=st.integers(0, 2**31), name=st.sampled_from(["crop", "fit", "whole"]))
def test_boxes_of_a_painted_rectangle_stay_tight(scene, seed, name):
    transform = {
        "crop": RandomResizedCropFlip(64),
        "fit": CenterFit((48, 64)),
        "whole": CenterFit(64, resize="whole"),
    }[name]
    torch.manual_seed(seed)
    parameters = transform.draw(scene.image)
    out = transform.apply(parameters, scene)
    bright = out.image[0] > 127
    if len(out.boxes):
        scale = 64 / min(scene.image.shape[1:])  # pixels of the result per pixel of the image, at least
        if bright.any() and (out.boxes[0, 2:] - out.boxes[0, :2]).min() > 2 * max(1, scale):
            assert (extent(bright) - out.boxes[0]).abs().max() <= 1
            assert (extent(out.instance_masks[0]) - out.boxes[0]).abs().max() <= 1
    else:
        assert not bright.any() or bright.float().mean() < 0.05
    assert torch.equal(out.mask.bool(), out.instance_masks.any(0) if len(out.boxes) else out.mask.bool())


@FIXED
@given(scene=scenes(), number=st.integers(0, 4), level=st.floats(-1, 1).filter(lambda level: abs(level) > 0.05))
def test_boxes_follow_rotation_shear_and_shift(scene, number, level):
    size = tuple(scene.image.shape[1:])
    move = MOVES[number].make(level, size, (0.0, 0.0, 0.0))
    out = move(scene)
    bright = out.image[0] > 127
    if not bright.any():
        return
    corners = bright[0].any() or bright[-1].any() or bright[:, 0].any() or bright[:, -1].any()
    box, seen = out.boxes[0], extent(bright)
    if corners:  # cut off at the image's edge: the box is around the whole, clipped
        assert (seen[:2] >= box[:2] - 1).all()
        assert (seen[2:] <= box[2:] + 1).all()
    elif number in (1, 2):
        assert (seen - box).abs().max() <= 1
    else:  # the sharp corners of a turned rectangle are less than half covered
        assert (seen - box).abs().max() <= 2
    overlap = (out.instance_masks[0] & bright).sum() / (out.instance_masks[0] | bright).sum()
    edge = 4 * sum((box[2:] - box[:2]).tolist()) / max(1, int(bright.sum()))
    assert overlap > 1 - edge


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("blocks", [8, 13])
def test_a_mask_of_the_images_own_pixels_stays_on_it(seed, blocks):
    """Blocks of two values: wherever the moved image is plainly one of the two, the moved mask says the same."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(80), indexing="ij")
    mask = ((y // blocks + x // blocks) % 2).to(torch.uint8)
    target = AnnotatedImage((mask * 200 + 20).expand(3, -1, -1).contiguous(), mask)
    torch.manual_seed(seed)
    transform = (RandomResizedCropFlip((48, 96)), CenterFit((57, 70)), RandomResizedCropFlip(128))[seed % 3]
    out = transform(target)
    agree = (out.image[0] > 120) == (out.mask == 1)
    assert agree.float().mean() > 0.97, "only the pixel in which the two meet may differ"
    sure = ((out.image[0].int() - 20).abs() < 10) | ((out.image[0].int() - 220).abs() < 10)
    assert agree[sure].float().mean() > 0.999


def test_enlarged_masks_are_not_half_a_pixel_off():
    """Enlarged five times about each pixel's centre, as the image is."""
    mask = torch.arange(9).view(3, 3)
    moved = CenterFit(15, resize="whole").draw(torch.zeros(3, 3, 3)).on_mask(mask)
    assert torch.equal(moved, mask.repeat_interleave(5, 0).repeat_interleave(5, 1))
    small = CenterFit(5, resize="whole").draw(torch.zeros(1, 15, 15)).on_mask(moved)
    assert torch.equal(small, moved[torch.tensor([1, 4, 7, 10, 13])][:, torch.tensor([1, 4, 7, 10, 13])])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.int64])
def test_class_numbers_are_kept_exactly(dtype):
    top = min(torch.iinfo(dtype).max, 2**31 - 1)
    mask = torch.tensor([0, 1, 7, 200, top - 1, top]).to(dtype).repeat_interleave(50).view(6, 50).repeat(3, 1)
    for transform in (RandomResizedCropFlip(40), CenterFit(40), RandAugment(operations=3, probability=1)):
        torch.manual_seed(1)
        out = transform(AnnotatedImage(torch.zeros(3, 18, 50, dtype=torch.uint8), mask, outside=1))
        assert out.mask.dtype == dtype
        assert set(out.mask.flatten().tolist()) <= set(mask.flatten().tolist())
        assert len(set(out.mask.flatten().tolist())) > 2


def test_uncovered_places_get_the_class_asked_for():
    target = AnnotatedImage(torch.zeros(1, 20, 30, dtype=torch.uint8), torch.ones(20, 30, dtype=torch.int64))
    out = Affine((20, 30), shift=(10, 0))(target)
    assert (out.mask[:, :10] == 255).all()
    assert (out.mask[:, 10:] == 1).all()
    with pytest.raises(ValueError, match="cannot hold 255"):
        Affine((20, 30), shift=(10, 0)).on_mask(torch.zeros(20, 30, dtype=torch.int8), 255)
    masks = torch.ones(2, 20, 30, dtype=torch.bool)
    assert torch.equal(
        Affine((20, 30), shift=(10, 0)).on_mask(masks)[:, :, 9:11].any(1), torch.tensor([[False, True]] * 2)
    )


def test_objects_that_leave_are_dropped_from_everything_and_stay_known():
    scene = painted(40, 100, [(0, 0, 10, 10), (40, 5, 60, 35), (90, 20, 100, 40), (45, 10, 50, 20)])
    middle = CropResize((40, 100), top=0, left=30, height=40, width=40, size=(40, 40))
    out = middle(scene)
    assert out.kept.tolist() == [1, 3]
    assert out.labels.tolist() == [2, 4]
    assert out.boxes.tolist() == [[10, 5, 30, 35], [15, 10, 20, 20]]
    assert out.instance_masks.shape == (2, 40, 40)
    right = CropResize((40, 40), top=0, left=22, height=40, width=18, size=(20, 9), flip=True)(out)
    assert right.kept.tolist() == [1]
    assert right.boxes.tolist() == [[5, 2.5, 9, 17.5]]
    boxes, kept = middle.on_boxes(scene.boxes)
    assert kept.tolist() == [False, True, False, True]
    assert boxes.shape == (4, 4)
    assert boxes.dtype == torch.float32


def test_an_object_without_a_visible_pixel_is_dropped_though_its_box_is_there():
    scene = painted(20, 40, [(0, 0, 40, 20), (0, 0, 40, 10)])
    masks = torch.stack([torch.arange(40).expand(20, 40) < 5, scene.instance_masks[1]])  # the first lies at the left
    right = CropResize((20, 40), top=0, left=20, height=20, width=20, size=(20, 20))
    for boxes in (scene.boxes, None):
        out = right(AnnotatedImage(scene.image, boxes=boxes, labels=scene.labels, instance_masks=masks))
        assert out.kept.tolist() == [1]
        assert out.labels.tolist() == [2]
    assert right.on_boxes(scene.boxes)[1].all()


def test_parts_may_be_missing_and_objects_may_be_none():
    empty = painted(20, 30, [])
    only_labels = AnnotatedImage(empty.image, labels=torch.tensor([3]))
    transforms = RandomResizedCropFlip(16), CenterFit(16), RandAugment(operations=5, probability=1)
    for transform in (*transforms, RandomErase(1, Preprocessing())):
        out = transform(empty)
        assert out.boxes.shape == (0, 4)
        assert out.instance_masks.shape == (0, *out.image.shape[1:])
        assert out.kept.tolist() == []
        assert transform(AnnotatedImage(empty.image)).mask is None
        assert transform(only_labels).labels.tolist() == [3]


@pytest.mark.parametrize("seed", range(20))
def test_colours_leave_targets_alone_and_moves_do_not(seed):
    scene = painted(40, 50, [(10, 8, 30, 30)], value=180)
    augment = RandAugment(operations=1, probability=1)
    torch.manual_seed(seed)
    steps = augment.draw(scene.image)
    out = augment.apply(steps, scene)
    torch.manual_seed(seed)
    assert torch.equal(out.image, augment(scene.image)), "with targets or without, the image is the same"
    moved = isinstance(steps.steps[0], Affine)
    for name in ("mask", "boxes", "instance_masks"):
        assert torch.equal(getattr(out, name), getattr(scene, name)) != moved
    erased = RandomErase(1, Preprocessing())(scene)
    assert torch.equal(erased.boxes, scene.boxes)
    assert torch.equal(erased.mask, scene.mask)
    assert not torch.equal(erased.image, scene.image)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_given_is_written_into(seed):
    scene = painted(40, 50, [(10, 8, 30, 30)])
    before = painted(40, 50, [(10, 8, 30, 30)])
    torch.manual_seed(seed)
    for transform in (RandomResizedCropFlip(40), CenterFit(30), RandAugment(operations=4, probability=1)):
        transform(scene)
        for name in ("image", "mask", "boxes", "labels", "instance_masks"):
            assert torch.equal(getattr(scene, name), getattr(before, name))


def test_parameters_belong_to_one_size():
    parameters = RandomResizedCropFlip(8).draw(torch.empty(3, 20, 30, device="meta"))
    for apply in (parameters.on_image, parameters.on_mask):
        with pytest.raises(ValueError, match=r"drawn for \(20, 30\)"):
            apply(torch.zeros(3, 30, 20))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mask": torch.zeros(3, 4)}, "mask of shape"),
        ({"boxes": torch.zeros(2, 4, dtype=torch.int64)}, "float32"),
        ({"boxes": torch.zeros(4)}, "float32"),
        ({"instance_masks": torch.zeros(2, 4, 5)}, "instance masks"),
        ({"boxes": torch.zeros(2, 4), "labels": torch.zeros(3)}, "number of objects"),
    ],
)
def test_what_does_not_belong_together_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        AnnotatedImage(torch.zeros(3, 5, 5), **parts)
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        AnnotatedImage(torch.zeros(5, 5))


def test_a_crop_is_the_same_however_it_is_written():
    """Against torchvision's functions on each part by itself."""
    scene = painted(50, 60, [(5, 6, 40, 30)])
    crop = CropResize((50, 60), top=3, left=4, height=40, width=50, size=(32, 25), flip=True)
    out = crop(scene)
    image = F.resize(scene.image[:, 3:43, 4:54], [32, 25], interpolation=InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(out.image, image.flip(-1))
    assert torch.allclose(out.boxes, torch.tensor([[25 - 36 / 2, 3 * 0.8, 25 - 1 / 2, 27 * 0.8]]))
