"""Water at constant pressure, for long enough to tell: its density, its fluctuations and its swaps."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from apps.protein_remd.history import History, pair_figures, read_history
from apps.protein_remd.science.statistics import mean_and_error, statistical_inefficiency
from apps.protein_remd.science.units import BAR_NM3, BOLTZMANN
from core import open_storage
from tests.apps.protein_remd.conftest import started_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

LADDER = (300.0, 306.0, 312.0)
"""K."""
EDGE, CUTOFF = 1.9, 0.8
"""nm."""
ROUNDS, FIRST = 120, 20
"""Of 2 ps; what is before the first has the density of the box's construction still in it."""
DENSITIES = ((300.0, 0.9839), (325.0, 0.9606))
"""g/cm^3 of liquid TIP3P with Ewald sums and long-range corrections. Source: NIST, SAT-TMMC: Liquid-Vapor Coexistence
Properties - TIP3P Water (LRC); at saturation, which 1 bar changes by less than 1e-4."""
COMPRESSIBILITY = 57.4e-6
"""1/bar at 298 K. Source: Vega and Abascal, Phys. Chem. Chem. Phys. 13, 19663 (2011), of TIP3P."""
CUT = 0.005
"""What a shorter cutoff than that of the source may change of a density."""
WATER = 18.01528 * 1.66053906892e-3
"""g/cm^3 of one molecule in a nm^3. Sources: IUPAC 2021, atomic weights; CODATA 2022, atomic mass constant."""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, int]:
    """A campaign of a box of water at 1 bar, and how many molecules it has."""
    openmm = pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")
    from openmm import app, unit

    place = tmp_path_factory.mktemp("water")
    modeller = app.Modeller(app.Topology(), [])
    modeller.addSolvent(app.ForceField("amber14/tip3p.xml"), boxSize=openmm.Vec3(EDGE, EDGE, EDGE) * unit.nanometer)
    with open(place / "water.pdb", "w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    driver = started_in(
        place, "run", "--pdb", "water.pdb", "--solvent", "explicit", "--cutoff", f"{CUTOFF}", "--pressure", "1",
        "--temperatures", ",".join(map(str, LADDER)), "--steps", "1000", "--rounds", str(ROUNDS), "--output", "run",
    )  # fmt: skip
    said = driver.communicate()
    assert driver.returncode == 0, said
    return place / "run", modeller.topology.getNumResidues()


@pytest.fixture(scope="module")
def history(run) -> History:
    return read_history(open_storage(str(run[0])))


@pytest.mark.parametrize("state", range(len(LADDER)))
def test_the_density_is_that_of_the_model(run, history, state):
    molecules, temperature = run[1], LADDER[state]

    mean, error = mean_and_error(WATER * molecules / history.volume[FIRST:, state])

    assert error < 0.01
    exact = np.interp(temperature, *zip(*DENSITIES, strict=True))
    assert mean == pytest.approx(exact, abs=4 * error + CUT * exact)


def test_the_volume_fluctuates_as_the_compressibility_says(history):
    found, worth = [], 0.0
    for state, temperature in enumerate(LADDER):
        volumes = history.volume[FIRST:, state]
        found.append(volumes.var() / (BOLTZMANN * temperature * volumes.mean()) * BAR_NM3)
        worth += len(volumes) / statistical_inefficiency((volumes - volumes.mean()) ** 2)

    error = COMPRESSIBILITY * math.sqrt(2.0 / worth)
    assert error < 0.25 * COMPRESSIBILITY
    assert np.mean(found) == pytest.approx(COMPRESSIBILITY, abs=4 * error)


def test_the_ensembles_of_neighbours_differ_as_their_temperatures_say_and_swap_as_predicted(history):
    for each in pair_figures(history, FIRST):
        assert each.slope == pytest.approx(1.0, abs=4 * each.slope_error)
        assert each.slope_error < 0.5
        chance = math.sqrt(each.predicted * (1.0 - each.predicted) / each.attempted)
        assert each.acceptance == pytest.approx(each.predicted, abs=4 * chance + 0.05)


def test_every_swap_has_compared_the_volumes_too(run):
    with open(run[0] / "exchange.csv", newline="") as file:
        rows = [
            {name: float(value) for name, value in row.items() if name != "accepted"} for row in csv.DictReader(file)
        ]

    assert len(rows) == ROUNDS
    for row in rows:
        low, high = (row[f"U_{end}"] + BAR_NM3 * row[f"V_{end}"] for end in ("lower", "upper"))
        weights = 1 / (BOLTZMANN * row["T_lower"]) - 1 / (BOLTZMANN * row["T_upper"])
        assert row["log_p"] == pytest.approx(weights * (low - high), rel=1e-9, abs=1e-12)
