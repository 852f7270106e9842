"""ProtoMol, for which a script stands that reads and writes its files, and fails in all the ways that it does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from apps.protein_remd.engines import Exploded, Schedule, protomol
from apps.protein_remd.params import MD
from apps.protein_remd.science import protomol_files as files
from apps.protein_remd.system import System
from core import ConfigError, FanfoldError, InputError
from tests.apps.protein_remd.conftest import history

PROGRAM = """#!{python}
import os, sys
import numpy as np
mode = {mode!r}
conf = dict(line.split(None, 1) for line in open(sys.argv[1]) if len(line.split()) > 1 and line[0] != " ")
if mode == "ignored":
    sys.exit(0)
if mode == "fails":
    sys.exit("Error: could not parse the PAR file")
if mode == "nan":
    sys.exit("Error: encountered NaN in the forces")
if mode == "killed":
    os.kill(os.getpid(), 9)
def read(name):
    lines = open(name).read().splitlines()
    return [line.split()[0] for line in lines[2:]], np.array([line.split()[1:] for line in lines[2:]], dtype=float)
names, x = read(conf["posfile"].strip())
_, v = read(conf["velfile"].strip())
rng = np.random.default_rng(int(conf["seed"]))
steps, every = int(conf["numsteps"]), int(conf["allEnergiesFileOutputFreq"])
shown = float.hex if mode == "hex" else repr
rows, track = [], []
for step in range(0, steps + 1, every):
    x = x + 1e-3 * v + 1e-3 * rng.standard_normal(x.shape)
    energy = float(0.5 * (x * x).sum())
    rows.append([step * 1.0, energy, float(0.01 * (v * v).sum())])
    track.append(x)
if "DCDFile" in conf:
    def record(data):
        size = np.array(len(data), order + "i4").tobytes()
        return size + data + size
    order = ">" if mode == "big endian" else "<"
    between = int(conf["DCDFileOutputFreq"])
    frames = [place for at, place in enumerate(track) if at * every % between == 0]
    if mode == "fewer frames":
        frames.pop()
    if mode == "other end":
        frames[-1] = frames[-1] + 1
    header = record(b"CORD" + bytes(80)) + record(bytes(164)) + record(np.array(len(names), order + "i4").tobytes())
    columns = [frame[:, k].astype(order + "f4") for frame in frames for k in (0, 1, 2)]
    content = header + b"".join(record(column.tobytes()) for column in columns)
    with open(conf["DCDFile"].strip(), "wb") as file:
        file.write(content[:-5] if mode == "broken frames" else content)
if mode == "short":
    rows.pop()
if mode == "not finite":
    x[0, 0] = np.nan
with open(conf["allEnergiesFile"].strip(), "w") as file:
    for row in rows:
        print(*map(shown, row), file=file)
with open(conf["allEnergiesFile"].strip() + ".header", "w") as file:
    print("# Time(fs) E_potential E_kinetic", file=file)
def write(name, values):
    lines = [f"{{n}} {{a!r}} {{b!r}} {{c!r}}" for n, (a, b, c) in zip(names, values.tolist())]
    with open(name.strip(), "w") as file:
        print(len(lines), "comment", *lines, sep="\\n", file=file)
if mode != "no velocities":
    write(conf["finXYZVelFile"], v)
write(conf["finXYZPosFile"], x[1:] if mode == "fewer" else x)
"""
PSF = """PSF

       1 !NTITLE
 REMARKS three atoms

       3 !NATOM
       1 WW   1    HIS  N    NH1   -0.470000       14.0070           0
       2 WW   1    HIS  HN   H      0.310000        1.0080           0
       3 WW   1    HIS  CA   CT1    0.070000       12.0110           0

       2 !NBOND: bonds
       1       2       1       3
"""
PDB = "".join(
    f"ATOM  {n:5d}  {name:<3} HIS P   6    {x:8.3f}{0.0:8.3f}{1.0:8.3f}\n"
    for n, (name, x) in enumerate([("N", 0.0), ("HN", 1.0), ("CA", -1.5)], 1)
)


@pytest.fixture
def molecule(tmp_path: Path):
    """Return a function that makes files and a program of a kind, and returns the settings of both."""
    for name, content in (("a.psf", PSF), ("a.pdb", PDB), ("a.par", "BONDS\n")):
        (tmp_path / name).write_text(content)

    def make(mode: str = "decimal") -> System:
        program = tmp_path / f"ProtoMol-{mode.replace(' ', '-')}"
        program.write_text(PROGRAM.format(python=sys.executable, mode=mode))
        program.chmod(0o700)
        given = {"psf": str(tmp_path / "a.psf"), "pdb": str(tmp_path / "a.pdb")}
        return System(engine="protomol", parameters=(str(tmp_path / "a.par"),), protomol=str(program), **given)

    return make


def opened(system: System, md: MD | None = None) -> protomol.Molecule:
    return protomol.open_system(protomol.prepare(system, md or MD(timestep=1.0)))


@pytest.mark.parametrize("mode", ["decimal", "hex"])
def test_a_segment_is_read_in_both_formats_of_numbers(molecule, mode):
    made = opened(molecule(mode))
    begin = made.start(300.0, 4)

    trace = made.run(begin, 300.0, 5, Schedule(40, energies=10))

    x = trace.snapshot.x / files.ANGSTROM
    assert trace.potential == pytest.approx(0.5 * (x * x).sum() * files.KCAL, rel=1e-12)
    assert trace.energies.shape == (4, 2)
    assert trace.energies[-1].tolist() == [trace.potential, trace.kinetic]
    assert trace.snapshot.v == pytest.approx(begin.v, rel=1e-14)
    again = made.run(begin, 300.0, 5, Schedule(40, energies=10))
    assert again.snapshot.x.tobytes() == trace.snapshot.x.tobytes()


def test_both_formats_of_numbers_are_the_same_numbers(molecule):
    decimal, hexadecimal = (opened(molecule(mode)) for mode in ("decimal", "hex"))
    begin = decimal.start(300.0, 4)

    traces = [each.run(begin, 300.0, 5, Schedule(40)) for each in (decimal, hexadecimal)]

    assert traces[0].potential == traces[1].potential
    assert decimal.canary == hexadecimal.canary
    assert decimal.version != hexadecimal.version


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("ignored", "ended with exit status 0, but it wrote no run.eng.header"),
        ("fails", "ended with exit status 1; it said: Error: could not parse the PAR file"),
        ("killed", "ended with signal 9"),
        ("short", "have 1 rows, and 2 were asked for: it did not run to its end"),
        ("no velocities", "but it wrote no end.vel.xyz"),
        ("fewer", "end.pos.xyz has 2 atoms, and the molecule 3"),
    ],
)
def test_every_way_in_which_it_fails_is_told(molecule, mode, said):
    with pytest.raises(FanfoldError, match=said):
        opened(molecule(mode))


HEADER = (
    "Time(fs) E_potential E_kinetic E_total Temperature E_bond E_angle E_dihedral E_improper E_VdW E_coulomb E_other "
    "Volume E_shadow"
)


def test_energies_are_found_by_the_names_of_their_columns():
    turned = " ".join(reversed(HEADER.split()))
    row = [str(float(at)) for at in range(14)]
    text = f"{' '.join(row)}\n{' '.join(row)}\n"

    assert files.energies(HEADER, text, 10, 10).tolist() == [[1.0 * files.KCAL, 2.0 * files.KCAL]]
    assert files.energies(turned, text, 10, 10).tolist() == [[12.0 * files.KCAL, 11.0 * files.KCAL]]
    with pytest.raises(files.BadOutput, match="names no E_potential and E_kinetic"):
        files.energies("Time(fs) E_total", text, 10, 10)


@pytest.mark.parametrize("mode", ["decimal", "big endian"])
def test_frames_are_those_of_the_trajectory_that_it_writes(molecule, mode):
    made = opened(molecule(mode))

    trace = made.run(made.start(300.0, 4), 300.0, 5, Schedule(40, energies=10, frames=20))

    assert trace.frames.shape == (2, 3, 3)
    assert trace.frames[-1] == pytest.approx(trace.snapshot.x, abs=1e-6)
    assert trace.frames[0] != pytest.approx(trace.snapshot.x, abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fewer frames", "its trajectory has 2 frames, and 3 of 3 atoms were asked for"),
        ("broken frames", "its trajectory breaks off after 2 frames"),
        ("other end", "the last frame of its trajectory is not where it ended"),
    ],
)
def test_a_trajectory_that_is_not_what_was_asked_for_is_told(molecule, mode, said):
    made = opened(molecule(mode))

    with pytest.raises(FanfoldError, match=said):
        made.run(made.start(300.0, 4), 300.0, 5, Schedule(40, energies=10, frames=20))


def test_trajectories_are_made_of_its_frames(molecule, remd, figures, tmp_path):
    mdtraj = pytest.importorskip("mdtraj", reason="needs mdtraj: pip install 'fanfold[remd]'")
    system = molecule()
    remd(
        "run", "--engine", "protomol", "--psf", system.psf, "--pdb", system.pdb, "--parameters", *system.parameters,
        "--protomol", system.protomol, "--temperatures", "300,330", "--steps", "10", "--timestep", "1", "--frames", "5",
        "--energies", "5", "--rounds", "3", "--output", "a",
    )  # fmt: skip

    found = figures("demux", "a")

    assert set(found["frames"].values()) == {6}
    folder = tmp_path / "a" / "trajectories"
    read = mdtraj.load(str(folder / "temperature-000-300.00K.dcd"), top=str(folder / "topology.pdb"))
    assert read.xyz.shape == (6, 3, 3)


def test_numbers_that_are_none_are_an_explosion(molecule):
    from apps.protein_remd.segments import check

    with pytest.raises(Exploded, match="met what is no number"):
        opened(molecule("nan"))
    made = opened(molecule("not finite"))
    with pytest.raises(Exploded, match="not finite"):
        check(made.run(made.start(300.0, 1), 300.0, 1, Schedule(2)), 300.0, made.degrees, made.potential, 300.0)


def test_first_velocities_have_the_temperature(molecule):
    made = opened(molecule())
    masses = np.array([14.007, 1.008, 12.011])[:, None]

    kinetic = [0.5 * (masses * made.start(300.0, n).v ** 2).sum() for n in range(1, 2001)]

    assert np.mean(kinetic) == pytest.approx(4.5 * 8.31446261815324e-3 * 300.0, rel=0.05)


def test_rings_with_wrong_exclusions_are_told(molecule):
    import json

    facts = json.loads(protomol.prepare(molecule(), MD())["facts.json"])

    assert "rings of HIS" in facts["cautions"][0]
    assert (facts["constraints"], facts["atoms"], facts["residues"], facts["net charge"]) == (2, 3, 1, 0)


def test_a_campaign_goes_on_bit_for_bit(molecule, remd, tmp_path, capsys):
    system = molecule()
    flags = [
        "run", "--engine", "protomol", "--psf", system.psf, "--pdb", system.pdb, "--parameters", *system.parameters,
        "--protomol", system.protomol, "--temperatures", "300,330", "--steps", "10", "--timestep", "1",
    ]  # fmt: skip
    assert remd(*flags, "--rounds", "2", "--output", "whole") == 0
    assert remd(*flags, "--rounds", "1", "--output", "parts") == 0

    assert remd("resume", "parts", "--rounds", "2") == 0

    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert remd("verify", "parts", "--segments", "2") == 0
    assert "caution" in (tmp_path / "whole" / "result.json").read_text()


def test_coordinates_in_another_order_are_refused_by_their_bonds(molecule, tmp_path):
    system = molecule()
    (tmp_path / "a.pdb").write_text(PDB.replace("   1.000   0.000", "   9.000   0.000"))

    with pytest.raises(InputError, match=r"a.pdb: N of HIS and HN of HIS are bonded, and 0.90 nm apart \(1 such bond"):
        protomol.prepare(system, MD())


@pytest.mark.parametrize("bonds", ["       1       2       1\n", "       1       2       1       4\n"])
def test_bonds_of_a_topology_that_are_not_whole_are_refused(bonds):
    with pytest.raises(ValueError, match="its 2 bonds are not whole, or of atoms that it has not"):
        files.read_psf(PSF.replace("       1       2       1       3\n", bonds))


def test_a_program_that_is_nowhere_is_named(molecule, monkeypatch):
    system = molecule()
    Path(system.protomol).unlink()
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ConfigError, match="there is no program .*ProtoMol-decimal, nor ProtoMol on PATH"):
        opened(system)


def test_settings_that_it_cannot_use_are_refused(molecule):
    with pytest.raises(ConfigError, match="engine protomol needs --psf FILE"):
        protomol.prepare(System(engine="protomol"), MD())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numstep 10\n", "line 1 .* no keyword 'numstep'"),
        ("finPDBPosFile end.pdb\n", "no keyword 'finPDBPosFile'"),  # of three decimals, and without exponents
        ("integrator {\n", "opens 1 braces and closes 0"),
    ],
)
def test_what_it_would_pass_over_without_a_word_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        files.check_configuration(text)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0x1.dc49p+7", 238.142578125), ("-0X1.8P+1", -3.0), ("-5.48e-06", -5.48e-06), ("12.5", 12.5), ("1", 1.0),
        ("-nan", np.nan), ("inf", np.inf),
    ],
)  # fmt: skip
def test_a_number_is_read_as_it_was_written(word, value):
    assert files.number(word) == pytest.approx(value, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("row", ["10.0 ******** 3.0", "10.0 2.0", "10.0 0x1.8q+1 3.0"])
def test_a_row_of_energies_that_cannot_be_read_is_told(row):
    with pytest.raises(files.BadOutput, match="a row of its energies cannot be read"):
        files.energies("Time(fs) E_potential E_kinetic", f"0.0 1.0 2.0\n{row}\n", 10, 10)


@pytest.mark.parametrize("line", ["N 1.0 2.0", "N 1.0 2.0 ********"])
def test_an_end_that_cannot_be_read_is_told(line):
    with pytest.raises(files.BadOutput, match="end.pos.xyz cannot be read"):
        files.read_xyz(f"1\ncomment\n{line}\n", 1, files.ANGSTROM, "end.pos.xyz")


def test_velocities_are_written_in_angstrom_per_the_time_that_kcal_and_daltons_give():
    # sqrt(dalton Angstrom^2 / (kcal/mol)), with 1 kcal = 4184 J, is the unit in which kinetic energies need no factor.
    unit = 1e-10 * np.sqrt(1e-3 / 4184.0) * 1e12
    velocity = np.array([[1.0, -2.0, 0.5]])

    text = files.xyz_text(velocity, ["N"], files.ANGSTROM / files.TIME_UNIT)

    written = [float(word) for word in text.splitlines()[2].split()[1:]]
    assert written == pytest.approx((10.0 * unit * velocity[0]).tolist(), rel=1e-4)
    assert files.read_xyz(text, 1, files.ANGSTROM / files.TIME_UNIT, "v") == pytest.approx(velocity, rel=1e-15)
