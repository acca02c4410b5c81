"""What a sample is: a random crop, and the mean colour of that very crop."""

from dataclasses import dataclass

from torch import Tensor

from convnextv2.extend import RandomResizedCropFlip


@dataclass(frozen=True)
class CropWithColour:
    """crop: draws from torch's generator, which is seeded for each image, so a resumed run sees the same crops."""

    crop: RandomResizedCropFlip

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 (C, H, W).  Returns images (C, size, size) and colour (C,), 0 to 1."""
        cropped = self.crop(image)
        return {"images": cropped, "colour": cropped.float().mean((1, 2)) / 255}
