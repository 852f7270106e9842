from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from apps.metabolomics.science.kernels.compiling import bring_shipped, compiled
from tests.apps.metabolomics.planted import write_database, write_dataset

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


def kernels(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in sorted(cache.rglob("*.nb?"))}


def test_a_build_compiles_all_that_an_annotation_needs(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    write_database(tmp_path / "molecules.tsv")
    run = [sys.executable, "-m", "apps.metabolomics"]
    subprocess.run([run[0], "-m", "apps.metabolomics.precompile"], check=True, env=environment, cwd=tmp_path)
    before = kernels(tmp_path / "cache")
    for mz in ("f4", "f8"):
        write_dataset(str(tmp_path / f"{mz}.imzML"), mz=mz)
        command = [*run, "annotate", f"{mz}.imzML", "--db", "molecules.tsv", "--output", mz, "--quiet"]

        subprocess.run(command, check=True, env=environment, cwd=tmp_path)

    assert len(before) > 40
    assert kernels(tmp_path / "cache") == before


def test_kernels_that_an_image_brings_are_put_where_they_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "shipped" / "kernels_1").mkdir(parents=True)
    (tmp_path / "shipped" / "kernels_1" / "a.nbi").write_bytes(b"index")

    for _ in range(2):
        bring_shipped(tmp_path / "shipped", str(tmp_path / "new" / "cache"))

    assert kernels(tmp_path / "new" / "cache") == {"kernels_1/a.nbi": b"index"}
    assert [path.name for path in (tmp_path / "new" / "cache").iterdir()] == ["kernels_1"]


def test_kernels_that_cannot_be_put_anywhere_are_compiled(tmp_path: Path) -> None:
    (tmp_path / "shipped" / "kernels_1").mkdir(parents=True)
    (tmp_path / "file").touch()

    bring_shipped(tmp_path / "shipped", str(tmp_path / "file" / "cache"))
    bring_shipped(tmp_path / "absent", str(tmp_path / "cache"))

    assert not (tmp_path / "cache").exists()
