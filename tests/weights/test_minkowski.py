"""Files of official pre-training, against sparse convolutions written out site by site."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from convnextv2.errors import LoadError
from convnextv2.models import SIZES, create_model
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.weights.foreign import read_foreign
from convnextv2.weights.layouts.minkowski import dense_weight, sparse_kernel
from convnextv2.weights.layouts.recognise import writer


def offsets(side, start):
    """Offsets (row, column) in the order of a kernel's flat volume: the row, the first coordinate, runs fastest."""
    return [(row + start, column + start) for column in range(side) for row in range(side)]


@pytest.mark.parametrize("seed", range(3))
def test_a_depthwise_kernel_computes_what_its_sites_say(seed):
    """A site's output is the sum over its existing neighbours of kernel row times features."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(49, 5, generator=generator, dtype=torch.float64)
    exists = torch.rand(9, 8, generator=generator) < 0.5
    features = torch.randn(9, 8, 5, generator=generator, dtype=torch.float64) * exists[..., None]
    expected = torch.zeros_like(features)
    for y, x in itertools.product(range(9), range(8)):
        for index, (dy, dx) in enumerate(offsets(7, -3)):
            if exists[y, x] and 0 <= y + dy < 9 and 0 <= x + dx < 8:
                expected[y, x] += kernel[index] * features[y + dy, x + dx]
    found = F.conv2d(features.permute(2, 0, 1)[None], dense_weight(kernel), padding=3, groups=5)[0].permute(1, 2, 0)
    assert torch.allclose(found * exists[..., None], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_downsampling_kernel_computes_what_its_sites_say(seed):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(4, 3, 6, generator=generator, dtype=torch.float64)  # (volume, in, out)
    features = torch.randn(8, 6, 3, generator=generator, dtype=torch.float64)
    expected = torch.zeros(4, 3, 6, dtype=torch.float64)
    for y, x in itertools.product(range(4), range(3)):
        for index, (dy, dx) in enumerate(offsets(2, 0)):
            expected[y, x] += features[2 * y + dy, 2 * x + dx] @ kernel[index]
    found = F.conv2d(features.permute(2, 0, 1)[None], dense_weight(kernel), stride=2)[0].permute(1, 2, 0)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_kernels_go_back_bitwise():
    for weight, depthwise in ((torch.randn(5, 1, 7, 7), True), (torch.randn(6, 3, 2, 2), False)):
        assert torch.equal(dense_weight(sparse_kernel(weight, depthwise=depthwise)), weight)


def sparse_file(model, *, decoder):
    """An FCMAE of ours spelt by hand as official pre-training writes it; kernels filled entry by entry."""
    tensors = {}
    for name, value in model.state_dict().items():
        part = name.removeprefix("encoder.")
        if name == part:
            if decoder:
                tensors[name] = value
            continue
        if part.startswith(("norm.", "head.")):
            continue
        words = part.split(".")
        if words[0] == "downsample_layers" and words[1] != "0":
            if words[2] == "0":
                words.insert(3, "ln")
            elif words[3] == "weight":
                words[3], value = "kernel", entries(value, 2)
            else:
                value = value[None]
        elif words[0] == "stages":
            if words[3] == "dwconv":
                words[4], value = ("kernel", entries(value, 7)[:, 0]) if words[4] == "weight" else ("bias", value[None])
            elif words[3] == "norm":
                words.insert(4, "ln")
            elif words[3].startswith("pwconv"):
                words.insert(4, "linear")
            elif words[3] == "grn":
                value = value.reshape(1, -1)
        tensors["encoder." + ".".join(words)] = value.clone()
    return tensors


def entries(weight, side):
    outputs, inputs = weight.shape[:2]
    kernel = torch.empty(side * side, inputs, outputs)
    for index, (row, column) in enumerate(offsets(side, 0)):
        kernel[index] = weight[:, :, row, column].T
    return kernel


def random_fcmae(name="convnextv2_atto", **options):
    model = FCMAE(create_model(name, num_classes=0), **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.1)
    return model


V2 = [name for name, size in SIZES.items() if size.grn]


@pytest.mark.parametrize("name", [V2[0], *(pytest.param(name, marks=pytest.mark.slow) for name in V2[1:])])
def test_a_file_of_official_pre_training_becomes_our_masked_autoencoder(name, tmp_path):
    model = random_fcmae(name)
    written = sparse_file(model, decoder=True)
    if name == "convnextv2_atto":
        assert len(written) == 151  # 136 of the encoder and 15 of the decoder
    found = read_foreign(tmp_path, written)
    assert found.info.layout == "minkowski"
    assert found.info.architecture.name == name
    expected = model.state_dict()
    assert found.tensors.keys() == expected.keys()
    for name, value in expected.items():
        if not name.startswith("encoder.norm."):
            assert torch.equal(found.tensors[name], value), name
    encoder = {name: tensor for name, tensor in found.encoder().items() if not name.startswith("norm.")}
    back = writer("minkowski", found.info.architecture.name).write(encoder)
    assert back.keys() == {name for name in written if name.startswith("encoder.")}
    assert all(torch.equal(tensor, written[name]) for name, tensor in back.items())


def test_without_its_decoder_it_is_an_encoder(tmp_path):
    model = random_fcmae()
    found = read_foreign(tmp_path, sparse_file(model, decoder=False))
    expected = model.encoder.state_dict()
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[n], v) for n, v in expected.items() if not n.startswith("norm."))


def test_half_a_decoder_is_refused(tmp_path):
    written = sparse_file(random_fcmae(decoder_dim=32), decoder=True)
    del written["pred.bias"]
    with pytest.raises(LoadError, match=r"a fcmae \(.*decoder_depth 1.*missing: pred\.bias\. Remove all tensors"):
        read_foreign(tmp_path, written)
