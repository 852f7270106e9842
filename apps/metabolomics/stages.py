"""What ``annotate`` does, in its order: molecules, peaks, scores, chaos where it decides, rates, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.run import Run
from apps._frame.stored import Stored, find_input, sha256
from apps._frame.tables import json_text
from apps.metabolomics import drawing, finishing, indexing, library, publishing
from apps.metabolomics.annotated import of_storage
from apps.metabolomics.cache import cache_address, entered, entry
from apps.metabolomics.demonstration import compared, demonstrated
from apps.metabolomics.imzml.pair import find_pair
from apps.metabolomics.indexing import DatasetIndex, Indexing
from apps.metabolomics.library import Library, Patterns, database_inputs
from apps.metabolomics.modifiers import chemistry
from apps.metabolomics.params import Params
from apps.metabolomics.pictures import Field
from apps.metabolomics.regions import read_regions
from apps.metabolomics.result import FIGURES, ION_IMAGES
from apps.metabolomics.scoring import Work, matching_of, recalibrated, score_all
from core import ConfigError, InputError, open_storage

STAGES = ("score", "chaos", "fdr", "calibrate", "render", "molecules", "draw")
RESULTS = (*publishing.RESULTS, FIGURES)


def run(session: Session, params: Params) -> None:
    """Command: annotate a dataset, or say what is there if that is done."""
    if params.plan_size:
        raise ConfigError(
            "--plan-size states what a dataset would have, for --dry-run alone; add that, or leave it out"
        )
    if not params.source:
        params = session.params = demonstrated(params, session.output)
    files = find_pair(params.source)
    databases = database_inputs(params)
    if params.polarity:
        chemistry(params)  # an adduct that is wrong is told before any work
    inputs = indexing.tags_of(files) | library.tags_of(databases)
    if params.mask:
        inputs[params.mask] = find_input(params.mask).tag
    with session.open_run(RESULTS, inputs=inputs, keeps=(ION_IMAGES,)) as opened:
        if not opened.finished:
            opened.claim(finishing.KEPT)
            found, draw = annotate(session, opened, params, databases)
            found["truth"] = compared(opened.storage, params)
            written = publishing.files(of_storage(opened.storage, found, params.fdr), draw)
            opened.publish({**written, FIGURES: json_text(found, indent=2).encode()})
        figures = opened.figures()
    session.show(figures, finishing.terminal)
    session.say(f"\nReport: {session.output}/report.html (beside it: tables, images, diagnostics)")
    session.show_bill()


def annotate(
    session: Session, opened: Run, params: Params, databases: dict[str, Stored]
) -> tuple[dict[str, Any], drawing.Draw]:
    """Do what is not done yet, and write tables and images; returns the figures, and what draws pictures of them."""
    own = [name for name in STAGES if name != "calibrate" or params.recalibrate]
    names = ["offsets", *library.STAGES, *indexing.STAGES[1:], *own]
    indexing.refuse_unreachable(session, opened.storage, "the output")
    # Whoever resumes the run elsewhere finds the index that it was begun with.
    cache = opened.remembered("cache", cache_address(params.cache, session.common.output))
    dataset, patterns, params = prepare(session, opened, cache, params, databases, names)
    work = Work(session.stages(opened, names), opened.address, params, dataset, patterns, chemistry(params))
    mask, bits = read_mask(params, dataset)
    sampled = dataset.facts["n_sampled"] if mask is None else int(np.count_nonzero(mask))
    found = score_all(work, matching_of(work, sampled, bits))
    if params.recalibrate:
        found = recalibrated(work, found)
    rendered, tags = finishing.render_all(work, opened, found)
    sources = library.sources_of(session, open_storage(patterns.address), params, databases)
    finishing.write_context(work, opened, mask, sources)
    library.refuse_changed(params, databases)
    return finishing.figures_of(work, found, rendered), drawing.by_tasks(work.stages, opened.address, tags)


def read_mask(params: Params, dataset: DatasetIndex) -> tuple[NDArray[np.bool_] | None, Stored | None]:
    """Return which of the pixels that have a spectrum count, and the mask of all pixels as tasks take it, in bits.

    Raises
    ------
    InputError
        The mask is no image of the dataset's size, or leaves no pixel.
    """
    if not params.mask:
        return None, None
    width, height = dataset.facts["width"], dataset.facts["height"]
    pixels, _ = indexing.read_tic(dataset.address)
    mask = read_regions(params.mask, Field(width, height, pixels)) > 0
    whole = np.zeros(width * height, bool)
    whole[pixels[mask]] = True
    data = np.packbits(whole).tobytes()
    return mask, Stored("", "mask", len(data), sha256(data), data)


def prepare(
    session: Session, opened: Run, cache: str, params: Params, databases: dict[str, Stored], names: Sequence[str]
) -> tuple[DatasetIndex, Library, Params]:
    """Return the index and the library of a run, made where they are not there, and its parameters with a polarity.

    What is quick and may fail comes first: the dataset's header, then the databases, and last the peaks.

    Raises
    ------
    InputError
        The dataset is of the other polarity, or of none and none was given.
    """
    files, reading = find_pair(params.source), params.reading
    index = entry(cache, indexing.stem_of(files), indexing.content(reading), indexing.tags_of(files))

    def indexed() -> Indexing:
        return Indexing(session, indexing.index_run(session, index, files, reading), files, reading, names)

    opened.note = f"filling the cache at {cache}"
    # Other runs may use the index while this one is busy with its library.
    with entered(indexed(), index) as begun:
        params = replace(params, polarity=polarity_of(params, begun.facts()["polarity"]))
    molecules = params.molecules
    place = entry(cache, "ions", library.content(molecules), library.tags_of(databases))
    kept = library.library_run(session, place, molecules, databases)
    with entered(Patterns(session, kept, molecules, databases, names), place) as making:
        opened.keep_alive(working=False)  # a database of millions of rows takes longer than a lease
        making.read()
        library.refuse_changed(molecules, databases)
        # From here on it is work that may fail, and no longer what is asked for: what is done is to be found again.
        opened.keep_alive()
        patterns = making.build()
    with entered(indexed(), index) as begun:
        return begun.build(), patterns, params


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
