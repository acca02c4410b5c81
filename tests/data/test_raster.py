"""Numbers of any bands and format come out of files as tifffile, imagecodecs, Pillow and numpy wrote them."""

import itertools

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from convnextv2.data.files.band_files import as_patterns, first_bands, images_of_bands, name_of_band
from convnextv2.data.files.decode import opened
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.files.raster import Layout, Raster, Window
from convnextv2.data.files.reading import Reading
from convnextv2.data.files.survey import names_of, picked, survey
from convnextv2.data.loading.cache import PixelCache, as_tensor, expected_bytes
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.errors import BadImageError, UserError
from convnextv2.records import Bands

RNG = np.random.default_rng(0)
HIGH, WIDE = 70, 53


def numbers(dtype, bands, shape=(HIGH, WIDE)):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return RNG.normal(0, 1000, (*shape, bands)).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(2**23)), min(limits.max, 2**23)  # what float32 holds
    return RNG.integers(low, high, (*shape, bands), endpoint=True).astype(dtype)


def read(path, channels=None):
    with opened(path) as image:
        return image.layout(), image.raster(channels)


def reading(count, channels=None, **more):
    bands = Bands(count, tuple(range(count)) if channels is None else channels, **more)
    return Reading(len(bands.channels), bands=bands)


FORMATS = {
    "uint8": "uint8", "uint16": "uint16", "int16": "int16", "float32": "float32",
    "int8": "int16", "uint32": "float32", "int32": "float32", "float64": "float32", "float16": "float32",
}  # fmt: skip
LAYOUTS = {
    "strips": {"rowsperstrip": 9},
    "tiles": {"tile": (32, 16)},
    "LZW, predictor": {"compression": "lzw", "predictor": True},
    "deflate, tiles": {"compression": "deflate", "predictor": True, "tile": (16, 32)},
    "zstd": {"compression": "zstd"},
    "big": {"bigtiff": True},
    "other byte order": {"byteorder": ">"},
}


@pytest.mark.parametrize("how", LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_tiff_of_bands(tmp_path, dtype, planar, how):
    options = dict(LAYOUTS[how])
    if np.dtype(dtype).itemsize > 4 or dtype == "float16":
        options.pop("predictor", None)
    for bands in (1, 2, 5, 13):
        written = numbers(dtype, bands)
        planes = written if planar == "contig" else np.moveaxis(written, 2, 0)
        file, axes = tmp_path / f"{bands}.tif", {"planarconfig": planar} if bands > 1 else {}
        tifffile.imwrite(file, planes if bands > 1 else written[..., 0], photometric="minisblack", **axes, **options)
        layout, found = read(file)
        assert layout.count == bands
        assert found.values.dtype == FORMATS[dtype]
        assert np.array_equal(found.values, written.astype(FORMATS[dtype]))
        assert found.valid is None
        assert np.array_equal(read(file, [bands - 1, 0])[1].values, found.values[..., [bands - 1, 0]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pages_are_bands_and_smaller_copies_are_not(tmp_path, dtype):
    pages = np.moveaxis(numbers(dtype, 4), 2, 0)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, photometric="minisblack", contiguous=False)
        file.write(pages[0][::2, ::2], photometric="minisblack", subfiletype=1)
    layout, found = read(tmp_path / "a.tif")
    assert layout.count == 4
    assert np.array_equal(found.values, np.moveaxis(pages, 0, 2))
    assert np.array_equal(read(tmp_path / "a.tif", [2])[1].values[..., 0], pages[2])


def test_a_page_that_is_a_mask_says_which_pixels_exist(tmp_path):
    image, mask = numbers("uint16", 3), RNG.random((HIGH, WIDE)) < 0.7
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(image, photometric="rgb")
        file.write(mask, photometric="mask", subfiletype=4)
    layout, found = read(tmp_path / "a.tif")
    assert layout.count == 3
    assert np.array_equal(found.valid, mask)


def test_ome_and_gdal_name_bands(tmp_path):
    stack = np.moveaxis(numbers("uint16", 3), 2, 0)
    names = ["DAPI", "GFP", "mCherry"]
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "CYX", "Channel": {"Name": names}})
    layout, found = read(tmp_path / "a.ome.tif")
    assert layout.names == tuple(names)
    assert np.array_equal(found.values, np.moveaxis(stack, 0, 2))
    said = "".join(
        f'<Item name="DESCRIPTION" sample="{k}" role="description">{name}</Item>' for k, name in enumerate(names)
    )
    tags = [(42112, "s", 0, f"<GDALMetadata>{said}</GDALMetadata>", True)]
    tifffile.imwrite(tmp_path / "g.tif", numbers("uint8", 3), photometric="rgb", extratags=tags)
    assert read(tmp_path / "g.tif")[0].names == tuple(names)


def test_extra_samples_are_told_apart_from_alpha(tmp_path):
    image = numbers("uint8", 4)
    image[:9, :, 3] = 0
    for kind, alpha in ((0, None), (1, 3), (2, 3)):
        tifffile.imwrite(tmp_path / f"{kind}.tif", image, photometric="rgb", extrasamples=[kind])
        layout, found = read(tmp_path / f"{kind}.tif")
        assert layout.alpha == alpha
        assert np.array_equal(found.values, image if alpha is None else image[..., :3])
        assert found.valid is None if alpha is None else np.array_equal(found.valid, image[..., 3] > 0)
        as_band = read(tmp_path / f"{kind}.tif", [0, 1, 2, 3])[1]
        assert np.array_equal(as_band.values, image), "alpha is a band like others if it is asked for"
        assert as_band.valid is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png(tmp_path, dtype, channels):
    written = numbers(dtype, channels)
    written[:5, :, -1] = 0
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(written.squeeze())))
    layout, found = read(tmp_path / "a.png")
    colours = channels - (channels in (2, 4))
    assert layout == Layout(channels, alpha=None if colours == channels else channels - 1)
    assert np.array_equal(found.values, written[..., :colours])
    if colours < channels:
        assert np.array_equal(found.valid, written[..., -1] > 0)
    assert np.array_equal(read(tmp_path / "a.png", range(channels))[1].values, written)


def test_jpeg_2000_of_12_and_16_bits(tmp_path):
    for bits, bands in itertools.product((12, 16), (1, 3)):
        written = np.squeeze(RNG.integers(0, 2**bits, (HIGH, WIDE, bands)).astype(np.uint16))
        data = imagecodecs.jpeg2k_encode(written, level=0, bitspersample=bits, reversible=True, mct=False)
        (tmp_path / "a.jp2").write_bytes(data)
        assert np.array_equal(np.squeeze(read(tmp_path / "a.jp2")[1].values), written)


def test_palettes_are_an_intensity_or_colours(tmp_path):
    index = numbers("uint8", 1)[..., 0]
    image = Image.fromarray(index, "P")
    image.putpalette(bytes(value for k in range(256) for value in (k, k, k)))
    for name in ("grey.tif", "grey.png"):
        image.save(tmp_path / name)
        layout, found = read(tmp_path / name)
        assert layout.count == 1
        assert np.array_equal(found.values[..., 0], index)
    colours = RNG.integers(0, 256, (256, 3)).astype(np.uint8)
    image.putpalette(colours.tobytes())
    for name in ("colours.tif", "colours.png"):
        image.save(tmp_path / name)
        assert np.array_equal(read(tmp_path / name)[1].values, colours[index])


def test_white_is_zero_and_orientation(tmp_path):
    written = numbers("uint16", 1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", written, photometric="miniswhite", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(read(tmp_path / "a.tif")[1].values[..., 0], 65535 - np.rot90(written, -1))


def test_what_stands_for_missing_data(tmp_path):
    image = numbers("float32", 2)
    image[3, 4, 1], image[5, 6, 0] = np.nan, np.inf
    image[7:9] = -9999
    image[10, 10, 0] = -9999
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig")
    valid = np.isfinite(image).all(2)
    assert np.array_equal(read(tmp_path / "a.tif")[1].valid, valid)
    found = reading(2, nodata=-9999.0).raster(list_images(tmp_path), 0)
    assert np.array_equal(found.valid, valid & (image != -9999).all(2))
    tags = [(42113, "s", 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig", extratags=tags)
    assert np.array_equal(read(tmp_path / "a.tif")[1].valid, found.valid)


def test_zero_is_missing_only_where_all_bands_have_it():
    values = np.array([[[0, 0], [0, 7], [255, 255], [3, 3]]], np.uint8)
    assert Raster(values).without(0).valid.tolist() == [[False, True, True, True]]
    assert Raster(values).without(255).valid.tolist() == [[True, True, False, True]]
    assert Raster(values).without(7).valid.tolist() == [[True, False, True, True]]
    for never in (None, np.nan, -9999, 300, 0.5):
        assert Raster(values).without(never).valid is None


def test_arrays_and_tensors_of_any_channels():
    from convnextv2.data.files.given import images_of

    written = numbers("int16", 6)
    for given in ([written], [torch.from_numpy(np.moveaxis(written, 2, 0).copy())]):
        assert np.array_equal(reading(6).raster(images_of(given), 0).values, written)


def test_refusals_are_one_line(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((9, 9), np.complex64))
    tifffile.imwrite(tmp_path / "two.tif", numbers("uint8", 2), photometric="minisblack", planarconfig="contig")
    images = list_images(tmp_path)
    with pytest.raises(BadImageError, match="complex numbers"):
        reading(1).raster(images, 0)
    with pytest.raises(BadImageError, match="2 bands, where 5 are read"):
        reading(5).raster(images, 1)
    tifffile.imwrite(tmp_path / "many.tif", numbers("uint8", 40), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadImageError, match="53 x 70 pixels of 40 bands, more than 16 times 4000 values"):
        Reading(40, 4000, bands=Bands(40, tuple(range(40)))).raster(list_images(tmp_path), 1)


# --- a band a file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    """Three scenes of three bands in files of their own, in two folders; and something else."""
    written = {}
    for name in ("a/one", "a/two", "b/three"):
        written[name] = numbers("uint16", 3)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        for k, band in enumerate(("B02", "B03", "B08")):
            tifffile.imwrite(tmp_path / f"{name}_{band}.tif", written[name][..., k])
    Image.fromarray(numbers("uint8", 3)).save(tmp_path / "a" / "quicklook.png")
    return tmp_path, written


PATTERNS = as_patterns("{id}_B02.tif, {id}_B03.tif,{id}_B08.tif")


def test_bands_in_files_of_their_own(scenes):
    folder, written = scenes
    images = images_of_bands(list_images(folder), PATTERNS)
    assert list(images.names) == [f"{name}_B02.tif" for name in written]
    assert images.ignored["files of no pattern of --bands"] == 1
    found = survey(images, PATTERNS)
    assert (found.count, found.names) == (3, ("B02", "B03", "B08"))
    for index, (name, values) in enumerate(written.items()):
        assert name_of_band(images.names[index], PATTERNS, 2) == f"{name}_B08.tif"
        assert np.array_equal(reading(3, files=PATTERNS).raster(images, index).values, values)
        picked_two = reading(3, (2, 0), files=PATTERNS).raster(images, index).values
        assert np.array_equal(picked_two, values[..., [2, 0]])


def test_bands_that_are_missing_or_of_another_size(scenes):
    folder, _ = scenes
    tifffile.imwrite(folder / "a" / "one_B03.tif", numbers("uint16", 1, (9, 8))[..., 0])
    images = images_of_bands(list_images(folder), PATTERNS)
    with pytest.raises(BadImageError, match="8 x 9 pixels, where the image's first band has 53 x 70") as caught:
        reading(3, files=PATTERNS).raster(images, 0)
    assert str(caught.value.path).endswith("one_B03.tif")
    (folder / "b" / "three_B08.tif").unlink()
    with pytest.raises(UserError, match=r"bands: b/three_B08\.tif not in"):
        first_bands(list_images(folder), PATTERNS)
    with pytest.raises(UserError, match=r"no file in .* is named so \(the first is a/one_B02\.tif\)"):
        first_bands(list_images(folder), as_patterns("{id}_X.tif,{id}_Y.tif"))
    for wrong in ("a.tif", "{id}.tif,{id}.tif", "{id}{id}.tif", ""):
        with pytest.raises(UserError, match="give a pattern for each band"):
            as_patterns(wrong)


def test_names_of_patterns():
    assert names_of(["{id}_D.tif", "{id}_F.tif"]) == ("D", "F")
    assert names_of(["S2_{id}_B02_10m.jp2", "S2_{id}_B8A_20m.jp2"]) == ("B02 10m", "B8A 20m")
    assert names_of(["red/{id}.tif", "nir/{id}.tif"]) == ("red", "nir")


def test_channels_by_number_and_by_name(scenes):
    folder, _ = scenes
    found = survey(images_of_bands(list_images(folder), PATTERNS), PATTERNS)
    assert picked(("3", "b02"), found) == (2, 0)
    assert picked((), found) == (0, 1, 2)
    for wrong in ("0", "4", "B99"):
        with pytest.raises(
            UserError, match=rf"channels=.?{wrong}.?: the images have bands 1 to 3, named B02, B03, B08"
        ):
            picked((wrong,), found)


def test_a_folder_of_two_kinds(scenes):
    folder, _ = scenes
    with pytest.raises(UserError, match=r"a/one_B02\.tif has 1 band and a/quicklook\.png 3 bands: give a folder of"):
        survey(list_images(folder))
    assert survey(list_images(folder), channels=("3",)).count == 3


def test_pictures_with_a_smaller_copy_are_plain(tmp_path):
    image = numbers("uint8", 3)
    for copy, plain in ((image[::2, ::2], True), (255 - image, False)):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(image, photometric="rgb")
            file.write(copy, photometric="rgb", subfiletype=int(plain))
        assert survey(list_images(tmp_path)).plain == plain


# --- from the disk to the crop ---------------------------------------------------------------------------------------


def test_the_cache_keeps_every_format_and_what_is_missing(tmp_path):
    for number, dtype in enumerate(("uint8", "uint16", "int16", "float32", "uint16")):
        image = numbers(dtype, 3)
        image[image == 77] = 78
        if number == 4:
            image[2:30, :, :] = 77
        tifffile.imwrite(tmp_path / f"{number}.tif", image, photometric="minisblack", planarconfig="contig")
    how = reading(3, nodata=77.0)
    images = list_images(tmp_path)
    cache = PixelCache(images, 10**6, how)
    for index in range(5):
        raster = how.raster(images, index)
        cache.put(index, raster)
        kept, expected = cache.get(index), as_tensor(raster)
        assert kept is not None
        assert kept.dtype == expected.dtype
        assert torch.equal(kept.float().nan_to_num(-1), expected.float().nan_to_num(-1))
    assert cache.get(1).dtype == torch.uint16
    assert cache.get(4).isnan().any(0).sum() >= 28 * WIDE
    fits = Reading(3, bands=Bands(3, (0, 1, 2), format="uint16"))
    assert expected_bytes(images, fits) == 5 * (16 + HIGH * WIDE * 3 * 2 + -(HIGH * WIDE * 6) % 8)


def test_a_set_gives_the_format_of_the_files(tmp_path):
    written = numbers("int16", 5)
    tifffile.imwrite(tmp_path / "a.tif", written, photometric="minisblack", planarconfig="contig")
    found = ImageSet(list_images(tmp_path), lambda image: {"images": image}, reading=reading(5))[0, 0]
    assert np.array_equal(found.tensors["images"].permute(1, 2, 0).numpy(), written)


def test_names_given_by_hand_are_read_too(tmp_path):
    written = numbers("uint16", 2)
    tifffile.imwrite(tmp_path / "a.tif", written, photometric="minisblack", planarconfig="contig")
    images = ImageList(tmp_path, ["a.tif"], tmp_path)
    assert np.array_equal(reading(2).raster(images, 0).values, written)


# --- parts of large images -------------------------------------------------------------------------------------------

WINDOWS = [Window(0.0, 0.0, 70), Window(0.999, 0.999, 70), Window(0.4, 0.7, 33), Window(0.5, 0.5, 1000)]


@pytest.mark.parametrize("how", [*LAYOUTS, "one strip"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_part_is_that_of_the_whole(tmp_path, dtype, planar, how):
    options = dict(LAYOUTS.get(how, {"rowsperstrip": 300}))
    written = numbers(dtype, 3, (300, 280))
    planes = written if planar == "contig" else np.moveaxis(written, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig=planar, **options)
    images, how = list_images(tmp_path), reading(3)
    with images.open(0) as image:
        assert image.in_parts()
    for window in WINDOWS:
        top, left, high, wide = window.box(300, 280)
        found = how.raster(images, 0, window).values
        assert np.array_equal(found, written[top : top + high, left : left + wide])
    some = reading(3, (2, 0)).raster(images, 0, WINDOWS[2]).values
    top, left, high, wide = WINDOWS[2].box(300, 280)
    assert np.array_equal(some, written[top : top + high, left : left + wide][..., [2, 0]])


@pytest.mark.parametrize("name", ["tiles.tif", "jpeg.tif", "grey.tif", "alpha.tif", "a.png", "turned.tif", "pages.tif"])
def test_a_part_of_a_picture_is_that_of_the_whole(tmp_path, name):
    written = numbers("uint8", 4, (300, 280))
    written[40:200, 30:90, 3] = 0
    written[..., 3][written[..., 3] > 0] = 255
    rgb = written[..., :3]
    match name:
        case "tiles.tif":
            tifffile.imwrite(tmp_path / name, rgb, photometric="rgb", tile=(64, 64), compression="lzw")
        case "jpeg.tif":
            Image.fromarray(rgb).save(tmp_path / name, compression="jpeg")
        case "grey.tif":
            tifffile.imwrite(tmp_path / name, rgb[..., 0], photometric="minisblack", tile=(64, 64))
        case "alpha.tif":
            tifffile.imwrite(tmp_path / name, written, photometric="rgb", extrasamples=[2], tile=(64, 64))
        case "turned.tif":
            tags = [(274, "H", 1, 6, True)]
            tifffile.imwrite(tmp_path / name, rgb, photometric="rgb", tile=(64, 64), extratags=tags)
        case "pages.tif":
            with tifffile.TiffWriter(tmp_path / name) as file:
                for page in (rgb, 255 - rgb):
                    file.write(page, photometric="rgb")
        case _:
            Image.fromarray(rgb).save(tmp_path / name)
    images = list_images(tmp_path)
    for how, window in itertools.product((Reading(), Reading(1)), WINDOWS):
        whole = how.raster(images, 0).values
        top, left, high, wide = window.box(*whole.shape[:2])
        found = how.raster(images, 0, window)
        assert found.valid is None
        assert np.array_equal(found.values, whole[top : top + high, left : left + wide])


def test_parts_of_missing_data_and_of_tiles_that_were_left_out(tmp_path):
    image = numbers("uint16", 2, (300, 280))
    image[100:220, 50:260] = 0
    tags = [(42113, "s", 0, "0", True)]
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig", tile=(32, 32), extratags=tags
    )
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        sizes = list(file.pages.first.databytecounts)
        offsets = list(file.pages.first.dataoffsets)
        left_out = 4 * 9 + 3  # all of it is missing data
        sizes[left_out] = offsets[left_out] = 0
        file.pages.first.tags[325].overwrite(sizes)
        file.pages.first.tags[324].overwrite(offsets)
    images, how = list_images(tmp_path), reading(2)
    whole = how.raster(images, 0)
    assert np.array_equal(whole.valid, (image != 0).any(2))
    for window in WINDOWS:
        top, left, high, wide = window.box(300, 280)
        part = how.raster(images, 0, window)
        expected = whole.valid[top : top + high, left : left + wide]
        assert np.array_equal(part.values, whole.values[top : top + high, left : left + wide])
        assert expected.all() if part.valid is None else np.array_equal(part.valid, expected)


def test_pixels_count_that_are_decoded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers("uint8", 3, (400, 300)), photometric="rgb", tile=(32, 32))
    Image.fromarray(numbers("uint8", 3, (400, 300))).save(tmp_path / "b.png")
    images, how = list_images(tmp_path), Reading(max_pixels=10_000)
    assert how.raster(images, 0, Window(0.5, 0.5, 100)).values.shape == (100, 100, 3)
    with pytest.raises(BadImageError, match="101 x 101 = 10201 pixels, more than 10000"):
        how.raster(images, 0, Window(0.5, 0.5, 101))
    with pytest.raises(BadImageError, match="120000 pixels, more than 10000, and it cannot be decoded in parts"):
        how.raster(images, 1, Window(0.5, 0.5, 100))
    with pytest.raises(BadImageError, match="120000 pixels, more than 10000"):
        how.raster(images, 0)


def test_several_crops_of_each_image(tmp_path):
    written = numbers("uint16", 2, (300, 280))
    for number in range(3):
        values = written + np.uint16(number)
        tifffile.imwrite(tmp_path / f"{number}.tif", values, photometric="minisblack", planarconfig="contig")
    images, how = list_images(tmp_path), reading(2)
    plain = ImageSet(images, lambda image: {"images": image.clone()}, reading=how, crops=5, window=64)
    assert len(plain) == 15
    found = [plain[0, index] for index in range(15)]
    assert [sample.index for sample in found] == [0] * 5 + [1] * 5 + [2] * 5
    assert all(sample.tensors["images"].shape == (2, 64, 64) for sample in found)
    assert not torch.equal(found[0].tensors["images"], found[1].tensors["images"])
    assert not torch.equal(plain[1, 0].tensors["images"], found[0].tensors["images"])
    for room in (10**7, 2 * 10**5):  # of all images, of none
        cache = PixelCache(images, room, how)
        kept = ImageSet(images, lambda image: {"images": image.clone()}, reading=how, crops=5, window=64, cache=cache)
        for _ in range(2):
            assert all(torch.equal(kept[0, k].tensors["images"], found[k].tensors["images"]) for k in range(15))


# --- NumPy's files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("dtype", FORMATS)
def test_arrays_of_numpy(tmp_path, dtype, axis, order):
    written = numbers(dtype, 4)
    array = np.asarray(np.moveaxis(written, 2, axis), order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", image=array)
    np.savez_compressed(tmp_path / "c.npz", image=array)
    np.save(tmp_path / "d.npy", written[..., 0])
    images, expected = list_images(tmp_path), written.astype(FORMATS[dtype])
    assert list(images.names) == ["a.npy", "b.npz", "c.npz", "d.npy"]
    for index in range(3):
        found = reading(4).raster(images, index)
        assert found.values.dtype == FORMATS[dtype]
        assert np.array_equal(found.values, expected)
        for window in (Window(0.3, 0.6, 20), Window(0.9, 0.0, 60)):
            top, left, high, wide = window.box(HIGH, WIDE)
            part = reading(4, (3, 1)).raster(images, index, window).values
            assert np.array_equal(part, expected[top : top + high, left : left + wide][..., [3, 1]])
    assert np.array_equal(reading(1).raster(images, 3).values, expected[..., :1])


def test_arrays_beside_images_are_something_else(tmp_path):
    np.save(tmp_path / "features.npy", numbers("float32", 1)[..., 0])
    assert list(list_images(tmp_path).names) == ["features.npy"]
    Image.fromarray(numbers("uint8", 3)).save(tmp_path / "a.png")
    assert list(list_images(tmp_path).names) == ["a.png"]
    assert list_images(tmp_path).ignored == {".npy": 1}


def test_arrays_that_are_no_images(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], object), allow_pickle=True)
    np.save(tmp_path / "b.npy", np.zeros(5))
    np.savez(tmp_path / "c.npz", one=np.zeros((4, 4)), two=np.zeros((4, 4)))
    np.save(tmp_path / "d.npy", np.zeros((40, 40)))
    (tmp_path / "d.npy").write_bytes((tmp_path / "d.npy").read_bytes()[:-9])
    (tmp_path / "e.npy").write_bytes(b"\x93NUMPY\1\0\x10\0{'descr': 'x'}  ")
    np.savez_compressed(tmp_path / "f.npz", one=numbers("float32", 1)[..., 0])
    whole = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "f.npz").write_bytes(whole[:5000] + b"\0" * 50 + whole[5050:])
    images = list_images(tmp_path)
    for index, said in enumerate(
        (
            "object, which is not of numbers",
            r"of shape \(5,\)",
            "2 arrays",
            "truncated",
            "no header of a NumPy",
            "[Bb]ad|Error|error",
        )
    ):
        with pytest.raises(BadImageError, match=said) as caught:
            reading(1).raster(images, index)
        assert "\n" not in str(caught.value)
