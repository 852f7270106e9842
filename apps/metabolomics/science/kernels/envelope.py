"""Fine structure of ions, and the centroids of its envelope, as compiled loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from apps.metabolomics.science.kernels.compiling import compiled

THRESHOLD = 1e-4
"""Isotopologues and centroids below this share of the strongest are left out."""
FWHM_IN_SIGMA = 2.3548200450309493
"""Full width at half maximum of a Gaussian in standard deviations: 2 sqrt(2 ln 2)."""
POINTS_PER_FWHM = 25
REACH = 6.0
"""Standard deviations between an isotopologue and the point where the grid takes the next one's width."""
NEGLIGIBLE = 9.0
"""Standard deviations beyond which a Gaussian counts as nothing (exp(-40))."""
SHORT = 3
"""Points of a piece of the grid up to which a Gaussian's recurrence costs more than the Gaussian at each of them."""
HALF_WINDOW = 7
"""Grid points on each side of a maximum that its centroid is the mean of: 15 in all."""
MARGIN = HALF_WINDOW + 3
"""Grid points evaluated beyond the outermost isotopologues of a cluster; maxima lie between these."""
FULL = -1
"""Result of a loop whose buffers are too small."""


@compiled
def _sort(keys: Any, values: Any, size: int) -> None:
    """Sort pairs by key, in place: D. L. Shell's sort, with the gaps of M. Ciura (2001).

    numpy's sort would take longer to compile than all else here.
    """
    for gap in (1750, 701, 301, 132, 57, 23, 10, 4, 1):
        for i in range(gap, size):
            key, value = keys[i], values[i]
            j = i - gap
            while j >= 0 and keys[j] > key:
                keys[j + gap], values[j + gap] = keys[j], values[j]
                j -= gap
            keys[j + gap], values[j + gap] = key, value


@compiled
def isotopologues(atoms: int, masses: Any, logs: Any, out_mass: Any, out_share: Any) -> int:
    """List the isotopologues of one element's atoms that have at least `THRESHOLD` of the commonest one's share.

    Parameters
    ----------
    atoms : int
        At least 1.
    masses, logs : ndarray of float64, shape (k,)
        Isotopes: mass, log of abundance.
    out_mass, out_share : ndarray of float64, shape (m,)
        Filled, by falling share; the first share is 1.

    Returns
    -------
    int
        How many, or `FULL`.
    """
    kinds = masses.size
    counts = np.zeros(kinds, dtype=np.int64)
    mode = _mode(atoms, logs, counts)
    floor = mode + math.log(THRESHOLD)
    # log of the abundance of all isotopes from i on: with it, the share of everything below a branch.
    rest = np.empty(kinds)
    below = 0.0
    for i in range(kinds - 1, -1, -1):
        below += math.exp(logs[i])
        rest[i] = math.log(below)
    found = 0
    left = np.zeros(kinds + 1, dtype=np.int64)
    partial = np.zeros(kinds + 1)
    left[0] = atoms
    partial[0] = math.lgamma(atoms + 1.0)
    i = 0
    counts[:] = -1
    while i >= 0:
        if i == kinds - 1:
            log_share = partial[i] - math.lgamma(left[i] + 1.0) + left[i] * logs[i]
            if log_share >= floor:
                if found == out_mass.size:
                    return FULL
                mass = left[i] * masses[i]
                for j in range(i):
                    mass += counts[j] * masses[j]
                out_mass[found] = mass
                out_share[found] = -math.exp(log_share - mode)
                found += 1
            i -= 1
            continue
        counts[i] += 1
        if counts[i] > left[i]:
            counts[i] = -1
            i -= 1
            continue
        left[i + 1] = left[i] - counts[i]
        partial[i + 1] = partial[i] - math.lgamma(counts[i] + 1.0) + counts[i] * logs[i]
        if partial[i + 1] - math.lgamma(left[i + 1] + 1.0) + left[i + 1] * rest[i + 1] >= floor:
            i += 1
    _sort(out_share, out_mass, found)
    for i in range(found):
        out_share[i] = -out_share[i]
    return found


@compiled
def _mode(atoms: int, logs: Any, counts: Any) -> float:
    """Climb to the commonest isotopologue by exchanging one atom at a time; return the log of its share."""
    kinds = logs.size
    counts[np.argmax(logs)] = atoms
    climbing = True
    while climbing:
        climbing = False
        for i in range(kinds):
            for j in range(kinds):
                if i != j and counts[i] > 0:
                    gain = logs[j] - logs[i] + math.log(counts[i]) - math.log(counts[j] + 1.0)
                    if gain > 1e-12:
                        counts[i] -= 1
                        counts[j] += 1
                        climbing = True
    log_share = math.lgamma(atoms + 1.0)
    for i in range(kinds):
        log_share += counts[i] * logs[i] - math.lgamma(counts[i] + 1.0)
    return log_share


@compiled
def fine_structure(rows: Any, starts: Any, masses: Any, shares: Any, mass: Any, share: Any) -> int:
    """Combine the isotopologues of an ion's elements.

    Parameters
    ----------
    rows : ndarray of int64, shape (e,)
        Which list of `starts` each element has.
    starts : ndarray of int64, shape (lists + 1,)
    masses, shares : ndarray of float64
        All lists, each by falling share from 1.
    mass, share : ndarray of float64, shape (m,)
        Filled with the ion's isotopologues of at least `THRESHOLD`, by rising mass.

    Returns
    -------
    int
        How many, or `FULL`.
    """
    mass[0], share[0] = 0.0, 1.0
    size = 1
    for row in rows:
        first, stop = starts[row], starts[row + 1]
        # In place: what an isotopologue becomes with the element's commonest one stays where it is, others go behind.
        known = size
        for i in range(known):
            base_mass, base_share = mass[i], share[i]
            mass[i] = base_mass + masses[first]
            for j in range(first + 1, stop):
                product = base_share * shares[j]
                if product < THRESHOLD:
                    break
                if size == mass.size:
                    return FULL
                mass[size] = base_mass + masses[j]
                share[size] = product
                size += 1
    _sort(mass, share, size)
    return size


@compiled
def _sigma(mz: float, factor: float, power: float) -> float:
    if power == 1.5:
        return factor * mz * math.sqrt(mz)
    if power == 1.0:
        return factor * mz
    return factor * mz * mz


@compiled
def _lay_grid(mz: Any, size: int, factor: float, power: float, start: Any, width: Any) -> None:
    """Lay the grid: from point ``start[i]`` on, its width is that of isotopologue i, up to ``start[i + 1]``.

    The reference walks from 6 sigma below the first isotopologue in steps of FWHM/25; it takes the next
    isotopologue's width at the first point that lies more than 6 sigma above the present one and at most 6 below the
    next, one isotopologue a point at most.
    """
    sigma = _sigma(mz[0], factor, power)
    start[0], width[0] = mz[0] - REACH * sigma, sigma
    for i in range(1, size):
        step = sigma * FWHM_IN_SIGMA / POINTS_PER_FWHM
        beyond = max(mz[i - 1] + REACH * sigma, mz[i] - REACH * sigma)
        steps = max(1.0, math.ceil((beyond - start[i - 1]) / step))
        start[i] = start[i - 1] + steps * step
        sigma = _sigma(mz[i], factor, power)
        width[i] = sigma


@compiled
def _sample(
    mz: Any, share: Any, first: int, stop: int, size: int, start: Any, width: Any, piece: int, grid: Any, value: Any
) -> int:
    """Evaluate the envelope of isotopologues `first` to `stop` on its points of the grid; returns how many, or `FULL`.

    `piece` is a piece of the grid that begins at or below the first point.
    """
    ratio = FWHM_IN_SIGMA / POINTS_PER_FWHM
    low = mz[first] - MARGIN * ratio * width[first]
    high = mz[stop - 1] + MARGIN * ratio * width[stop - 1]
    damping = math.exp(-ratio * ratio)
    points, nearest = 0, first
    while piece < size and start[piece] <= high:
        sigma = width[piece]
        step = ratio * sigma
        end = start[piece + 1] if piece + 1 < size else math.inf
        j = max(0.0, math.ceil((low - start[piece]) / step))
        origin = start[piece] + j * step
        here = points
        # Half a step, since the next piece begins where this one's next point would be.
        while origin + (points - here) * step <= min(high, end - 0.5 * step):
            if points == grid.size:
                return FULL
            grid[points] = origin + (points - here) * step
            value[points] = 0.0
            points += 1
        while nearest < stop and mz[nearest] < origin - NEGLIGIBLE * sigma:
            nearest += 1
        beyond = origin + (points - here) * step + NEGLIGIBLE * sigma
        for k in range(nearest, stop):
            if mz[k] > beyond:
                break
            if points - here <= SHORT:
                for point in range(here, points):
                    distance = (grid[point] - mz[k]) / sigma
                    value[point] += share[k] * math.exp(-0.5 * distance * distance)
                continue
            offset = (mz[k] - origin) / sigma
            begin = max(0, int(math.ceil((offset - NEGLIGIBLE) / ratio)))
            finish = min(points - here, int(math.floor((offset + NEGLIGIBLE) / ratio)) + 1)
            if begin >= finish:
                continue
            # Gaussians on an even grid by recurrence: two multiplications a point.
            distance = begin * ratio - offset
            height = share[k] * math.exp(-0.5 * distance * distance)
            growth = math.exp(-ratio * (distance + 0.5 * ratio))
            for point in range(here + begin, here + finish):
                value[point] += height
                height *= growth
                growth *= damping
        piece += 1
    return points


@compiled
def _centroid(grid: Any, value: Any, points: int, top: int) -> float:
    """Average the grid around a maximum, weighted by height, out to 7 points or where the envelope rises again."""
    left = top
    while left > max(0, top - HALF_WINDOW) and value[left - 1] < value[left]:
        left -= 1
    total = weighted = 0.0
    last = min(points - 1, top + HALF_WINDOW)
    for i in range(left, last + 1):
        if i > top and i < last and value[i + 1] > value[i]:
            break
        # From the maximum: sums of large m/z would lose digits.
        weighted += (grid[i] - grid[top]) * value[i]
        total += value[i]
    return float(grid[top] + weighted / total)


@compiled
def _keep(mz: float, height: float, found: int, best_mz: Any, best_height: Any) -> int:
    """Insert a centroid among the strongest, by falling height; returns how many there are."""
    slots = len(best_mz)
    if found == slots and height <= best_height[slots - 1]:
        return found
    i = min(found, slots - 1)
    while i > 0 and best_height[i - 1] < height:
        best_mz[i], best_height[i] = best_mz[i - 1], best_height[i - 1]
        i -= 1
    best_mz[i], best_height[i] = mz, height
    return min(found + 1, slots)


@compiled
def _centroids(
    mz: Any,
    share: Any,
    size: int,
    factor: float,
    power: float,
    work: Any,
    sums: Any,
    pieces: Any,
    grid: Any,
    value: Any,
    best_mz: Any,
    best_height: Any,
) -> int:
    """Find the strongest centroids of one fine structure; returns how many, by falling height, or `FULL`."""
    if size == 1:
        best_mz[0], best_height[0] = mz[0], 1.0
        return 1
    start, width = work[0], work[1]
    _lay_grid(mz, size, factor, power, start, width)
    clusters = 0
    first = 0
    for i in range(1, size + 1):
        if i == size or mz[i] - mz[i - 1] > 2.0 * NEGLIGIBLE * width[i]:
            pieces[clusters, 0], pieces[clusters, 1] = first, i
            sums[clusters] = share[first:i].sum()
            clusters += 1
            first = i
    found = 0
    for _ in range(clusters):
        # No maximum is higher than its cluster's sum, so weak clusters need not be looked at.
        strongest = np.argmax(sums[:clusters])
        if found == best_mz.size and sums[strongest] < best_height[found - 1]:
            break
        sums[strongest] = -1.0
        begin, stop = pieces[strongest, 0], pieces[strongest, 1]
        low = mz[begin] - MARGIN * FWHM_IN_SIGMA / POINTS_PER_FWHM * width[begin]
        piece = begin
        while piece > 0 and start[piece] > low:
            piece -= 1
        points = _sample(mz, share, begin, stop, size, start, width, piece, grid, value)
        if points == FULL:
            return FULL
        for i in range(1, points - 1):
            if value[i - 1] < value[i] and value[i] >= value[i + 1] and value[i] >= THRESHOLD:
                found = _keep(_centroid(grid, value, points, i), value[i], found, best_mz, best_height)
    return found


@compiled
def pattern_rows(
    counts: Any,
    lists: Any,
    starts: Any,
    masses: Any,
    shares: Any,
    charge: int,
    electron: float,
    factor: float,
    power: float,
    room: int,
    out_mz: Any,
    out_intensity: Any,
    out_count: Any,
) -> None:
    """Compute the patterns of many ions.

    Parameters
    ----------
    counts : ndarray of int, shape (n, e)
        Atoms of each element.
    lists : ndarray of int64, shape (e, most atoms + 1)
        The list of isotopologues of so many atoms of an element, or `FULL`.
    starts, masses, shares : ndarray
        The lists, as `fine_structure` takes them.
    charge : int
    electron : float
        Its mass.
    factor, power : float
        The instrument's sigma at m/z x is ``factor * x**power``; power is 1, 1.5 or 2.
    room : int
        Isotopologues, and points of the grid, that buffers hold.
    out_mz, out_intensity : ndarray of float64, shape (n, k)
    out_count : ndarray of int8, shape (n,)
        `FULL` where the buffers were too small.
    """
    ions, elements = counts.shape
    peaks = out_mz.shape[1]
    mz, share, sums, grid, value = np.empty(room), np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    work = np.empty((2, room))
    pieces = np.empty((room, 2), dtype=np.int64)
    rows = np.empty(elements, dtype=np.int64)
    best_mz, best_height = np.empty(peaks), np.empty(peaks)
    for ion in range(ions):
        used, listed = 0, True
        for element in range(elements):
            if counts[ion, element] > 0:
                rows[used] = lists[element, counts[ion, element]]
                listed = listed and rows[used] != FULL
                used += 1
        out_count[ion] = FULL
        if not listed:
            continue
        size = fine_structure(rows[:used], starts, masses, shares, mz, share)
        if size == FULL:
            continue
        for i in range(size):
            mz[i] = (mz[i] - charge * electron) / abs(charge)
        found = _centroids(mz, share, size, factor, power, work, sums, pieces, grid, value, best_mz, best_height)
        if found == FULL:
            continue
        while best_height[found - 1] < THRESHOLD * best_height[0]:
            found -= 1
        top = best_height[0]
        _sort(best_mz, best_height, found)
        out_count[ion] = found
        for i in range(found):
            out_mz[ion, i] = best_mz[i]
            out_intensity[ion, i] = 100.0 * best_height[i] / top
