"""A run: a prefix in any storage with a manifest, one driver at a time, and results that are published last."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apps._frame.interrupts import deferred_interrupts
from apps._frame.manifest import (
    CLAIMS,
    DAMAGED,
    LEASE,
    MANIFEST,
    NOTES,
    STAGES,
    STAGING,
    Manifest,
    changed_versions,
    compare,
    exists,
    find_manifest,
    new_manifest,
    tags_of,
)
from apps._frame.publishing import Content, drop_staging, staged_before, write_results
from core import ConfigError, FanfoldError, open_storage
from core.storage import Holder, LeaseLock, PreconditionFailed, StorageError, check_put_if_absent

FIRST_LEASE = 300.0
"""Seconds that a driver may plan before its first stage, from which on its lease is for a minute and renewed."""
RENEWAL = 20.0
"""Seconds between two renewals of the lease."""
LOOKS = (0.5, 10.0)
"""Seconds between two looks at a run that another process drives, at first and at most."""
ASKED = ("params", "params_hash")
"""Of a manifest: what was asked for."""
FEW = 16
"""Names that are looked for one by one; for more all that is there is listed."""

_logger = logging.getLogger("fanfold")


def new_run_path(parent: str) -> str:
    """Return a fresh folder name such as ``parent/20260131-174503-1f3a``."""
    return os.path.join(parent, f"{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}")


class Run:
    """A run of an application; a context manager that holds it.

    Inside the ``with`` block this process alone drives the run. A process that comes second waits until the first has
    ended, and then goes on from what it left; one whose parameters differ is refused at once.

    Parameters
    ----------
    address : str
        ``./runs/x``, ``file:///runs/x``, ``s3://bucket/runs/x``, ``memory://x``: a prefix in any storage.
    app : str
        The application's module.
    params : dataclass
        Its settings; those that are of its identity must be those that the run was begun with.
    command : str
        Which of the application's commands it is.
    inputs : mapping, optional
        Tag of each input, by address; they too must be those that the run was begun with.
    results : sequence of str
        Names of what ``publish`` will write; one with a trailing ``/`` stands for all below. The last one says that the
        run is finished.
    versions : mapping, optional
        Releases of packages that matter, for the manifest.
    keeps : sequence of str
        Prefixes, with a trailing ``/``, of what the application keeps of its work by itself, beside stages: such
        objects of others are never touched, a run goes on from its own, and `overwrite` removes them.
    overwrite : bool
        Start anew, and replace what is there.
    keep_stages : bool
        Whether the outputs of stages stay when the results are published.
    say : callable, optional
        Is told in a sentence when the run has to wait; by default the log is.

    Attributes
    ----------
    storage : Storage
        Where everything of the run is, by key.
    resumed : bool
        Whether an earlier process began it.
    finished : bool
        Whether its results have been published.
    kept : bool
        Once the block was left by an exception: whether there is anything that need not be done again.

    Raises
    ------
    ConfigError
        The place cannot be written, it holds a run with other parameters, or a file there that no run of this
        application wrote would be replaced. Nothing has been written.
    """

    def __init__(
        self,
        address: str | os.PathLike[str],
        app: str,
        params: Any,
        *,
        command: str = "run",
        inputs: Mapping[str, str] | None = None,
        results: Sequence[str] = ("result.json",),
        versions: Mapping[str, str] | None = None,
        keeps: Sequence[str] = (),
        overwrite: bool = False,
        keep_stages: bool = False,
        say: Callable[[str], object] = _logger.warning,
    ) -> None:
        self.given = os.fspath(address)
        self.storage = open_storage(self.given)
        self.address = self.storage.address
        self.resumed = self.finished = self.kept = False
        self._changed, self._left_staged = "", list[str]()
        self.note = ""
        self._params, self._say = params, say
        self._overwrite, self._fresh, self._published = overwrite, True, False
        self._lock = LeaseLock(self.storage, LEASE)
        self._staging = f"{STAGING}{secrets.token_hex(8)}/"
        self._final: Content = b""
        self._stop: threading.Event | None = None
        self._working = False
        self._made = _missing_folders(self.folder)
        more = {"inputs": tags_of(inputs or {}), "results": list(results), "versions": versions or {}}
        if keeps:
            more["keeps"] = list(keeps)
        self._manifest: Manifest = new_manifest(app, command, params, keep_stages=keep_stages, **more)

    @property
    def folder(self) -> Path | None:
        """The run's folder, if it is one of this machine."""
        return Path(self.address.removeprefix("file://")) if self.address.startswith("file://") else None

    @property
    def _keeps(self) -> list[str]:
        """What is kept of the work, apart from stages."""
        return list(self._manifest.get("keeps", ()))

    def __enter__(self) -> Self:
        try:
            before = find_manifest(self.storage)
            if before is None or self._overwrite:
                self._refuse_foreign([*self._manifest["results"], *self._keeps])
            else:
                compare(before, self._manifest, self._params, self.given)
            self._take()
            try:
                self._begin()
            except BaseException:
                self._lock.release()
                raise
        except BaseException as error:
            self._unmake()
            if isinstance(error, StorageError) and not isinstance(error, ConnectionError):
                raise ConfigError(f"{error}; or choose another place with --output") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kept = kind is not None  # until it is known that there is nothing; a second Ctrl-C may end this anywhere
        if self._stop is not None:
            self._stop.set()
            self._renewal.join(FIRST_LEASE)  # or one that is on its way takes the lease again that is given back below
        try:
            if kind is not None:
                any_output = next(self.storage.list(STAGES), None) is not None
                self.kept = not self._fresh or any_output or self._claims_matter()
                if not self.kept and self._lock.renew(self.note):
                    self.storage.delete([MANIFEST, *self._keys(CLAIMS), *self._keys(NOTES)])
            self._lock.release()
        except StorageError as failed:
            if kind is None:
                raise
            _logger.warning("the lease of run %s was not given back: %s", self.address, failed)
        if kind is not None:
            self._unmake()

    def keep_alive(self, *, working: bool = True) -> None:
        """Renew the lease from now on, by a thread; a stage does so, and a driver that is busy for long without one.

        Call it when the executor has started its workers, for a process with threads starts them more slowly. As long
        as nothing but input is looked at, which may be refused, nobody is `working`: then nothing is kept of the run.
        """
        self._working = self._working or working
        if self._stop is None:
            with deferred_interrupts():  # or the thread may be made and not begun, which nobody can wait for
                self._stop = threading.Event()
                self._renewal = threading.Thread(
                    target=self._renew_until, args=(self._stop,), daemon=True, name="fanfold-lease"
                )
                self._renewal.start()

    def check(self, note: str = "") -> None:
        """Say what is being done, and make sure that this process still drives the run.

        Raises
        ------
        FanfoldError
            It was taken for dead, and another has taken over.
        """
        self.note = note
        if not self._lock.renew(note):
            found = self._lock.holder()
            raise FanfoldError(
                f"run {self.address} was taken over{f' by {found}' if found else ''} while this process did not "
                "answer; nothing is lost: 'status' says what it does"
            )

    def claim(self, names: Iterable[str]) -> None:
        """Make sure that objects beside the results may be written, and remember them as the run's own.

        Raises
        ------
        ConfigError
            One exists that no run of this application wrote; nothing has been written.
        """
        wanted = sorted(set(names))
        self._refuse_foreign(wanted)
        content = json.dumps(wanted).encode()
        self.storage.put(f"{CLAIMS}{hashlib.sha256(content).hexdigest()[:32]}.json", content)

    def owned(self) -> set[str]:
        """Return the names of what runs of this application have written here, or said that they would."""
        before = find_manifest(self.storage)
        if before is None:
            return set()
        claims = (_names(self.storage.get(info.key)) for info in self.storage.list(CLAIMS))
        return {MANIFEST, *before["results"], *before.get("keeps", ())}.union(*claims)

    def reopen(self) -> None:
        """Take back that the run is finished, as there is more to be done than was asked for when it was."""
        self.storage.delete([self._manifest["results"][-1]])
        self.finished = False
        self._tell_changed()

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Write into the manifest, under ``found``, what has been found out once and holds for the whole run."""
        if self._manifest.get("found") != facts:
            self._manifest["found"] = dict(facts)
            self._write_manifest()

    def remembered(self, name: str, value: Any) -> Any:
        """Return what was given under a name when the run was begun, as JSON has it; `value`, if it is given now.

        For what depends on the machine, such as into how many tasks work is split: who takes the run up elsewhere is to
        find the same tasks.
        """
        try:
            self.storage.put(f"{NOTES}{name}.json", json.dumps(value).encode(), if_absent=True)
        except PreconditionFailed:
            return json.loads(self.storage.get(f"{NOTES}{name}.json"))
        return value

    @property
    def shows_earlier(self) -> str:
        """Of a run that was finished before, and that this process has added nothing to, a sentence that says so."""
        if not (self.resumed and self.finished) or self._published:
            return ""
        begun, by = self._manifest["created"], self._manifest["versions"].get("fanfold", "?")
        return f"run {self.given} was finished before (begun {begun}, fanfold {by}); --overwrite computes it anew"

    def read(self, name: str) -> bytes:
        """Return what one of the run's objects holds."""
        return self.storage.get(name)

    def figures(self) -> dict[str, Any]:
        """Return what the last of the results of a finished run says, a JSON object."""
        # What this process has published it need not ask for: a driver that has taken over may be replacing it.
        content = self._final if isinstance(self._final, bytes) else b""
        found: dict[str, Any] = json.loads(content or self.read(self._manifest["results"][-1]))
        return found

    def publish(self, files: Mapping[str, Content]) -> None:
        """Write the results, all of them or on a local disk that fills up none, the final one last.

        Results of an earlier attempt that are not among them are removed, and so are the outputs of the stages, unless
        the run keeps them.

        Parameters
        ----------
        files : mapping
            Bytes, or an iterable of bytes to be streamed, by name; every name is one of the run's `results`.

        Raises
        ------
        FanfoldError
            The disk is full or the storage failed; the run can be resumed. Or another process has taken over.
        """
        self.check("publishing")
        results = self._manifest["results"]
        try:
            write_results(self.storage, self.folder, files, results, self._staging, lambda: self.check("publishing"))
        except FanfoldError:
            self.check("publishing")  # who has taken over removes what others have staged
            raise
        self.finished, self._fresh, self._published = results[-1] in files, False, True
        self._final = files.get(results[-1], b"")
        if self.finished and self._lock.renew(self.note):
            self._tidy()

    def _tidy(self) -> None:
        """Remove what nobody needs once the results are there."""
        for left in self._left_staged:
            drop_staging(self.folder, left)
        if not self._manifest.get("keep_stages"):
            self.storage.delete([*self._keys(STAGES), *self._keys(NOTES)])

    def _keys(self, prefix: str) -> list[str]:
        return [info.key for info in self.storage.list(prefix)]

    def _take(self) -> None:
        """Wait until the run is this process's."""
        pause, told = LOOKS[0], ""
        while (holder := self._lock.take(lease=FIRST_LEASE)) is not None:
            if str(holder) != told:
                told = str(holder)
                self._say(_waiting(self.given, holder))
            threading.Event().wait(pause)
            pause = min(2 * pause, LOOKS[1])

    def _begin(self) -> None:
        """Write the manifest, or find that there is one that fits."""
        if self.folder is None and self.storage.shared:
            check_put_if_absent(self.storage, next(self.storage.list(LEASE)).key)
        try:
            self._write_or_go_on(find_manifest(self.storage))
        except PreconditionFailed:
            # One that has appeared since: of a driver that holds another for dead, as clocks may differ, or foreign.
            self._refuse_foreign([])
            self._write_or_go_on(find_manifest(self.storage))

    def _write_or_go_on(self, before: Manifest | None) -> None:
        self._fresh = before is None
        # Those that come later may be of a driver that holds this one for dead, as clocks may differ.
        self._left_staged = staged_before(self.folder, STAGING)
        if self._overwrite:
            self._clear(before)
        elif before is not None:
            compare(before, self._manifest, self._params, self.given)
            versions, asked = self._manifest["versions"], {name: self._manifest[name] for name in ASKED}
            self._manifest = {**before, **asked}
            if self._manifest != before:
                self._write_manifest()  # so that `resume` goes on to what was asked for last
            self.resumed, self.finished = True, exists(self.storage, before["results"][-1])
            self._changed = changed_versions(before, versions)
            if self.finished:
                self._tidy()  # whoever finished it may have been killed before
            else:
                self._tell_changed()
            return
        self._write_manifest(if_absent=not self._overwrite)

    def _tell_changed(self) -> None:
        if self._changed:
            self._say(f"run {self.given} was begun with {self._changed}; what was committed stays as it is")

    def _write_manifest(self, *, if_absent: bool = False) -> None:
        self.storage.put(MANIFEST, (json.dumps(self._manifest, indent=2) + "\n").encode(), if_absent=if_absent)

    def _clear(self, before: Manifest | None) -> None:
        """Forget an earlier run; its results but for the final one stay until those of this one replace them."""
        if before is not None and before["app"] == self._manifest["app"]:
            earlier = [name for name in before["results"] if name not in self._manifest["results"]]
            self._manifest["results"] = [*earlier, *self._manifest["results"]]
        elif before is not None:
            self.storage.delete(self._keys(CLAIMS))  # another application's
        work = (key for prefix in (STAGES, NOTES, *self._keeps) for key in self._keys(prefix))
        self.storage.delete([*work, self._manifest["results"][-1]])

    def _refuse_foreign(self, names: Sequence[str]) -> None:
        """Refuse to replace what no run of this application wrote; see ``claim``."""
        if self._overwrite:
            return
        # In this order: a run that another process begins meanwhile owns what it writes before it is there.
        there = self._there([*names, MANIFEST])
        known = self.owned() if there else set()
        if there := [name for name in there if name not in known]:
            more = f" and {len(there) - 1:,} more" if len(there) > 1 else ""
            raise ConfigError(
                f"{self.given} has {there[0]}{more}, which no run of {self._manifest['app']} wrote and which this one "
                "would replace; choose another place with --output, or add --overwrite"
                + (DAMAGED * (MANIFEST in there))
            )

    def _there(self, names: Sequence[str]) -> list[str]:
        """Return those that there are; all are listed at once if that is fewer requests."""
        looked = [name for name in names if name.endswith("/") or len(names) <= FEW]
        found = {info.key for info in self.storage.list()} if len(names) > FEW else set()
        return [name for name in names if name in found or (name in looked and exists(self.storage, name))]

    def _claims_matter(self) -> bool:
        """Whether an object that is this run's own by its claims alone is there, or may come of workers yet."""
        claimed = sorted(self.owned() - {MANIFEST, *self._manifest["results"]})
        return bool(claimed) and (self._working or bool(self._there(claimed)))

    def _renew_until(self, stop: threading.Event) -> None:
        while not stop.wait(RENEWAL):
            try:
                if not self._lock.renew(self.note):
                    return  # the next `check` says so
            except StorageError as error:
                _logger.warning("the lease of run %s was not renewed: %s", self.address, error)

    def _unmake(self) -> None:
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                return


def _names(content: bytes) -> list[str]:
    """Return the names of a claim; none if nobody can have written it."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _waiting(address: str, holder: Holder) -> str:
    since = datetime.fromtimestamp(holder.since).strftime("%H:%M")
    doing = f", now at {holder.note}" if holder.note else ""
    return f"{holder} has driven run {address} since {since}{doing}; waiting for it (Ctrl-C leaves it alone)"


def _missing_folders(folder: Path | None) -> list[Path]:
    return [] if folder is None else [each for each in reversed((folder, *folder.parents)) if not each.exists()]
