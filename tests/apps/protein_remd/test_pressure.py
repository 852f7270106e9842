"""Campaigns at constant pressure: what is swapped there is U + pV, and the volume goes wherever the state goes."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from apps.protein_remd.params import MD, Params
from apps.protein_remd.science import exchange, harmonic
from apps.protein_remd.science.units import BAR_NM3, BOLTZMANN, beta
from apps.protein_remd.system import System
from core import ConfigError
from tests.apps.protein_remd.conftest import HARMONIC, history

PRESSED = (*HARMONIC, "--pressure", "2.5")


def test_the_enthalpy_is_the_potential_energy_and_pressure_times_volume_in_kj_per_mol():
    # 1 bar = 1e5 J/m^3; 1 nm^3 = 1e-27 m^3; times the Avogadro constant, in kJ.
    scalar = -3.0 + 2.0e5 * 5.0e-27 * 6.02214076e23 / 1000

    assert exchange.enthalpy(-3.0, 2.0, 5.0) == pytest.approx(scalar, rel=1e-14)
    assert exchange.enthalpy(-3.0, None, None) == -3.0
    assert exchange.enthalpy(-3.0, None, 5.0) == -3.0


@pytest.mark.parametrize("volume", [None, math.nan, math.inf])
def test_a_volume_that_is_none_is_never_exchanged_at_a_pressure(volume):
    with pytest.raises(ValueError, match="cannot be exchanged at 2 bar: it must be finite"):
        exchange.enthalpy(-3.0, 2.0, volume)


def test_an_ideal_gas_has_the_volume_of_its_law():
    rng = np.random.default_rng(3)

    volumes = [harmonic.piston(20, 350.0, 2.5, rng) for _ in range(20_000)]

    mean = 21 * BOLTZMANN * 350.0 / (2.5 * BAR_NM3)
    assert np.mean(volumes) == pytest.approx(mean, abs=4 * np.std(volumes) / math.sqrt(len(volumes)))


def test_swaps_reduced_potentials_and_table_hold_pressure_times_volume(remd, tmp_path):
    remd("run", *PRESSED, "--rounds", "20", "--output", "a")

    text = (tmp_path / "a" / "exchange.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 20
    for row in rows:
        t_low, t_high, u_low, u_high, v_low, v_high, log_p = (
            float(row[name]) for name in ("T_lower", "T_upper", "U_lower", "U_upper", "V_lower", "V_upper", "log_p")
        )
        difference = (u_low + 2.5 * v_low * BAR_NM3) - (u_high + 2.5 * v_high * BAR_NM3)
        assert log_p == pytest.approx((beta(t_low) - beta(t_high)) * difference, rel=1e-9)
    with np.load(tmp_path / "a" / "u_kn.npz") as found:
        reduced = found["u_kn"]
    assert reduced[0] / reduced[2] == pytest.approx(410 / 300, rel=1e-12)
    # Sampled at 300 K, in units of k_B T there: half of 12 oscillators, and 13 of the gas.
    assert reduced[0, :20].mean() == pytest.approx(19, abs=4 * math.sqrt(19 / 20))


def test_without_a_pressure_the_table_has_its_usual_columns(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "2", "--output", "a")

    header = (tmp_path / "a" / "exchange.csv").read_text().splitlines()[0]
    assert header.endswith(",log_p,draw,accepted")


def test_a_campaign_at_constant_pressure_goes_on_bit_for_bit_and_is_verified(remd, figures, tmp_path):
    remd("run", *PRESSED, "--rounds", "6", "--frames", "250", "--output", "whole")
    remd("run", *PRESSED, "--rounds", "2", "--frames", "250", "--output", "parts")

    assert remd("resume", "parts", "--rounds", "6") == 0

    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert figures("verify", "parts", "--segments", "10")["problems"] == []


def test_mbar_gives_the_exact_free_energies_at_constant_pressure(remd, figures):
    pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")
    remd("run", *PRESSED, "--rounds", "150", "--output", "a")

    found = figures("analyze", "a")

    for row in found["states"]:
        t = row["temperature"]
        assert abs(row["potential"] - 6 * BOLTZMANN * t) < 4 * row["potential_error"]
        # Z is T^6 of the oscillators and T^13 of the gas.
        assert abs(row["free_energy"] + 19 * math.log(t / 300.0)) <= 4 * row["free_energy_error"]


def test_validate_sees_that_pressure_times_volume_is_missing(remd, monkeypatch, capsys):
    monkeypatch.setattr(exchange, "enthalpy", lambda potential, pressure, volume: potential)

    status = remd("validate", "--rounds", "300")

    said = capsys.readouterr()
    assert status == 1
    assert "acceptance of swaps at 1 bar" in said.err


def test_verify_sees_that_pressure_times_volume_is_missing(remd, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(exchange, "enthalpy", lambda potential, pressure, volume: potential)
    remd("run", *PRESSED, "--rounds", "6", "--output", "a")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    assert remd("verify", "a") == 1
    assert "its exchange is not the one that its energies and the seed give" in capsys.readouterr().err


def test_the_mean_volume_of_each_temperature_is_shown(figures, tmp_path):
    found = figures("run", *PRESSED, "--rounds", "40", "--output", "a")

    for state in found["states"]:
        exact = 13 * BOLTZMANN * state["temperature"] / (2.5 * BAR_NM3)
        assert abs(state["volume"] - exact) < 4 * state["volume_error"]
    assert "V (nm³)" in (tmp_path / "a" / "report.html").read_text()


def test_segments_in_which_the_barostat_never_acts_are_refused():
    with pytest.raises(ConfigError, match="--steps 24: the barostat tries once in 25 steps of a segment"):
        Params(system=System(solvent="tip3p"), md=MD(pressure=1.0, steps=24))
    Params(system=System(solvent="tip3p"), md=MD(pressure=1.0, steps=25))


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (System(engine="protomol"), "engine protomol runs in vacuum"),
        (System(engine="harmonic", dynamics="langevin"), "with --dynamics boltzmann alone"),
        (System(), "with --solvent obc2 has no box"),
    ],
)
def test_a_pressure_where_nothing_has_a_volume_is_refused(system, said):
    with pytest.raises(ConfigError, match=said):
        Params(system=system, md=MD(pressure=1.0))
