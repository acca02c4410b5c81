"""DICOM by pydicom: its own samples and files made here, against the stored numbers and the standard's formulas."""

import re
import sys

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage  # noqa: E402

import convnextv2  # noqa: E402
from convnextv2.data.files.decode import decode, opened  # noqa: E402
from convnextv2.data.files.folder import list_images  # noqa: E402
from convnextv2.data.files.parts import paged  # noqa: E402
from convnextv2.data.files.reading import ANY, Reading  # noqa: E402
from convnextv2.errors import BadImageError, UserError  # noqa: E402

STORED = (np.arange(6 * 8).reshape(6, 8) * 83 % 4096).astype(np.uint16)


def sample(name):
    return get_testdata_file(name, download=False)


def written(path, stored, photometric="MONOCHROME2", **elements):
    """Write (H, W), (H, W, 3) or (frames, H, W) of uint8, uint16 or int16 as DICOM."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    colour = stored.shape[-1] == 3
    data.Rows, data.Columns = stored.shape[-3:-1] if colour else stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, photometric)
    if colour:
        data.PlanarConfiguration = 0
    elif stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.BitsAllocated = 8 * stored.itemsize
    data.BitsStored = elements.pop("BitsStored", data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = stored.tobytes()
    if len(data.PixelData) % 2:
        data.PixelData += b"\0"
    data.save_as(path, enforce_file_format=True)
    return path


def raster(path, channels=None):
    with opened(path) as image:
        return image.raster(channels)


def reason(path):
    with pytest.raises(BadImageError) as error:
        raster(path)
    assert "\n" not in error.value.reason
    return error.value.reason


def test_a_ct_is_read_in_hounsfield_units():
    path = sample("CT_small.dcm")  # which begins as a TIFF does
    stored = np.frombuffer(pydicom.dcmread(path).PixelData, "<i2").reshape(128, 128)
    found = raster(path)
    assert found.values.dtype == np.int16
    np.testing.assert_array_equal(found.values[..., 0], stored - 1024)


@pytest.mark.parametrize("name", ["RLE", "implicit", "bigendian", "jp2klossless", "jpeg_ls_lossless"])
def test_lossless_forms_of_one_image(name):
    expected = np.frombuffer(pydicom.dcmread(sample("MR_small.dcm")).PixelData, "<i2").reshape(64, 64, 1)
    np.testing.assert_array_equal(raster(sample(f"MR_small_{name}.dcm")).values, expected)


def test_colours_are_pictures():
    raw = pydicom.dcmread(sample("SC_rgb_small_odd.dcm")).PixelData[:27]
    expected = np.frombuffer(raw, np.uint8).reshape(3, 3, 3)
    for name in ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"):
        np.testing.assert_array_equal(raster(sample(name)).values, expected)
        np.testing.assert_array_equal(decode(sample(name)), expected)
    with opened(sample("examples_palette.dcm")) as image:
        assert image.about().plain
        assert image.layout().count == 3
    rle, jpeg = (raster(sample(f"SC_rgb_{name}.dcm")).values for name in ("rle", "jpeg_gdcm"))  # both lossless
    np.testing.assert_array_equal(rle, jpeg)


def test_fractions_of_a_slope_are_floats(tmp_path):
    found = raster(written(tmp_path / "a.dcm", STORED, RescaleSlope=0.25, RescaleIntercept=-3, BitsStored=12))
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values[..., 0], STORED * 0.25 - 3)


def test_more_is_brighter_where_the_file_has_it_the_other_way_round(tmp_path):
    path = written(tmp_path / "a.dcm", STORED, "MONOCHROME1", BitsStored=12)
    found = raster(path)
    assert found.values.dtype == np.uint16
    np.testing.assert_array_equal(found.values[..., 0], 4095 - STORED)
    expected = np.rint((4095 - STORED.astype(float)) * 255 / 4095)
    assert np.abs(decode(path, channels=1)[..., 0] - expected).max() <= 1
    scaled = written(tmp_path / "b.dcm", STORED, "MONOCHROME1", BitsStored=12, RescaleSlope=2, RescaleIntercept=10)
    np.testing.assert_array_equal(raster(scaled).values[..., 0], (4095 - STORED) * 2 + 10)


def test_a_picture_is_seen_through_its_window(tmp_path):
    """Black and white lie where PS3.3 C.11.2.1.2 puts them: at centre - 0.5 -+ (width - 1) / 2."""
    stored = (STORED.astype(np.int32) - 2000).astype(np.int16)
    scale = {"RescaleSlope": 1, "RescaleIntercept": -24}
    path = written(tmp_path / "a.dcm", stored, WindowCenter=[40, 300], WindowWidth=[401, 900], **scale)
    low, high = 39.5 - 200, 39.5 + 200
    expected = np.rint((np.clip(stored - 24.0, low, high) - low) * 255 / (high - low))
    np.testing.assert_array_equal(decode(path, channels=1)[..., 0], expected)
    np.testing.assert_array_equal(raster(path).values[..., 0], stored - 24)
    given = decode(path, channels=1, value_range=(-100, 155))[..., 0]
    np.testing.assert_array_equal(given, np.clip(stored - 24.0, -100, 155) + 100)
    bytes_ = (STORED % 256).astype(np.uint8)
    np.testing.assert_array_equal(decode(written(tmp_path / "b.dcm", bytes_), channels=1)[..., 0], bytes_)


def test_padding_does_not_exist(tmp_path):
    stored = STORED.astype(np.int16)
    stored[:2] = -2000
    stored[2, :4] = -1990
    path = written(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024)
    found = raster(path)
    np.testing.assert_array_equal(found.valid, stored != -2000)
    np.testing.assert_array_equal(found.values[..., 0], stored - 1024)
    limits = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    np.testing.assert_array_equal(raster(written(tmp_path / "b.dcm", stored, **limits)).valid, stored > -1990)


def test_frames_are_bands_each_with_its_own_scale(tmp_path):
    stored = np.stack([STORED, STORED + 7, STORED + 20])
    groups = []
    for slope in (1, 2, 3):
        scale, group = Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = slope, -slope, "US"
        group.PixelValueTransformationSequence = [scale]
        groups.append(group)
    path = written(tmp_path / "a.dcm", stored, PerFrameFunctionalGroupsSequence=groups)
    expected = np.stack([stored[k].astype(np.int32) * (k + 1) - (k + 1) for k in range(3)], axis=2)
    np.testing.assert_array_equal(raster(path).values, expected)
    np.testing.assert_array_equal(raster(path, [2, 0]).values, expected[..., [2, 0]])
    np.testing.assert_array_equal(
        raster(sample("SC_rgb_rle_2frame.dcm"), [3, 4, 5]).values, 255 - raster(sample("SC_rgb_rle.dcm")).values
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("reportsi.dcm", r"DICOM without pixels \(Basic Text SR Storage\): leave it out"),
        ("JPGExtended.dcm", r"compressed by JPEG Extended .* cannot be decoded: write it uncompressed"),
        ("MR_truncated.dcm", r"^damaged: "),
        ("badVR.dcm", r"^damaged: "),
    ],
)
def test_what_cannot_be_read_is_named(name, says):
    assert re.search(says, reason(sample(name)))


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "DICOM: install its reader with `pip install convnextv2[dicom]`" in reason(sample("MR_small.dcm"))


def test_a_folder_of_files_without_extension(tmp_path):
    folder = tmp_path / "study" / "series"
    folder.mkdir(parents=True)
    for number in range(3):
        written(folder / f"IM{number}", STORED)
    (tmp_path / ".DS_Store").write_bytes(b"of a file manager")
    assert list(list_images(tmp_path).names) == [f"study/series/IM{number}" for number in range(3)]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README").write_text("no image")
    with pytest.raises(UserError, match="no images"):
        list_images(tmp_path / "other")


def test_statistics_of_a_series(tmp_path):
    for number in range(3):
        written(tmp_path / f"{number}.dcm", STORED + np.uint16(number), RescaleSlope=1, RescaleIntercept=-1024)
    found = convnextv2.stats(tmp_path)
    assert (found.read_as.format, found.read_as.count) == ("int16", 1)
    assert found.bands[0].min == -1024


def test_frames_are_images_of_their_own_if_asked(tmp_path):
    stored = np.stack([STORED, STORED // 2, STORED // 3])
    window = {"WindowCenter": 1000, "WindowWidth": 2001, "BitsStored": 12}
    written(tmp_path / "a.dcm", stored, **window)
    images = paged(list_images(tmp_path), ANY)
    assert list(images.names) == ["a.dcm:1", "a.dcm:2", "a.dcm:3"]
    for number in range(3):
        with images.open(number) as image:
            assert (image.layout().count, image.about().pages) == (1, 1)
            np.testing.assert_array_equal(image.raster().values[..., 0], stored[number])
        single = written(tmp_path / f"{number}.dcm", stored[number], **window)
        np.testing.assert_array_equal(Reading(1).raster(images, number).values, decode(single, channels=1))
