from __future__ import annotations

import subprocess
import sys

from apps.metabolomics.science.kernels.compiling import compiled

SCIENCE = (
    "adducts", "centroids", "chaos", "colocalisation", "decoys", "elements", "fdr", "formulas", "images", "ions",
    "recalibration", "region_statistics", "scores", "segmentation", "sorting",
)  # fmt: skip


def test_the_science_is_imported_without_its_compiler() -> None:
    imports = "; ".join(f"import apps.metabolomics.science.{name}" for name in SCIENCE)
    check = f"import sys; {imports}; print([name for name in ('numba', 'scipy', 'core') if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_a_function_that_cannot_be_kept_on_disk_is_compiled_all_the_same() -> None:
    namespace: dict[str, object] = {}
    exec("def twice(x):\n    return 2 * x", namespace)

    twice = compiled(namespace["twice"])  # type: ignore[arg-type]

    assert twice(21) == 42
    assert twice.signatures
