"""A ConvNeXt that gives the mean colour of an image."""

from torch import Tensor, nn

from convnextv2.extend import ConvNeXt, ModelInfo


class MeanColour(nn.Module):
    """The encoder is called `encoder`, so that any file's encoder can fill it, and its own can be taken out again."""

    def __init__(self, encoder: ConvNeXt, hidden: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.colour = nn.Sequential(nn.Linear(encoder.dims[3], hidden), nn.GELU(), nn.Linear(hidden, encoder.in_chans))

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W), normalised.  Returns the mean colour, (B, C), 0 to 1."""
        return self.colour(self.encoder.pooled_features(images)).sigmoid()


def build(info: ModelInfo) -> MeanColour:
    """The model that a file describes."""
    return MeanColour(ConvNeXt(info.architecture, num_classes=0), **info.options)
