"""DICOM, by pydicom, an extra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.raster import Layout
from convnextv2.data.files.values import ValueRange, Values

_MOST_VALUES = 1 << 32
_INVERTED = "MONOCHROME1"


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes are of a DICOM file, with its preamble or, as older ones, without."""
    without = head[:2] in (b"\2\0", b"\x08\0") and head[3:4] == b"\0" and head[4:6] in (b"UL", b"CS", b"UI", b"SH")
    return head[128:132] == b"DICM" or without


def open_dicom(stream: BinaryIO) -> Opened:
    """Open a DICOM file. Raises NotReadError for one without pixels, and where pydicom is not installed."""
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise NotReadError("DICOM: install its reader with `pip install convnextv2[dicom]`") from error
    header = dcmread(stream, force=True, stop_before_pixels=True)
    kind = getattr(header.get("SOPClassUID"), "name", "")
    if "Rows" not in header or "Columns" not in header:
        raise NotReadError(f"DICOM without pixels{f' ({kind})' if kind else ''}: leave it out")
    if header.get("TotalPixelMatrixColumns") is not None:
        raise NotReadError("a whole slide in DICOM, which is not read: write it as TIFF in tiles")
    try:
        return DicomFile(stream, header)
    except (ValueError, TypeError) as error:
        raise ValueError(f"damaged: {error}") from error


class DicomFile(Opened):
    """Frames of one image; each is a band, or three in colour.

    Numbers are what the modality means: rescaled, in CT Hounsfield units; integers stay so where they can. Of
    MONOCHROME1 they are turned round, so that more is brighter. Pixels of the padding value do not exist. As a picture
    it is the first frame in the file's first window.
    """

    def __init__(self, stream: BinaryIO, header: Any, only: int | None = None) -> None:
        """header: the data set of pydicom, without pixels.  only: a frame that is an image of its own."""
        self._stream, self._header = stream, header
        self.size = (int(header.Columns), int(header.Rows))
        self._frames = int(header.get("NumberOfFrames") or 1) if only is None else 1
        self._first = only or 0
        self._palette = header.get("PhotometricInterpretation") == "PALETTE COLOR"
        self._colours = 3 if self._palette else int(header.get("SamplesPerPixel") or 1)
        self._stored: dict[int, NDArray[Any]] = {}
        if min(*self.size, self._frames) < 1 or self._colours not in (1, 3):
            raise ValueError(f"{self._frames} frames of {self._colours} samples")

    def about(self) -> About:
        """See `Opened.about`."""
        bits = int(self._header.get("BitsStored") or self._header.get("BitsAllocated") or 0)
        signed = ", signed" if self._header.get("PixelRepresentation") else ""
        kind = f"DICOM ({self._header.get('Modality') or 'no modality'}), {bits} bits{signed}"
        return About(kind, wide=not self._plain(), pages=self._frames)

    def _plain(self) -> bool:
        """Whether the first frame is a picture of 8 bits as it is."""
        header, bits = self._header, int(self._header.get("BitsAllocated") or 0)
        if self._colours == 3:
            return bits == 8 or self._palette
        scales = any(name in header for name in ("RescaleSlope", "ModalityLUTSequence", "PixelPaddingValue"))
        return bits in (1, 8) and not scales and self._window() is None

    def pages(self) -> int:
        """See `Opened.pages`."""
        return self._frames

    def page(self, number: int) -> Opened:
        """See `Opened.page`."""
        return self if self._frames == 1 else DicomFile(self._stream, self._header, number)

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        return Layout(self._frames * self._colours)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        frames = {frame: self._numbers(frame) for frame in sorted({band // self._colours for band in bands})}
        found = [frames[band // self._colours][..., band % self._colours] for band in bands]
        return np.stack(found, axis=2)

    def mask(self, bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `Opened.mask`: the pixels of the padding value are missing."""
        first = self._header.get("PixelPaddingValue")
        if first is None or self._colours != 1:
            return None
        last = self._header.get("PixelPaddingRangeLimit", first)
        low, high = min(int(first), int(last)), max(int(first), int(last))
        stored = np.stack([self._frame(frame) for frame in sorted(set(bands))], axis=2)
        return np.asarray(((stored < low) | (stored > high)).all(axis=2))

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        if self._colours == 3:
            found = self._numbers(0)
            return Image.fromarray(found) if found.dtype == np.uint8 else Values(found, (0, self._most(found)))
        if self._plain():
            return Image.fromarray(self._numbers(0)[..., 0])
        values, window = self._rescaled(0), self._window()
        if window is None and "VOILUTSequence" in self._header:
            from pydicom.pixels.processing import apply_voi

            bits = int(self._header.VOILUTSequence[0].LUTDescriptor[2])
            values, window = apply_voi(values.astype(np.int32), self._header), (0, 2**bits - 1)
        shown = window or self._rescaled_ends(0)
        return Values(values[..., None], shown, self._header.get("PhotometricInterpretation") == _INVERTED)

    def _most(self, found: NDArray[Any]) -> float:
        return float(np.iinfo(found.dtype).max) if found.dtype.kind in "iu" else float(found.max())

    def _frame(self, frame: int) -> NDArray[Any]:
        """A frame as it is stored, (H, W) or (H, W, 3); YBR as RGB."""
        if frame in self._stored:
            return self._stored[frame]
        from pydicom.pixels.utils import pixel_array

        count = math.prod(self.size) * self._colours
        if count > _MOST_VALUES:
            raise NotReadError(f"DICOM of {count} values a frame, more than is read at once")
        self._stream.seek(0)
        try:
            found = np.asarray(pixel_array(self._stream, index=self._first + frame))
        except RuntimeError as error:
            name = getattr(getattr(self._header, "file_meta", {}).get("TransferSyntaxUID"), "name", "an unknown kind")
            raise NotReadError(f"DICOM compressed by {name} that cannot be decoded: write it uncompressed") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"damaged: {error}") from error
        except AttributeError as error:
            raise NotReadError("DICOM without pixels, or without what tells their format: leave it out") from error
        self._stored[frame] = found.astype(found.dtype.newbyteorder("="), copy=False)
        return self._stored[frame]

    def _numbers(self, frame: int) -> NDArray[Any]:
        """A frame in numbers that mean something, (H, W, 1 or 3)."""
        header = self._header
        if self._palette:
            from pydicom.pixels.processing import apply_color_lut

            found = np.asarray(apply_color_lut(self._frame(frame), header))
            return found if found.dtype == np.uint8 else (found >> 8).astype(np.uint8)
        if self._colours == 3:
            return self._frame(frame)
        found = self._rescaled(frame)
        if int(header.get("BitsAllocated") or 0) == 1:
            return (found * np.uint8(255)).astype(np.uint8)[..., None]
        if header.get("PhotometricInterpretation") == _INVERTED:
            low, high = self._rescaled_ends(frame)
            found = _fitting(low + high - found.astype(np.float64), found.dtype)
        return found[..., None]

    def _rescaled(self, frame: int) -> NDArray[Any]:
        """A grey frame after the modality's rescaling, (H, W)."""
        from pydicom.pixels.processing import apply_modality_lut

        stored = self._frame(frame)
        found = np.asarray(apply_modality_lut(stored, self._scales(frame)))
        if "DoseGridScaling" in self._header:  # of radiotherapy: Gy
            found = found * float(self._header.DoseGridScaling)
        return _fitting(found, stored.dtype) if found.dtype.kind == "f" and stored.dtype.kind in "iu" else found

    def _rescaled_ends(self, frame: int) -> ValueRange:
        """What the smallest and largest value that can be stored mean."""
        from pydicom.pixels.processing import apply_modality_lut

        stored, bits = self._frame(frame), int(self._header.get("BitsStored") or 16)
        if stored.dtype.kind == "f":
            finite = stored[np.isfinite(stored)]
            return (float(finite.min()), float(finite.max())) if finite.size else (0, 1)
        if "DoseGridScaling" in self._header:
            return 0, float(self._rescaled(frame).max()) or 1
        low = -(2 ** (bits - 1)) if stored.dtype.kind == "i" else 0
        ends = np.asarray(apply_modality_lut(np.array([low, low + 2**bits - 1]), self._scales(frame)), np.float64)
        return float(ends.min()), float(ends.max())

    def _scales(self, frame: int) -> Any:
        """The data set with the rescaling of a frame: that of its group or of all groups, or the file's."""
        return self._of_group(frame, "PixelValueTransformationSequence")

    def _of_group(self, frame: int, name: str) -> Any:
        header = self._header
        of_frames = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = header.get("SharedFunctionalGroupsSequence") or []
        own = self._first + frame
        for group in [*of_frames[own : own + 1], *shared[:1]]:
            if group.get(name):
                return group[name][0]
        return header

    def _window(self) -> ValueRange | None:
        """The values from black to white of the first window, as DICOM defines it (PS3.3, C.11.2.1.2)."""
        header = self._of_group(0, "FrameVOILUTSequence")
        centre, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
        if centre is None or width is None or width < 1:
            return None
        if header.get("VOILUTFunction") == "LINEAR_EXACT":
            return centre - width / 2, centre + width / 2
        return (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2) if width > 1 else None


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None if there is none."""
    try:
        found = float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return found if math.isfinite(found) else None


def _fitting(values: NDArray[Any], stored: np.dtype[Any]) -> NDArray[Any]:
    """Values as whole numbers of the stored format, else of 16 signed bits, if they are that; else as float32."""
    if values.size and (values == np.rint(values)).all():
        for kind in (stored, np.dtype(np.int16)):
            if kind.itemsize <= 2 and np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
                return values.astype(kind)
    return values.astype(np.float32)
