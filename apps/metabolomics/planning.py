"""What an annotation would take: tasks, requests, CPU time, bytes and price, told before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

from apps._frame import Session
from apps._frame.manifest import exists
from apps._frame.plan import Plan, StagePlan
from apps._frame.stored import Stored
from apps._frame.tables import counted, size_text
from apps.metabolomics import blocks, formulas, indexing, library
from apps.metabolomics.cache import cache_address, entry
from apps.metabolomics.databases import cuts, read_databases, shipped, unique_formulas
from apps.metabolomics.databases.cutting import PART
from apps.metabolomics.databases.lines import GZIP
from apps.metabolomics.demonstration import demonstrated
from apps.metabolomics.imzml import open_dataset
from apps.metabolomics.imzml.pair import find_pair
from apps.metabolomics.library import database_inputs
from apps.metabolomics.modifiers import chemistry
from apps.metabolomics.params import Params
from core import open_storage
from core.storage import process_storage

SCAN_SECONDS = 8e-6
"""CPU of one spectrum's place in the .imzML. This one and those below: measured on one core of a 2020s server, at
10 to 40 million peaks and 46,000 to 460,000 ions."""
MAP_SECONDS, REDUCE_SECONDS = 1.2e-7, 9e-8
"""Of one peak."""
ROW_SECONDS, UNITE_SECONDS = 4e-6, 4e-7
"""Of one row of a database: to read it, and to unite its formula with others."""
FORMULA_SECONDS, PATTERN_SECONDS, SORT_SECONDS = 1.2e-4, 1.2e-5, 7e-7
"""Of one formula, and of one ion: to compute its pattern, and to sort it."""
ION_SECONDS, TOUCH_SECONDS, READ_SECONDS = 8e-6, 2.5e-9, 3e-8
"""Scoring: of an ion, of a peak in its windows, and of a peak that is fetched."""
CHAOS_SECONDS = 9e-8
"""Of one pixel of a first image that is not 0."""
RENDER_SECONDS = 2e-5
"""Of one ion with images."""
CLUSTERING = 3.3
"""Peaks in the windows of ions, as both lie near whole m/z, over those of evenly spread ones."""
WITH_IMAGES = 0.25
"""Share of ions whose images correlate, in data of noise alone."""
PEAK_BYTES, RUN_BYTES, INDEX_BYTES = 12, 16, 9.6
"""Of a peak in the .ibd, in a sorted run and in a segment."""
ION_RUN_BYTES, ION_BYTES, ROW_BYTES = 80, 50, 130
"""Of an ion in a sorted run, in a segment of patterns, and in the table of all ions."""
DATABASE_ROW_BYTES, UNIQUE = 60, 5.5
"""Of a row of a database; rows that share a formula, in a database of 100 million."""
ROW_FORMULAS, FORMULA_BYTES = 1.2, 16
"""Rows of 64 MB of it that share a formula; bytes of a formula."""
COMPRESSION = 5
"""Bytes of a table for each that it is compressed to, about."""
MZ_SPAN = math.log(1000 / 100)
"""Of the m/z of peaks, taken to be from 100 to 1000."""
WORKER_BYTES = 2 << 30
"""Memory that a worker is to have; what it takes is bounded by the sizes of tasks, and stays below."""
EXACT_BYTES = 64 << 20
"""Bytes of databases up to which they are read for their formulas; of larger ones the number is estimated."""
READ_AMPLIFICATION = 1.8
"""Bytes that scoring fetches over those of the index, where blocks are narrow."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides the work.

    Attributes
    ----------
    spectra, peaks : int
    rows, formulas, tables : int
        Of the databases, which are read in so many parts.
    indexed, prepared : bool
        Whether index or library are there already.
    stated : bool
        Whether the sizes were told, and not found.
    """

    spectra: int
    peaks: int
    rows: int
    formulas: int
    tables: int
    indexed: bool = False
    prepared: bool = False
    stated: bool = False


def plan(session: Session, params: Params) -> Plan:
    """Command: say what a run would take."""
    if not params.source and not params.plan_size:
        with TemporaryDirectory() as folder:
            return plan(session, demonstrated(params, f"{folder}/run"))
    sizes = stated_sizes(params) if params.plan_size else found_sizes(session, params)
    a_formula = ions_a_formula(params)
    ions = sizes.formulas * a_formula
    stages = list(stage_plans(params, sizes, ions))
    index = sizes.peaks * INDEX_BYTES
    facts = [
        ("Dataset", f"{sizes.peaks:,} peaks of {sizes.spectra:,} spectra{' (as stated)' * sizes.stated}"),
        ("Molecules", f"{sizes.rows:,} of {counted(sizes.formulas, 'formula')}, {ions:,} ions with their decoys"),
        ("Index", "there already" if sizes.indexed else f"{size_text(index)} in the cache"),
        ("Patterns", "there already" if sizes.prepared else f"{size_text(ions * ION_BYTES)} in the cache"),
        ("Memory", f"{size_text(WORKER_BYTES)} a worker at most, whatever the sizes"),
    ]
    figures = {
        "peaks": sizes.peaks, "spectra": sizes.spectra, "rows": sizes.rows, "formulas": sizes.formulas, "ions": ions,
        "indexed": sizes.indexed, "prepared": sizes.prepared, "memory": WORKER_BYTES,
    }  # fmt: skip
    return Plan(stages, facts, figures)


def ions_a_formula(params: Params) -> int:
    """Return how many ions a formula makes at most, with its decoys."""
    made = chemistry(replace(params.molecules, polarity=params.polarity or "+"))
    return made.n_targets + len(made.decoy_place) * min(params.decoys, made.candidates)


def stated_sizes(params: Params) -> Sizes:
    """Return the sizes that the parameters state."""
    rows, peaks = params.plan_rows, int((params.plan_size or 0) / PEAK_BYTES)
    tables = parts(rows * DATABASE_ROW_BYTES, (PART, PART), 1)
    return Sizes(params.plan_spectra, peaks, rows, _unique(rows), tables, stated=True)


def found_sizes(session: Session, params: Params) -> Sizes:
    """Return the sizes of the files, and whether index and library are there already."""
    files, databases = find_pair(params.source), database_inputs(params)
    cache = cache_address(params.cache, session.common.output)
    index = entry(cache, indexing.stem_of(files), indexing.content(params.reading), indexing.tags_of(files))
    molecules = params.molecules if params.polarity else replace(params.molecules, polarity="+")
    patterns = entry(cache, "ions", library.content(molecules), library.tags_of(databases))
    dataset = open_dataset(
        params.source, z=params.z, allow_truncated=params.allow_truncated, ignore_uuid=params.ignore_uuid,
        centroid=params.centroid,
    )  # fmt: skip
    tables = [cuts(each.url, each.size) for each in databases.values()] if params.db else [[(0, None)]]
    size = sum(table_bytes(each) for each in databases.values())
    if size <= EXACT_BYTES:
        found = read_databases(list(databases)) if params.db else (shipped(),)
        rows, unique = sum(each.rows for each in found), len(unique_formulas(found))
    else:
        rows = size // DATABASE_ROW_BYTES
        unique = _unique(rows)
    there = exists(open_storage(index), indexing.INDEX), exists(open_storage(patterns), library.LIBRARY)
    return Sizes(dataset.n_spectra, dataset.n_peaks, rows, unique, sum(map(len, tables)), *there)


def table_bytes(database: Stored) -> int:
    """Return the bytes of a database, about, where it is compressed."""
    begin = (database.data or process_storage(database.address).get(database.key, 0, len(GZIP)))[: len(GZIP)]
    return database.size * (COMPRESSION if begin == GZIP else 1)


def stage_plans(params: Params, sizes: Sizes, ions: int) -> Iterator[StagePlan]:
    """Yield what each stage would have to do."""
    peaks, tables = sizes.peaks, sizes.tables
    maps = parts(peaks * PEAK_BYTES, indexing.TASK_BYTES, indexing.TASKS)
    reduces = parts(peaks, indexing.SEGMENT_PEAKS, indexing.TASKS)
    if not sizes.indexed:
        yield _stage("offsets", 1, sizes.spectra * SCAN_SECONDS, gets=sizes.spectra // 20_000 + 2, puts=maps,
                     bytes_in=sizes.spectra * 800)  # fmt: skip
    if not sizes.prepared:
        merges = parts(ions, library.SEGMENT_IONS, formulas.TASKS)
        lists = sizes.rows / ROW_FORMULAS * FORMULA_BYTES
        unites = 1 if params.decoy_seed == "metaspace" else math.ceil(sizes.rows / formulas.UNITED_ROWS)
        a_share, a_formula = math.ceil(sizes.formulas / unites), ions // sizes.formulas
        chunks = unites * math.ceil(a_share / formulas.chunk_formulas(a_share, a_formula, unites))
        yield _stage("rows", tables, sizes.rows * ROW_SECONDS, gets=3 * tables, puts=2 * tables,
                     bytes_in=sizes.rows * DATABASE_ROW_BYTES, bytes_out=lists)  # fmt: skip
        yield _stage("formulas", unites, sizes.rows * UNITE_SECONDS, gets=tables * unites, puts=chunks,
                     bytes_in=lists, bytes_out=sizes.formulas * FORMULA_BYTES)  # fmt: skip
        yield _stage("centroids", chunks, sizes.formulas * FORMULA_SECONDS + ions * PATTERN_SECONDS, gets=chunks,
                     puts=chunks, bytes_out=ions * ION_RUN_BYTES)  # fmt: skip
        yield _stage("ions", merges, ions * SORT_SECONDS, gets=chunks * merges, puts=merges,
                     bytes_in=ions * ION_RUN_BYTES, bytes_out=ions * ION_BYTES)  # fmt: skip
    if not sizes.indexed:
        yield _stage("ds-map", maps, peaks * MAP_SECONDS, gets=2 * maps, puts=2 * maps,
                     bytes_in=peaks * PEAK_BYTES, bytes_out=peaks * RUN_BYTES)  # fmt: skip
        yield _stage("ds-reduce", reduces, peaks * REDUCE_SECONDS, gets=maps * reduces, puts=reduces,
                     bytes_in=peaks * RUN_BYTES, bytes_out=peaks * INDEX_BYTES)  # fmt: skip
    window = peaks / MZ_SPAN * 2e-6 * params.ppm * CLUSTERING
    touches = ions * params.n_peaks * window
    fetched = peaks * READ_AMPLIFICATION
    seconds = ions * ION_SECONDS + touches * TOUCH_SECONDS + fetched * READ_SECONDS
    work = shares(ions * blocks.ION_TOUCHES + touches, blocks.BLOCK_TOUCHES, blocks.TASKS)
    number = math.ceil(work + params.n_peaks * peaks / blocks.BLOCK_PEAKS + ions / blocks.BLOCK_IONS)
    requests = number * (4 + params.n_peaks * (2 + math.ceil(reduces / number)))
    scored = int(ions * WITH_IMAGES)
    yield _stage("score", number, seconds, gets=requests, puts=number,
                 bytes_in=fetched * INDEX_BYTES + ions * ION_BYTES, bytes_out=scored * ROW_BYTES)  # fmt: skip
    pixels = min(scored * window, scored * sizes.spectra)
    share = 1.0 if pixels <= 1e9 else params.fdr
    yield _stage("chaos", number, pixels * share * CHAOS_SECONDS + fetched / params.n_peaks * READ_SECONDS,
                 gets=requests // params.n_peaks + number, puts=number,
                 bytes_in=fetched * INDEX_BYTES / params.n_peaks + scored * ROW_BYTES)  # fmt: skip
    groups = len([each for each in chemistry(replace(params.molecules, polarity=params.polarity or "+")).modifiers
                  if not each.decoy])  # fmt: skip
    yield _stage("fdr", groups, scored * share * 2e-7 * groups, gets=number * groups,
                 bytes_in=scored * share * 20 * groups)  # fmt: skip
    yield _stage("render", number, scored * RENDER_SECONDS, gets=4 * number, puts=2 * number,
                 bytes_in=scored * ROW_BYTES, bytes_out=scored * ROW_BYTES)  # fmt: skip
    yield _stage("molecules", tables, sizes.rows * ROW_SECONDS, gets=3 * tables,
                 bytes_in=sizes.rows * DATABASE_ROW_BYTES)  # fmt: skip


def parts(total: float, bounds: Sequence[int], tasks: int) -> int:
    """Return into how many tasks something is cut, as the stages do it."""
    return max(1, math.ceil(shares(total, bounds, tasks)))


def shares(total: float, bounds: Sequence[int], tasks: int) -> float:
    """Return how many times the share of one task something is."""
    return total / min(max(total / tasks, bounds[0]), bounds[1])


def _stage(
    name: str, tasks: int, seconds: float, *, gets: int = 0, puts: int = 0, bytes_in: float = 0, bytes_out: float = 0
) -> StagePlan:
    each = seconds / tasks
    return StagePlan(name, tasks, each, WORKER_BYTES, gets, puts, int(bytes_in), int(bytes_out))


def _unique(rows: int) -> int:
    return max(1, round(rows / UNIQUE))
