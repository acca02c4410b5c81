"""Kinds of files that are not read, by their first bytes: what they are, and what to do with them."""

from __future__ import annotations

_CONVERT = "convert it to PNG or JPEG"
_EXPORT = "export its pictures as TIFF or PNG"
_UNPACK = "unpack it and give the folder"
_FRAMES = "extract its frames, as with `ffmpeg -i FILE frames/%06d.png`"
_WRITE = "write its arrays as TIFF"
_PICTURES = "give files of pictures"

_BY_START: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\x0a", "JPEG XL", _CONVERT),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", _CONVERT),
    (b"II\xbc", "JPEG XR", _CONVERT),
    (b"II*\0\x10\0\0\0CR", "a camera's raw file (CR2)", "develop it to TIFF, PNG or JPEG"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)", "develop it to TIFF, PNG or JPEG"),
    (b"IIU\0", "a camera's raw file (RW2)", "develop it to TIFF, PNG or JPEG"),
    (b"IIRO", "a camera's raw file (ORF)", "develop it to TIFF, PNG or JPEG"),
    (b"IIRS", "a camera's raw file (ORF)", "develop it to TIFF, PNG or JPEG"),
    (b"MMOR", "a camera's raw file (ORF)", "develop it to TIFF, PNG or JPEG"),
    (b"8BPS", "Photoshop (PSD)", _CONVERT),
    (b"gimp xcf", "GIMP (XCF)", _CONVERT),
    (b"\0\0\1\0", "an icon (ICO)", _CONVERT),
    (b"icns", "an icon (ICNS)", _CONVERT),
    (b"DDS ", "a texture (DDS)", _CONVERT),
    (b"v/1\x01", "OpenEXR", "convert it to TIFF"),
    (b"#?RADIANCE", "Radiance (HDR)", "convert it to TIFF"),
    (b"#?RGBE", "Radiance (HDR)", "convert it to TIFF"),
    (b"qoif", "QOI", _CONVERT),
    (b"BPG\xfb", "BPG", _CONVERT),
    (b"FLIF", "FLIF", _CONVERT),
    (b"AT&TFORM", "DjVu", _CONVERT),
    (b"SIMPLE  =", "FITS", "convert it to TIFF"),
    (b"\x89HDF\r\n\x1a\n", "HDF5", _WRITE),
    (b"CDF\1", "NetCDF", _WRITE),
    (b"CDF\2", "NetCDF", _WRITE),
    (b"MATLAB 5.0", "MATLAB's data", _WRITE),
    (b"ZISRAWFILE", "a microscope's file (CZI)", _EXPORT),
    (b"\xda\xce\xbe\n", "a microscope's file (ND2)", _EXPORT),
    (b"\x70\0\0\0", "a microscope's file (LIF)", _EXPORT),
    (b"%PDF", "PDF", "render its pages as PNG, as with `pdftoppm -png`"),
    (b"%!PS", "PostScript", _CONVERT),
    (b"\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (b"PK\3\4", "a zip archive (or an office document)", _UNPACK),
    (b"PK\5\6", "an empty zip archive", _UNPACK),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed by xz", _UNPACK),
    (b"(\xb5/\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf'\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x1aE\xdf\xa3", "video (WebM or Matroska)", _FRAMES),
    (b"\0\0\1\xba", "video (MPEG)", _FRAMES),
    (b"\0\0\1\xb3", "video (MPEG)", _FRAMES),
    (b"FLV\1", "video (FLV)", _FRAMES),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video (WMV)", _FRAMES),
    (b"OggS", "video or sound (Ogg)", _FRAMES),
    (b"ID3", "sound (MP3)", _PICTURES),
    (b"fLaC", "sound (FLAC)", _PICTURES),
    (b"SQLite format 3\0", "a database (SQLite)", _PICTURES),
    (b"PAR1", "a table (Parquet)", "write the pictures in it as files"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old office document or Thumbs.db", _PICTURES),
    (b"\0\5\x16\7", "a resource fork of macOS, beside the picture itself", "remove it"),
    (b"\0\5\x16\0", "a resource fork of macOS, beside the picture itself", "remove it"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the picture itself with `git lfs pull`"),
    (b"\x7fELF", "a program", _PICTURES),
    (b"MZ", "a program", _PICTURES),
)  # fmt: skip

_BY_BRAND = {"crx ": ("a camera's raw file (CR3)", "develop it to TIFF, PNG or JPEG")}
"""By the brand of an ISO file, which stands after `ftyp`; any other is a video."""

_TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b"<svg", "SVG", "render it as PNG"),
    (b"<!doctype html", "a web page", "download the picture itself"),
    (b"<html", "a web page", "download the picture itself"),
    (b"<?xml", "XML", _PICTURES),
    (b"{", "JSON", _PICTURES),
)


def known_kind(head: bytes) -> str | None:
    """Return what a file is and what to do, from its first 512 bytes; None if they say nothing."""
    found = _found(head)
    return None if found is None else f"{found[0]}, which is not read: {found[1]}"


def _found(head: bytes) -> tuple[str, str] | None:
    if head[4:8] == b"ftyp":
        return _BY_BRAND.get(head[8:12].decode("latin-1"), ("video (MP4 or alike)", _FRAMES))
    if head[4:8] in (b"moov", b"mdat") or head[4:12] == b"wide\0\0\0\x08":
        return "video (QuickTime)", _FRAMES
    if head.startswith(b"RIFF") and head[8:12] != b"WEBP":
        return ("video (AVI)", _FRAMES) if head[8:12] == b"AVI " else ("sound (WAV)", _PICTURES)
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "NIfTI", _WRITE
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace():
        return "PNM", _CONVERT
    for start, name, advice in _BY_START:
        if head.startswith(start):
            return name, advice
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text:
        return _TEXTS[0][1:]
    return next(((name, advice) for start, name, advice in _TEXTS if text.startswith(start)), None)
