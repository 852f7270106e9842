"""The last pass of the sort of peaks, as a compiled loop."""

from __future__ import annotations

from typing import Any

from apps.metabolomics.science.kernels.compiling import compiled


@compiled
def settle(order: Any, mz: Any) -> None:
    """Sort `order`, which is nearly sorted, by (m/z, index) in place, by insertion."""
    for i in range(1, order.size):
        index = order[i]
        value = mz[index]
        j = i - 1
        while j >= 0 and (mz[order[j]] > value or (mz[order[j]] == value and order[j] > index)):
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = index
