"""A study: candidates drawn by Optuna, whoever asks; each is trained once, whatever is killed on the way.

The folder `runs/search/NAME` holds it all. Whoever works on a candidate holds a lock on a file in its folder, which the
system lets go of when that process ends, however it ends. A candidate that is `running` in the database and whose lock
is free was cut off, and is the next to be gone on with, under its own number. Several processes on one machine, or
several machines on one file system, may work on one study.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import yaml
from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend

from lingen_kit.files import replacing
from lingen_kit.search.dimensions import CONFIG, Choice
from lingen_kit.search.proxy import chosen
from lingen_kit.search.reading import make_search
from lingen_kit.search.records import FILE, TRIALS, Record, folder_of, read_record, read_records, write_record
from lingen_kit.search.sampling import check_classes, distributions, make_sampler
from lingen_kit.search.settings import EXHAUSTIVE, Search
from lingen_kit.search.space import Drawn, same

SETTINGS = "search.yaml"
LONGER = "longer.json"
DATABASES = {"sqlite": "study.db", "journal": "study.journal"}

_DRAWS = 1000  # near a candidate that is known already, and then anywhere, in search of one that is not
_LOCKED = 120.0  # seconds to wait for another process's turn


class Job(NamedTuple):
    """A candidate to work on, held by this process alone.

    Attributes:
        record: What is known of it.
        lock: Its lock; released when the work is done.
    """

    record: Record
    lock: FileLock


class Study:
    """Hands out candidates and keeps what became of them.

    Args:
        folder: Its folder.

    Raises:
        FileNotFoundError: If there is no study.
        ValueError: If its database or a record is damaged, or a config file that it stands on has changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / SETTINGS
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no study: there is no {SETTINGS} in it")
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.search = make_search(saved["search"])
        for file, digest in saved["files"].items():
            if not Path(file).is_file() or _digest(Path(file)) != digest:
                raise ValueError(
                    f"{file} is not what it was when the study in {folder} began, so its candidates could not be "
                    "compared: restore it, or begin another study with --name"
                )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._study = self._open()

    @classmethod
    def create(cls, folder: Path, sections: dict[str, Any]) -> "Study":
        """Make the folder of a new study.

        Raises:
            FileExistsError: If it exists.
            FileNotFoundError: If a config file that candidates stand on does not exist.
            ValueError: If a key or value of `sections` is wrong.
        """
        search = make_search(sections)
        check_classes(search)
        files = {str(file): _digest(file) for file in _files(search)}
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise FileExistsError(
                f"{folder} exists: go on with it by `search resume {folder}`, or name another study with --name"
            ) from None
        with replacing(folder / SETTINGS) as beside:
            beside.write_text(yaml.safe_dump({"search": sections, "files": files}, sort_keys=False), encoding="utf-8")
        return cls(folder)

    def remove(self) -> None:
        """Remove the folder of a study that turned out to be wrong before anything was tried."""
        shutil.rmtree(self.folder)

    def records(self) -> list[Record]:
        """Every candidate so far, in order."""
        return read_records(self.folder)

    def left(self) -> int:
        """Candidates that are still to be trained, those that were cut off among them."""
        ended = [record for record in self.records() if record.state not in ("running", "rejected")]
        wanted = min(self.search.trials, self.search.space.size())
        return max(0, int(wanted) - len(ended))

    def next(self) -> Job | None:
        """The next candidate to work on: one that was cut off, or a new one; None if none is left.

        Raises:
            ValueError: If the database cannot be used.
        """
        with self._turn():
            for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                lock = self._hold(trial.number)
                job = lock and self._adopt(trial, lock)
                if job:
                    return job
            return self._new()

    def keep(self, record: Record) -> None:
        """Write down what is known of a candidate by now."""
        write_record(self.folder, record)

    def finish(self, job: Job) -> None:
        """Tell the sampler how a candidate did, and let it go."""
        self.keep(job.record)
        state, values = self._outcome(job.record)
        with self._turn():
            self._study.tell(job.record.number, values, state=state)
        job.lock.release()

    def next_longer(self) -> Job | None:
        """The next candidate whose training is to be repeated for longer; None if none is left, or all are taken.

        Which ones they are is settled when the first is asked for, once all candidates are done.
        """
        with self._turn():
            records, proxy = self.records(), self.search.proxy
            if proxy is None or any(record.state == "running" for record in records):
                return None
            path = self.folder / LONGER
            if not path.is_file():
                with replacing(path) as beside:
                    beside.write_text(json.dumps(chosen(records, self.search)), encoding="utf-8")
            numbers = json.loads(path.read_text(encoding="utf-8"))
            for record in sorted((r for r in records if r.number in numbers), key=lambda r: numbers.index(r.number)):
                if len(record.longer) < len(proxy.seeds) and not record.reason_longer:
                    lock = self._hold(record.number)
                    if lock is not None:
                        return Job(read_record(folder_of(self.folder, record.number) / FILE), lock)
            return None

    def _adopt(self, trial: "optuna.trial.FrozenTrial", lock: FileLock) -> Job | None:
        """Go on with a candidate that was cut off; None if it was cut off undrawn, and what is drawn now is known."""
        handle = optuna.trial.Trial(self._study, trial._trial_id)
        if "candidate" not in trial.user_attrs:
            known = self._known(self._study.get_trials(deepcopy=False))
            if same(self.search.space.suggest(handle)) in known:
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                lock.release()
                return None
        return self._job(handle, lock)

    def _known(self, trials: "list[optuna.trial.FrozenTrial]") -> "dict[str, optuna.trial.FrozenTrial]":
        return {trial.user_attrs["candidate"]: trial for trial in trials if "candidate" in trial.user_attrs}

    def _new(self) -> Job | None:
        trials = self._study.get_trials(deepcopy=False)
        known = self._known(trials)
        started = [trial for trial in known.values() if not trial.user_attrs.get("rejected")]
        search = self.search
        if len(started) >= search.trials:
            return None
        params = next(self._wanted(known), None)
        if params is not None:
            return self._begin(params, known)
        if search.sampler == EXHAUSTIVE or len(known) >= search.space.size():
            return None
        asked = self._ask(known)
        if isinstance(asked, Job):
            return asked
        drawn = Drawn(search.seed + len(trials))
        near = (search.space.neighbour(asked, drawn) for _ in range(_DRAWS))
        anywhere = (search.space.suggest(drawn) for _ in range(_DRAWS))
        found = next((params for params in chain(near, anywhere) if same(params) not in known), None)
        return None if found is None else self._begin(found, known)

    def _wanted(self, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Candidates that are tried whatever the sampler thinks."""
        if self.search.baseline is not None and same(self.search.baseline) not in known:
            yield self.search.baseline
        if self.search.sampler == EXHAUSTIVE:
            yield from (params for params in self.search.space.all() if same(params) not in known)

    def _begin(self, params: dict[str, Any], known: Mapping[str, Any]) -> Job:
        """Take a candidate that is chosen already, after those that a kill has left in the queue."""
        self._study.enqueue_trial(params)
        while not isinstance(job := self._ask(known), Job):
            pass
        return job

    def _ask(self, known: Mapping[str, Any]) -> Job | dict[str, Any]:
        """Have the sampler draw a candidate; the bare candidate, if it is known already."""
        self._study.sampler = make_sampler(self.search, len(self._study.get_trials(deepcopy=False)))
        trial = self._study.ask()
        try:
            drawn = self.search.space.suggest(trial)
        except ValueError as error:
            raise ValueError(f"the sampler cannot draw from this space: {error}") from error
        if same(drawn) in known:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return drawn
        lock = self._hold(trial.number)
        assert lock is not None  # nobody else knows of the number yet
        return self._job(trial, lock)

    def _job(self, trial: "optuna.trial.Trial", lock: FileLock) -> Job:
        """What is known of a candidate; a kill may have left anything from nothing to everything undone."""
        params = self.search.space.suggest(trial)
        trial.set_user_attr("candidate", same(params))
        path = folder_of(self.folder, trial.number) / FILE
        baseline = self.search.baseline is not None and same(params) == same(self.search.baseline)
        record = read_record(path) if path.is_file() else Record(trial.number, params, baseline=baseline)
        self.keep(record)
        return Job(record, lock)

    def reject(self, job: Job, reason: str) -> None:
        """Leave a candidate out that must not be trained; it does not count as a trial."""
        job.record.state, job.record.reason = "rejected", reason
        with self._turn():
            optuna.trial.Trial(self._study, self._id(job.record.number)).set_user_attr("rejected", True)
        self.finish(job)

    def _id(self, number: int) -> int:
        return next(t._trial_id for t in self._study.get_trials(deepcopy=False) if t.number == number)

    def _hold(self, number: int) -> FileLock | None:
        """The lock of a candidate, None if another process has it."""
        folder = folder_of(self.folder, number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", thread_local=False)
        try:
            return lock.acquire(timeout=0).lock
        except Timeout:
            return None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One process, and one thread of it, at a time."""
        try:
            with FileLock(self.folder / "lock", timeout=_LOCKED), _explained(self.folder):
                yield
        except Timeout:
            raise ValueError(
                f"{self.folder / 'lock'} has been held by another process for {_LOCKED:.0f} s: end the one that hangs"
            ) from None

    def _open(self) -> "optuna.Study":
        """Open the database; make it, from the records, if it is not there."""
        directions = list(self.search.objectives.values())
        with self._turn():
            storage = self._storage()
            study = optuna.create_study(
                storage=storage,
                study_name=str(self.folder.name),
                directions=directions,
                load_if_exists=True,
                sampler=make_sampler(self.search, 0),
            )
            if not study.get_trials(deepcopy=False):
                self._restore(study)
            return study

    def _restore(self, study: "optuna.Study") -> None:
        """Put candidates whose database was lost into the new one, under their numbers."""
        records = {record.number: record for record in self.records()}
        every = distributions(self.search.space)
        for number in range(max(records, default=-1) + 1):
            record = records.get(number)
            if record is None:
                study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
                continue
            attrs = {"candidate": same(record.params)} | ({"rejected": True} if record.state == "rejected" else {})
            state, values = self._outcome(record)
            study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    params=record.params,
                    distributions={name: every[name] for name in record.params},
                    values=values,
                    user_attrs=attrs,
                )
            )

    def _outcome(self, record: Record) -> tuple["optuna.trial.TrialState", list[float] | None]:
        """A candidate's state as Optuna has it, and its values, if it has any."""
        states = optuna.trial.TrialState
        known = {"complete": states.COMPLETE, "pruned": states.PRUNED, "running": states.RUNNING}
        state = known.get(record.state, states.FAIL)
        return state, [record.mean(name) for name in self.search.objectives] if state == states.COMPLETE else None

    def _storage(self) -> Any:
        kind = self.search.storage
        if kind == "sqlite":
            path = self.folder / DATABASES[kind]
            return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _LOCKED}})
        if kind == "journal":
            backend = JournalFileBackend(str(self.folder / DATABASES[kind]))
            return optuna.storages.JournalStorage(backend)
        return optuna.storages.RDBStorage(kind)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say what is wrong with a database in words that help."""
    from sqlalchemy.exc import DatabaseError, SQLAlchemyError

    files = folder / TRIALS / "*" / FILE
    mend = f"every candidate is also in {files}: move the database away, and it is built anew from these"
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        text = str(getattr(cause, "orig", None) or cause or error)
        if "locked" in text:
            raise ValueError(f"the database of {folder} is locked by another process: end it, and resume") from error
        damaged = isinstance(cause, DatabaseError) or "malformed" in text or "not a database" in text
        raise ValueError(
            f"the database of {folder} {'is damaged' if damaged else 'cannot be used'} ({text}); {mend}"
        ) from error
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:  # of a journal
        raise ValueError(f"the database of {folder} is damaged ({type(error).__name__}: {error}); {mend}") from error


def _files(search: Search) -> list[Path]:
    """Config files that candidates stand on."""
    files = [Path(file) for file in search.base]
    for dimension in search.space.dimensions:
        if isinstance(dimension, Choice) and "." not in dimension.name:
            for group in dimension.values.values():
                stacked = group.get(CONFIG, [])
                files += [Path(file) for file in ([stacked] if isinstance(stacked, str) else stacked)]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"config {missing[0]} {'is a folder' if missing[0].is_dir() else 'does not exist'}")
    return files


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
