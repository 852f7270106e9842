"""``demux``: continuous trajectories, of each replica and of each temperature, from the pieces of the rounds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from apps._frame import Session
from apps.protein_remd.campaign import Setup, read_setup
from apps.protein_remd.frames import Frames, Watched, pieces
from apps.protein_remd.params import DemuxParams
from apps.protein_remd.reading import run_params
from apps.protein_remd.records import last_round, read_records
from apps.protein_remd.segments import BUNDLE, streamed
from core import ConfigError, InputError, open_storage
from core.storage import Storage

TRAJECTORIES = "trajectories/"
ANGSTROM = 10.0
"""Of a nanometre: DCD files are in Angstrom, XTC files in nm."""


def demux(session: Session, params: DemuxParams) -> None:
    """Write the trajectories of a run, as far as it is committed."""
    asked, storage = run_params(params.run), open_storage(params.run)
    setup, last = read_setup(storage), last_round(storage)
    if setup is None or not last:
        raise InputError(f"run {params.run} has no committed round yet; there is nothing to write")
    if not asked.output.frames:
        raise ConfigError(f"run {params.run} keeps no frames; begin one with --frames STEPS")
    if setup.engine == "harmonic":
        raise ConfigError("oscillators have no trajectory that a viewer could show; use another engine")
    topology = storage.get(f"{BUNDLE}{setup.bundle}/topology.pdb")
    watched = Watched(topology)
    counts = write(storage, setup, range(1, last + 1), params.format, watched)
    storage.put(f"{TRAJECTORIES}topology.pdb", topology)
    figures = {"rounds": last, "frames": counts, "cis": watched.cis, "inverted": watched.inverted}
    words = [f"{len(counts)} trajectories of {max(counts.values()):,} frames in {params.run}/{TRAJECTORIES}"]
    session.show(figures, "\n".join(words))
    for sentence in watched.warnings():
        session.tell(sentence)


class Writer:
    """A trajectory file that is written piece by piece."""

    def __init__(self, path: Path) -> None:
        try:
            from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile
        except ImportError:
            raise ConfigError("demux needs mdtraj: pip install 'fanfold[remd]'") from None
        self.path, self.frames = path, 0
        self._dcd = path.suffix == ".dcd"
        self._file = (DCDTrajectoryFile if self._dcd else XTCTrajectoryFile)(str(path), "w")

    def write(self, frames: Frames, boxes: Frames | None) -> None:
        """Append frames in nm, shape (frames, atoms, 3), and the vectors of their boxes, shape (frames, 3, 3)."""
        if self._dcd:
            cell = () if boxes is None else unit_cells(boxes)
            self._file.write(frames * np.float32(ANGSTROM), *cell)
        else:
            numbers = np.arange(self.frames, self.frames + len(frames))
            self._file.write(frames, time=numbers.astype(np.float32), step=numbers.astype(np.int32), box=boxes)
        self.frames += len(frames)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def unit_cells(boxes: Frames) -> tuple[Frames, Frames]:
    """Return edges in Angstrom and angles in degrees, both of shape (frames, 3), of boxes in nm."""
    edges = np.linalg.norm(boxes, axis=2)
    units = boxes / edges[:, :, None]
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = np.stack([(units[:, one] * units[:, other]).sum(axis=1) for one, other in pairs], axis=1)
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return (edges * ANGSTROM).astype(np.float32), angles.astype(np.float32)


def write(storage: Storage, setup: Setup, rounds: range, kind: str, watched: Watched) -> dict[str, int]:
    """Write all trajectories into a run; returns the frames of each by name."""
    ladder = setup.temperatures
    with tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        by_replica = [Writer(Path(folder) / f"replica-{number:03d}.{kind}") for number in range(len(ladder))]
        by_state = [Writer(Path(folder) / f"temperature-{k:03d}-{t:.2f}K.{kind}") for k, t in enumerate(ladder)]
        try:
            for record in read_records(storage, rounds):
                for replica, frames, boxes in pieces(storage, record):
                    by_replica[replica].write(frames, boxes)
                    by_state[record.replica_at.index(replica)].write(frames, boxes)
                    watched.look(frames)
        finally:
            for writer in (*by_replica, *by_state):
                writer.close()
        for writer in (*by_replica, *by_state):
            storage.put(f"{TRAJECTORIES}{writer.path.name}", streamed(writer.path))
        return {writer.path.name: writer.frames for writer in (*by_replica, *by_state)}
