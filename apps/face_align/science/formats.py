"""Which names are those of images, and which of images that cannot be read."""

from __future__ import annotations

import os

EXTENSIONS = frozenset(
    ".avif .bmp .gif .heic .heif .hif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
"""Extensions of images that are read; those of HEIC with pillow-heif."""

_RAW = ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mrw .nef .nrw .orf .pef .raf .rw2 .srw .x3f".split()
_DOCUMENTS = {
    ".ai": "Illustrator",
    ".dcm": "DICOM",
    ".eps": "PostScript",
    ".exr": "OpenEXR",
    ".hdr": "Radiance",
    ".j2k": "a bare JPEG 2000 codestream",
    ".jxl": "JPEG XL",
    ".jxr": "JPEG XR",
    ".pcx": "PCX",
    ".psb": "Photoshop",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".tga": "Targa",
    ".xcf": "GIMP",
}
_PACKED = ".7z .rar .tgz .tar.gz .tar.bz2 .tar.xz .tar.zst".split()
UNREADABLE = {
    **dict.fromkeys(_RAW, "a camera's raw file cannot be read; develop it to JPEG, PNG or TIFF"),
    **{name: f"{what} cannot be read; export it as JPEG, PNG or TIFF" for name, what in _DOCUMENTS.items()},
    **dict.fromkeys(_PACKED, "an archive of this kind cannot be read by parts; unpack it, or make it a .zip or .tar"),
}
"""By extension: why files that hold images are not read, and what to do."""

OTHER, NO_EXTENSION, APPLE_DOUBLE = "other files", "files without extension", "AppleDouble files"


def left_out(name: str) -> str:
    """Return what a file is that is left out, in the plural; empty for an image, be it one that cannot be read."""
    file = name.rpartition("/")[2]
    if is_apple_double(name):
        return APPLE_DOUBLE
    extension = os.path.splitext(file)[1].lower()
    if extension in EXTENSIONS or unreadable(name):
        return ""
    return OTHER if extension or file.startswith(".") else NO_EXTENSION


def is_apple_double(name: str) -> bool:
    """Whether a file holds what macOS keeps beside another one: the resource fork of an image is no image."""
    folders, _, file = name.rpartition("/")
    return file.startswith("._") or "__MACOSX" in folders.split("/")


def unreadable(name: str) -> str:
    """Return why an image or archive of this name cannot be read; empty if it may."""
    return next((reason for end, reason in UNREADABLE.items() if name.lower().endswith(end)), "")
