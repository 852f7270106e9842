"""From the bytes of a file to its rows: archives are opened, kinds told apart by content, text decoded."""

from __future__ import annotations

import io
import re
import zlib

from apps.montecarlo.prices.delimited import read_text
from apps.montecarlo.prices.grid import Grid, reason
from core import InputError

MAX_BYTES = 256 << 20
"""Most bytes that a file may have or unpack to: 5 million rows of eight columns, beyond any price history."""
MAX_DEPTH = 2
"""Archives within an archive that are opened: a workbook or compressed table within a .zip."""

GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls); save it as .xlsx or CSV"),
    (b"%PDF", "a PDF; export the prices as CSV"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive; unpack it first"),
)
_WEB_PAGE = re.compile(r"\s*<(!doctype\s+html|html|head|body|table)\b", re.IGNORECASE)
_JSON = re.compile(r'\s*(\{\s*"|\[\s*[\[{])')
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
"""Characters that no text has."""


def read_grid(raw: bytes, source: str, depth: int = 0) -> Grid:
    """Read the rows of a table: CSV and its relatives, a workbook (.xlsx), Parquet; plain, in a .gz or in a .zip.

    Parameters
    ----------
    raw : bytes
        The whole file.
    source : str
        Its name, for messages.
    depth : int
        Archives that it was taken from.

    Raises
    ------
    InputError
        It is damaged, empty, too large, or of a kind that holds no price table; the message says which and the remedy.
    ConfigError
        It is Parquet, and pyarrow is not installed.
    """
    if len(raw) > MAX_BYTES:
        raise InputError(
            f"{source}: more than {MAX_BYTES >> 20} MB (unpacked), too large for a price file; cut out what you need"
        )
    if depth > MAX_DEPTH:
        raise InputError(f"{source}: an archive in an archive in an archive; unpack it first")
    if raw.startswith(GZIP):
        return read_grid(_gunzip(raw, source), source, depth + 1)
    if raw.startswith(ZIP):
        return _open_zip(raw, source, depth)
    if raw.startswith(PARQUET):
        from apps.montecarlo.prices.parquet import read_parquet

        return read_parquet(raw, source)
    for magic, what in FOREIGN:
        if raw.startswith(magic):
            raise InputError(f"{source}: this is {what}")
    return read_text(decode(raw, source), source)


def decode(raw: bytes, source: str) -> str:
    """Decode text in UTF-8, UTF-16 (with or without a mark), or else Windows' Latin-1; line ends become newlines."""
    if not raw.strip():
        raise InputError(f"{source}: the file is empty; it needs price rows, with a date in each")
    text = _decoded(raw, source)
    control = _CONTROL.search(text)
    if control is not None:
        what = "zero bytes" if control[0] == "\0" else "control characters"
        raise InputError(f"{source}: not a text file (it contains {what}); export it as CSV")
    if _WEB_PAGE.match(text):
        raise InputError(
            f"{source}: this is a web page, not a table; download the CSV itself, or save the page's table as CSV"
        )
    if _JSON.match(text):
        raise InputError(f"{source}: this is JSON, not a table; export the prices as CSV")
    if not text.strip():
        raise InputError(f"{source}: the file is empty; it needs price rows, with a date in each")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(raw: bytes, source: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in raw[1:2]:
        encoding = "utf-16-le"
    elif raw.startswith(b"\0"):
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise InputError(
                f"{source}: not a text file (byte {error.start} is not {encoding.upper()}); export it as CSV"
            ) from error
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _gunzip(raw: bytes, source: str) -> bytes:
    import gzip

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source}: damaged gzip data ({reason(error)}); compress the file again") from error


def _open_zip(raw: bytes, source: str, depth: int) -> Grid:
    import zipfile

    from apps.montecarlo.prices.workbook import read_workbook

    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = archive.namelist()
            if "xl/workbook.xml" in names:
                return read_workbook(archive, source, MAX_BYTES)
            if "mimetype" in names and "content.xml" in names:
                raise InputError(f"{source}: this is an OpenDocument file; save it as .xlsx or CSV")
            files = [name for name in names if not name.endswith("/") and not _is_clutter(name)]
            if len(files) != 1:
                shown = ", ".join(map(repr, files[:5])) + (" ..." if len(files) > 5 else "")
                raise InputError(
                    f"{source}: the archive holds {len(files)} files ({shown}); unpack the one with the prices"
                    if files
                    else f"{source}: the archive is empty"
                )
            with archive.open(files[0]) as stream:
                unpacked = stream.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: damaged zip archive ({reason(error)}); pack the file again") from error
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"{source}: a zip archive that cannot be opened ({reason(error)}); unpack it first") from error
    return read_grid(unpacked, source, depth + 1)


def _is_clutter(name: str) -> bool:
    """Tell what archivers add of their own: resource forks, hidden files."""
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith(".")
