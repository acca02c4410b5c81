"""Where does a classifier look? Grad-CAM (Selvaraju et al. 2017) on the last stage, by two ordinary hooks.

    python examples/class_activation.py MODEL IMAGE --out map.png
    python examples/class_activation.py runs/birds wren.jpg --class wren --out map.png

MODEL is anything that `convnextv2.load` takes and that has a head: a run, a file, a published name. Stages take and
return (N, C, H, W), so nothing is reshaped, and pytorch-grad-cam (`pip install grad-cam`) draws the same map:

    GradCAM(model, target_layers=[model.stages[-1]])(images, [ClassifierOutputTarget(0)])
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn

import convnextv2


def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """Return the class-activation maps of a layer, (B, h, w), 0 or more and not scaled.

    model: from images (B, C, H, W) to logits (B, classes).  layer: a part of it that returns (B, channels, h, w), such
    as `stages[-1]`.  classes: one an image; by default the one with the largest logit.

    The map is the sum of the layer's channels, each weighted by the mean gradient of the logit, negative sums at zero.
    """
    maps: list[Tensor] = []
    hook = layer.register_forward_hook(lambda *call: maps.append(call[-1]))
    try:
        logits = model(images)
    finally:
        hook.remove()
    chosen = logits.argmax(1) if classes is None else torch.tensor(classes, device=logits.device)
    (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), maps[0])
    return (gradient.mean((2, 3), keepdim=True) * maps[0].detach()).sum(1).relu()


def overlay(image: Tensor, activation: Tensor) -> Image.Image:
    """Return the image, uint8 (C, H, W), with a map, (h, w), enlarged and laid over it."""
    size = (image.shape[2], image.shape[1])
    scaled = activation / activation.max().clamp(min=1e-12)
    grey = Image.fromarray((255 * scaled).byte().cpu().numpy()).resize(size, Image.Resampling.BICUBIC)
    heat = Image.fromarray(colormaps["turbo"](np.asarray(grey), bytes=True)[..., :3])
    colours = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    return Image.blend(Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy()), heat, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a run, a model file or a published name")
    parser.add_argument("image", help="an image file")
    parser.add_argument("--class", dest="class_name", help="by default the most likely one")
    parser.add_argument("--out", default="class_activation.png", help="PNG to write")
    given = parser.parse_args()

    loaded = convnextv2.load(given.model)
    names = list(loaded.classes)
    if not names:
        parser.error(f"{given.model} has no classes: give a classifier")
    if given.class_name not in (None, *names):
        parser.error(
            f"--class {given.class_name}: the classes are {', '.join(names[:10])}{', ...' * (len(names) > 10)}"
        )
    predictor = loaded.predictor()
    image = predictor.read(given.image)
    with torch.no_grad():
        likely = int(predictor(image[None]).argmax())
    shown = likely if given.class_name is None else names.index(given.class_name)
    activation = grad_cam(predictor, loaded.model.stages[-1], image[None], [shown])[0]
    overlay(image, activation).save(given.out)
    print(f"{names[shown]} (most likely: {names[likely]}): {given.out}")


if __name__ == "__main__":
    main()
