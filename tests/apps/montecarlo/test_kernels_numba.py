from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from apps.montecarlo.science import kernels_numba
from apps.montecarlo.science.models import GBM
from apps.montecarlo.science.simulation import observe_blocks, planned, simulate_blocks
from apps.montecarlo.science.spec import NUMBA_STEPS, SimulationSpec, uses_numba

SPEC = planned(
    SimulationSpec(GBM(-2e-4, 0.0121), 159.44, 300, 1000, 5, (1, 7, 150, 300), levels=(120.0, 200.0), engine="numba")
)


def test_numba_paths_have_the_same_bits_as_numpy_paths() -> None:
    fast = observe_blocks(SPEC, range(0, 16))

    plain = observe_blocks(replace(SPEC, engine="numpy"), range(0, 16))

    for name in ("at", "drawdown", "high", "low"):
        assert np.array_equal(getattr(fast, name), getattr(plain, name)), name


def test_the_engine_does_not_change_the_digest() -> None:
    numpy_spec = replace(SPEC, engine="numpy")

    assert simulate_blocks(SPEC, 0, 16).digest() == simulate_blocks(numpy_spec, 0, 16).digest()


def test_the_kernel_works_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import numba

    compile_function = numba.njit

    def refusing(function: object, **options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_function(function, **options)

    monkeypatch.setattr(numba, "njit", refusing)

    doubled = kernels_numba.compiled(lambda x: 2 * x)

    assert doubled(4) == 8


def test_loading_the_kernel_loads_nothing_that_it_does_not_use_and_keeps_nothing_from_others() -> None:
    code = (
        "import sys\n"
        "from apps.montecarlo.science.kernels_numba import gbm_kernel\n"
        "gbm_kernel()\n"
        "print(sorted({'scipy', 'coverage'} & set(sys.modules)))\n"
        "import numba, numpy as np\n"
        "print(numba.njit(lambda a: np.linalg.inv(a @ a) @ np.cov(a))(2 * np.eye(2)).tolist())\n"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.splitlines() == ["[]", "[[0.5, -0.5], [-0.5, 0.5]]"]


def test_only_jobs_that_repay_loading_numba_use_it() -> None:
    large = replace(SPEC, engine="auto", forecasts=-(-NUMBA_STEPS // 300))

    assert uses_numba(large)
    assert not uses_numba(replace(SPEC, engine="auto"))
    assert not uses_numba(replace(large, antithetic=True, forecasts=large.forecasts // 2 * 2))
