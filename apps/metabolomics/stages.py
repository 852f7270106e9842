"""What ``annotate`` does, in its order: molecules, peaks, scores, chaos where it decides, rates, images."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apps._frame import Session
from apps._frame.params import as_settings
from apps._frame.run import Run
from apps._frame.stages import Stage, Stages
from apps._frame.stored import Codec, Stored
from apps._frame.tables import counted, facts_text, json_text
from apps.metabolomics import indexing, join, library, publishing, ranking
from apps.metabolomics.annotated import MOLECULES, PIXELS, encode_molecules, encode_pixels, of_storage
from apps.metabolomics.blocks import blocks_of
from apps.metabolomics.cache import cache_address, entry
from apps.metabolomics.databases.tables import SHIPPED
from apps.metabolomics.imzml.pair import find_pair
from apps.metabolomics.indexing import DatasetIndex, Indexing
from apps.metabolomics.library import Library, Patterns, database_inputs
from apps.metabolomics.modifiers import Chemistry, chemistry
from apps.metabolomics.params import Params
from apps.metabolomics.result import ALL_IONS, FIGURES, ION_IMAGES, ions_schema, read_accepted
from core import ConfigError, InputError, __version__

STAGES = ("score", "chaos", "fdr", "render")
RESULTS = (*publishing.RESULTS, FIGURES)
CHAOS_PIXELS = 500_000_000
"""Pixels of the images of one task: half a minute."""
ROW_GROUP = 65_536

RATES = Codec(join.encode_rates, join.decode_rates)


@dataclass(frozen=True, slots=True)
class Annotated:
    """What has come of a dataset and a library.

    Attributes
    ----------
    scored : list of Scored
        Blocks that have ions.
    rates : tuple of Stored
        Of each target group.
    counts : dict
        Ions scored, peaks touched, tasks.
    """

    scored: list[join.Scored]
    rates: tuple[Stored, ...]
    counts: dict[str, int]


def run(session: Session, params: Params) -> None:
    """Command: annotate a dataset, or say what is there if that is done."""
    if params.plan_size:
        raise ConfigError(
            "--plan-size states what a dataset would have, for --dry-run alone; add that, or leave it out"
        )
    files = find_pair(params.source)
    databases = database_inputs(params)
    if params.polarity:
        chemistry(params)  # an adduct that is wrong is told before any work
    inputs = indexing.tags_of(files) | library.tags_of(databases)
    with session.open_run(RESULTS, inputs=inputs, keeps=(ION_IMAGES,)) as opened:
        if not opened.finished:
            opened.claim([ALL_IONS, PIXELS, MOLECULES])
            found = annotate(session, opened, params, databases)
            written = publishing.files(of_storage(opened.storage, found, params.fdr))
            opened.publish({**written, FIGURES: json_text(found, indent=2).encode()})
        figures = opened.figures()
    session.show(figures, terminal)
    session.say(f"\nReport: {session.output}/report.html (beside it: tables, images, diagnostics)")
    session.show_bill()


def annotate(session: Session, opened: Run, params: Params, databases: dict[str, Stored]) -> dict[str, Any]:
    """Do what is not done yet, and write tables and images; returns the figures."""
    names = ["offsets", *library.STAGES, *indexing.STAGES[1:], *STAGES]
    indexing.refuse_unreachable(session, opened.storage, "the output")
    # Whoever resumes the run elsewhere finds the index that it was begun with.
    cache = opened.remembered("cache", cache_address(params.cache, session.common.output))
    dataset, patterns, params = prepare(session, cache, params, databases, names)
    made = chemistry(params)
    stages = session.stages(opened, names)
    matching = matching_of(params, dataset, patterns, made)
    found = score_all(stages, opened.address, params, matching, dataset, patterns, made)
    rendered = render_all(stages, opened, params, matching, found, made)
    opened.storage.put(PIXELS, encode_pixels(*indexing.read_tic(dataset.address)))
    opened.storage.put(MOLECULES, molecules_of(opened, params, patterns))
    return figures_of(params, dataset, patterns, found, rendered)


def prepare(
    session: Session, cache: str, params: Params, databases: dict[str, Stored], names: Sequence[str]
) -> tuple[DatasetIndex, Library, Params]:
    """Return the index and the library of a run, made where they are not there, and its parameters with a polarity.

    What is quick and may fail comes first: the dataset's header, then the databases, and last the peaks.

    Raises
    ------
    InputError
        The dataset is of the other polarity, or of none and none was given.
    """
    files, reading = find_pair(params.source), params.reading
    with ExitStack() as held:
        place = entry(cache, indexing.stem_of(files), indexing.content(reading), indexing.tags_of(files))
        opened = indexing.index_run(session, place, files, reading)
        index = held.enter_context(Indexing(session, opened, files, reading, names))
        params = replace(params, polarity=polarity_of(params, index.facts()["polarity"]))
        molecules = params.molecules
        place = entry(cache, "ions", library.content(molecules), library.tags_of(databases))
        opened = library.library_run(session, place, molecules, databases)
        with Patterns(session, opened, molecules, databases, names) as making:
            patterns = making.build()
        return index.build(), patterns, params


def polarity_of(params: Params, said: str) -> str:
    """Return the polarity of the ions.

    Raises
    ------
    InputError
        The dataset says another one than the parameters, or neither says one.
    """
    if not params.polarity and not said:
        raise InputError(f"{params.source} does not say its polarity; add --polarity + or --polarity -")
    if params.polarity and said and params.polarity != said:
        raise InputError(
            f"{params.source} was measured with polarity {said}, and --polarity {params.polarity} was given; leave "
            "--polarity out"
        )
    return params.polarity or said


def matching_of(params: Params, dataset: DatasetIndex, patterns: Library, made: Chemistry) -> join.Matching:
    """Return what all tasks that bring dataset and patterns together have in common."""
    facts = dataset.facts
    return join.Matching(
        dataset=dataset.segments,
        patterns=patterns.segments,
        n_peaks=params.n_peaks,
        min_px=params.min_px,
        levels=params.levels,
        ppm=params.ppm,
        engine_compat=params.engine_compat,
        width=facts["width"],
        height=facts["height"],
        n_sampled=facts["n_sampled"],
        groups=tuple(each.group for each in made.modifiers),
    )


def score_all(
    stages: Stages,
    address: str,
    params: Params,
    matching: join.Matching,
    dataset: DatasetIndex,
    patterns: Library,
    made: Chemistry,
) -> Annotated:
    """Score all ions, compute chaos until the level is certain, and rank."""
    charge = min(abs(each.charge) for each in made.modifiers)
    blocks, _ = blocks_of(dataset.counts, patterns.counts, params.ppm, params.n_peaks, charge)
    outputs = stages.run(Stage("score", blocks, join.score, matching))
    ions, pixels, counts = [], [], {"scored": 0, "touches": 0}
    bounds = np.zeros((matching.n_groups, ranking.SCORE_BINS), np.int64)
    for each in outputs.values():
        counts = {name: total + each[name] for name, total in counts.items()}
        if each["rows"]:
            ions.append(join.stored(address, each["ions"]))
            pixels.append(each["pixels"])
            bounds += ranking.added([each["bounds"]], matching.n_groups)
    chaos = decide(stages, address, params, matching, made, ions, np.array(pixels).reshape(-1, join.PIXEL_BINS), bounds)
    ranked = join.Ranked(
        tuple(one for each in chaos for one in each),
        min(params.decoys, made.candidates),
        params.engine_compat,
        params.fdr,
    )
    families = [each.family for each in made.modifiers if not each.decoy]
    tasks = [join.Ranking(group, family) for group, family in enumerate(families)]
    rates = stages.run(Stage("fdr", tasks, join.rank, ranked, codec=RATES))
    scored = [join.Scored(one, tuple(each)) for one, each in zip(ions, chaos, strict=True)]
    return Annotated(scored, tuple(rates), {**counts, "blocks": len(blocks)})


def decide(
    stages: Stages,
    address: str,
    params: Params,
    matching: join.Matching,
    made: Chemistry,
    ions: Sequence[Stored],
    pixels: Any,
    bounds: ranking.Histograms,
) -> list[list[Stored]]:
    """Compute chaos from the highest bounds down, until the level is certain; returns the outputs of each block.

    Parameters
    ----------
    pixels : int64[blocks, PIXEL_BINS]
        Pixels of the first images, by bound.
    bounds : Histograms
        Of all ions.
    """
    families = [each.family for each in made.modifiers if not each.decoy]
    known = ranking.Known.nothing(bounds)
    chaos: list[list[Stored]] = [[] for _ in ions]
    while True:
        lowest = ranking.next_lowest(known, families, min(params.decoys, made.candidates), params.fdr)
        if known.lowest.min() == ranking.SCORE_BINS and pixels.sum() <= ranking.SMALL_PIXELS:
            lowest = np.zeros_like(lowest)
        if np.array_equal(lowest, known.lowest):
            return chaos
        wanted = pixels[:, int(lowest.min() / ranking.SCORE_BINS * join.PIXEL_BINS) :].sum(axis=1)
        places, tasks = [], []
        for at in map(int, np.flatnonzero(wanted)):
            parts = math.ceil(wanted[at] / CHAOS_PIXELS)
            tasks += [join.Candidates(ions[at], part, parts) for part in range(parts)]
            places += [at] * parts
        deciding = join.Deciding(matching, tuple(map(int, lowest)), tuple(map(int, known.lowest)))
        outputs = stages.run(Stage("chaos", tasks, join.chaos, deciding))
        scores = np.zeros_like(bounds)
        for at, each in zip(places, outputs.values(), strict=True):
            chaos[at].append(join.stored(address, each["chaos"]))
            scores += ranking.added([each["scores"]], matching.n_groups)
        known = known.with_scores(scores, lowest)


def render_all(
    stages: Stages, opened: Run, params: Params, matching: join.Matching, found: Annotated, made: Chemistry
) -> dict[str, Any]:
    """Write the table of all ions and the images of the accepted ones; returns their counts."""
    rendering = join.Rendering(matching, made.modifiers, found.rates, params.fdr, opened.address)
    outputs = stages.run(Stage("render", [*enumerate(found.scored)], join.render, rendering))
    opened.storage.put(ALL_IONS, _all_ions(opened.address, outputs.values(), params.n_peaks))
    images = {each["images"] for each in outputs.values() if each["images"]}
    opened.storage.delete([info.key for info in opened.storage.list(ION_IMAGES) if info.key not in images])
    counts: dict[str, int] = {}
    totals = {"rows": 0, "accepted": 0}
    for each in outputs.values():
        totals = {name: total + each[name] for name, total in totals.items()}
        counts = {level: counts.get(level, 0) + number for level, number in each["levels"].items()}
    return {**totals, "levels": counts}


def figures_of(
    params: Params, dataset: DatasetIndex, patterns: Library, found: Annotated, rendered: dict[str, Any]
) -> dict[str, Any]:
    """Return what is known of a run that is done."""
    facts = dataset.facts
    size = facts["pixel_size"]
    return {
        "dataset": facts["name"],
        **{name: facts[name] for name in ("width", "height", "n_spectra", "n_sampled", "peaks", "dropped", "quirks")},
        "pixel_size_um": size,
        "formulas": patterns.facts["formulas"],
        "databases": patterns.facts["databases"],
        "ions": {name: patterns.facts[name] for name in ("ions", "decoys", "impossible", "endless")},
        **found.counts,
        **rendered,
        **{name: getattr(params, name) for name in ("fdr", "ppm", "norm", "images", "rgb")},
        "parameters": as_settings(params),
        "versions": versions(),
        "notes": notes_of(dataset, patterns),
        "index": dataset.address,
        "patterns": patterns.address,
    }


def notes_of(dataset: DatasetIndex, patterns: Library) -> list[str]:
    """Return what is to be known of dataset and databases, in sentences."""
    dropped = dataset.facts["dropped"]
    counted_ = [
        (dropped["not_finite"], "peaks have an m/z or intensity that is no number, and were left out"),
        (dropped["not_positive"], "peaks have an m/z or intensity of 0 or below, and were left out"),
        (patterns.facts["endless"], "ions have more isotopologues than can be listed, and were not looked for"),
    ]
    quirks = [f"{quirk['sentence']}; {quirk['remedy']}." for quirk in dataset.facts["quirks"]]
    return [*quirks, *(f"{number:,} {what}." for number, what in counted_ if number)]


def molecules_of(opened: Run, params: Params, patterns: Library) -> bytes:
    """Return the molecules of the accepted formulas, found by reading the databases once more."""
    formulas = read_accepted(opened.storage, params.fdr).column("formula").unique().to_pylist()
    names = [each["name"] for each in patterns.facts["databases"]]
    return encode_molecules(zip(names, params.db or [str(SHIPPED)], strict=True), formulas)


def versions() -> dict[str, str]:
    """Return the releases that numbers may depend on."""
    return {"fanfold": __version__, **{name: version(name) for name in ("numba", "numpy", "pyarrow")}}


def terminal(figures: dict[str, Any]) -> str:
    """Return what a run has found, for people."""
    levels = [(f"Annotations at {float(level):.0%} FDR", f"{count:,}") for level, count in figures["levels"].items()]
    rows = [
        ("Dataset", f"{figures['dataset']}: {figures['width']:,} x {figures['height']:,} pixels, "
                    f"{figures['n_sampled']:,} with a spectrum, {figures['peaks']:,} peaks"),
        ("Looked for", f"{figures['ions']['ions']:,} ions of {counted(figures['formulas'], 'formula')}, "
                       f"{figures['ions']['decoys']:,} of them decoys"),
        *levels,
        *[("Note", note) for note in figures["notes"]],
    ]  # fmt: skip
    return facts_text(rows)


class _Drain(io.RawIOBase):
    """A file of which what was written can be taken away."""

    def __init__(self) -> None:
        self._written = 0
        self._waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._waiting.append(bytes(data))
        self._written += len(self._waiting[-1])
        return len(self._waiting[-1])

    def take(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        return taken


def _all_ions(address: str, rendered: Iterator[dict[str, Any]], n_peaks: int) -> Iterator[bytes]:
    """Yield the table of all ions, a few blocks in memory at a time."""
    schema, sink, waiting, rows = ions_schema(n_peaks), _Drain(), [], 0
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for each in rendered:
            waiting.append(pq.read_table(io.BytesIO(join.stored(address, each["table"]).read())).cast(schema))
            rows += waiting[-1].num_rows
            if rows >= ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting, rows = [], 0
                yield sink.take()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    yield sink.take()
