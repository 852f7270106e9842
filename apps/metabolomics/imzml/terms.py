"""Terms of the controlled vocabularies that imzML is written in, as far as they decide how spectra are read.

Source: the PSI-MS vocabulary (psi-ms.obo), the imaging MS vocabulary (imagingMS.obo) and the Unit Ontology.
"""

from __future__ import annotations

MZ_ARRAY, INTENSITY_ARRAY = b"MS:1000514", b"MS:1000515"

POSITION_X, POSITION_Y, POSITION_Z = b"IMS:1000050", b"IMS:1000051", b"IMS:1000052"
EXTERNAL_OFFSET, EXTERNAL_ARRAY_LENGTH, EXTERNAL_ENCODED_LENGTH = b"IMS:1000102", b"IMS:1000103", b"IMS:1000104"

CONTINUOUS, PROCESSED = b"IMS:1000030", b"IMS:1000031"
UUID = b"IMS:1000080"
CHECKSUMS = {b"IMS:1000090": "md5", b"IMS:1000091": "sha1", b"IMS:1000092": "sha256"}
"""Checksums of the .ibd that a header may state, by the name that hashlib knows them by."""

MS_LEVEL, MSN_SPECTRUM = b"MS:1000511", b"MS:1000580"
POLARITIES = {b"MS:1000130": "+", b"MS:1000129": "-"}
MODES = {b"MS:1000127": "centroid", b"MS:1000128": "profile"}

PIXEL_SIZE_X, PIXEL_SIZE_Y = b"IMS:1000046", b"IMS:1000047"
PIXELS_X, PIXELS_Y = b"IMS:1000042", b"IMS:1000043"
MICROMETRES = {
    b"UO:0000008": 1e6,
    b"UO:0000015": 1e4,
    b"UO:0000016": 1e3,
    b"UO:0000017": 1.0,
    b"UO:0000018": 1e-3,
}
"""Micrometres of one metre, centimetre, millimetre, micrometre and nanometre."""

ELEMENT_TYPES = {
    b"MS:1000519": "i4",
    b"MS:1000521": "f4",
    b"MS:1000522": "i8",
    b"MS:1000523": "f8",
    b"IMS:1000141": "i4",
    b"IMS:1000142": "i8",
}
ELEMENT_NAMES = {
    b"32-bit float": "f4",
    b"64-bit float": "f8",
    b"32-bit integer": "i4",
    b"64-bit integer": "i8",
}
OTHER_TYPES = {
    b"MS:1000520": "16-bit float",
    b"MS:1001479": "null-terminated ASCII string",
    b"IMS:1100000": "8-bit integer",
    b"IMS:1100001": "16-bit integer",
}
"""Element types that exist, but not in any imzML one has seen; refused by name."""

NO_COMPRESSION, ZLIB = b"MS:1000576", b"MS:1000574"
OTHER_COMPRESSIONS = {
    b"MS:1002312": "MS-Numpress linear prediction compression",
    b"MS:1002313": "MS-Numpress positive integer compression",
    b"MS:1002314": "MS-Numpress short logged float compression",
    b"MS:1002746": "MS-Numpress linear prediction compression followed by zlib compression",
    b"MS:1002747": "MS-Numpress positive integer compression followed by zlib compression",
    b"MS:1002748": "MS-Numpress short logged float compression followed by zlib compression",
    b"MS:1003088": "truncation and zlib compression",
    b"MS:1003089": "truncation, delta prediction and zlib compression",
    b"MS:1003090": "truncation, linear prediction and zlib compression",
}
