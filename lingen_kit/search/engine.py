"""The search itself: workers that take a candidate, tell its costs, train it with every seed, and say how it did."""

import math
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from lingen_kit.analysis.measure import ChildFailed, in_child
from lingen_kit.search import training
from lingen_kit.search.costs import Read, costs_of, out_of
from lingen_kit.search.dimensions import word
from lingen_kit.search.pruning import curves_of, hopeless
from lingen_kit.search.records import Record, folder_of, read_metrics
from lingen_kit.search.sampling import make_pruner
from lingen_kit.search.settings import Search
from lingen_kit.search.space import describe
from lingen_kit.search.study import Job, Study
from lingen_kit.search.training import Fit, Outcome, train

GIVE_UP = 60
"""Candidates in a row that miss the constraints before the search says that they cannot be met."""

FIRST = 3
"""Trainings at the start of a study which, if all of them fail, end it: what is wrong is wrong with all."""


@dataclass(frozen=True)
class Verbs:
    """What the search needs of the command line; both are functions of a module.

    Attributes:
        fit: Trains.
        read: Reads what `fit` would train, and builds it.
        parse: Reads it, and builds nothing.
    """

    fit: Fit
    read: Read
    parse: Callable[[list[str]], object]


def check_words(search: Search, verbs: Verbs) -> None:
    """See that the base can be built, and that `fit` knows every option of the space and every value of it.

    Raises:
        ValueError: Naming what is wrong.
    """
    base = search.line()
    named = [("base and overrides", base)]
    named += [(f"space: {name}", search.line(search.space.words(part))) for name, part in search.space.covering()]
    if search.budget is not None:
        named.append(("budget", [*base, word(search.budget.key, search.budget.step)]))
    if search.proxy is not None:
        named.append(("proxy", search.line(longer=True)))
    try:
        wrong = in_child(_first_wrong, verbs.parse, named, threads=1)
        if wrong is None and search.costs:
            in_child(costs_of, verbs.read, base, base, search.costs, None, None, search.measured_at, threads=1)
    except ChildFailed as error:
        at = f", measured at {describe(search.measured_at)}" if search.measured_at else ""
        raise ValueError(f"base and overrides{at}: {str(error).removeprefix('ValueError: ')}") from error
    if wrong is not None:
        raise ValueError(wrong)


def _first_wrong(parse: Callable[[list[str]], object], named: list[tuple[str, list[str]]]) -> str | None:
    for name, words in named:
        try:
            parse(words)
        except (ValueError, OSError) as error:
            return f"{name}: {error}"
    return None


@dataclass
class Engine:
    """Works on a study with several trainings at a time.

    Attributes:
        study: The study.
        verbs: What trains.
        workers: Trainings at a time, here.
        threads: Threads of torch in each, on the CPU.
        on_change: Told whenever a candidate's record has changed.
        stopping: Set it to end: trainings save a checkpoint, and can be gone on with.
    """

    study: Study
    verbs: Verbs
    workers: int
    threads: int
    on_change: Callable[[Record], None] = lambda record: None
    stopping: threading.Event = field(default_factory=threading.Event)
    _trouble: list[Exception] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _measuring: threading.Lock = field(default_factory=threading.Lock)
    _rejected: list[Record] = field(default_factory=list)
    _all: threading.Barrier = field(init=False)

    def run(self) -> None:
        """Work until no candidate is left.

        Raises:
            ValueError: If no candidate can meet the constraints, nobody logs an objective, the first trainings all
                fail, or the database cannot be used.
        """
        self._all = threading.Barrier(self.workers)
        workers = [
            threading.Thread(target=self._work, args=(slot,), name=f"worker {slot}") for slot in range(self.workers)
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(0.5)  # so that Ctrl-C is heard
        except BaseException:
            self.stopping.set()
            for worker in workers:
                worker.join()
            raise
        if self._trouble:
            raise self._trouble[0]

    def step(self, slot: int) -> Record | None:
        """Work on one candidate.

        Args:
            slot: Place of this worker among those of the machine.

        Returns:
            What became of it; None if none is left.

        Raises:
            ValueError: As `run`.
        """
        with self._turn:
            job = self.study.next()
        if job is not None:
            self._try(job, slot)
        return job and job.record

    def step_longer(self, slot: int) -> Record | None:
        """Train one candidate for longer, once all are done; None if none is left."""
        with self._turn:
            job = self.study.next_longer()
        if job is not None:
            self._try_longer(job, slot)
        return job and job.record

    def _work(self, slot: int) -> None:
        try:
            while not self.stopping.is_set() and self.step(slot):
                pass
            with suppress(threading.BrokenBarrierError):
                self._all.wait()  # which candidates are the best is known when all are done
            while not self.stopping.is_set() and self.step_longer(slot):
                pass
        except Exception as error:
            self._trouble.append(error)
            self.stopping.set()
        finally:
            self._all.abort()

    def _try(self, job: Job, slot: int) -> None:
        record, search = job.record, self.study.search
        self.on_change(record)
        if record.words is None and not self._cost(job):
            self.on_change(record)
            self._check_feasible()
            return
        self._rejected.clear()
        for seed in map(str, search.seeds):
            if seed in record.results:
                continue
            outcome = None if self.stopping.is_set() else self._train(record, seed, slot, f"seed_{seed}")
            if outcome is None or outcome.state == "stopped":
                job.lock.release()  # the candidate stays as it is, to be gone on with
                return
            record.seconds[seed] = round(outcome.seconds, 1)
            if outcome.state != "complete":
                record.state, record.reason = outcome.state, outcome.reason
                break
            last, reason = self._last_figures(record, f"seed_{seed}")
            if reason:
                record.state, record.reason = "failed", reason
                break
            record.results[seed] = last
            self.study.keep(record)
            self.on_change(record)
        else:
            record.state = "complete"
        self.study.finish(job)
        self.on_change(record)
        self._check_first()

    def _try_longer(self, job: Job, slot: int) -> None:
        """Repeat the training of a candidate in the longer setting, with every seed of it."""
        record, proxy = job.record, self.study.search.proxy
        assert proxy is not None
        for seed in map(str, proxy.seeds):
            if seed in record.longer:
                continue
            name = f"longer_seed_{seed}"
            outcome = self._train(record, seed, slot, name, longer=True)
            if outcome.state == "stopped":
                break
            last, reason = self._last_figures(record, name)
            if proxy.figure is not None and not math.isfinite(last.get(proxy.figure, math.nan)):
                reason = f"it logged no {proxy.figure}, which proxy.figure names"
            record.reason_longer = outcome.reason or reason or ""
            if record.reason_longer:
                break
            record.longer[seed] = last
        self.study.keep(record)
        job.lock.release()
        self.on_change(record)

    def _cost(self, job: Job) -> bool:
        """Tell what a candidate costs, and reject it if it costs too much or cannot be built; whether it is in."""
        record, search = job.record, self.study.search
        words = search.space.words(record.params)
        try:
            with self._measuring:  # two latencies at a time would disturb each other
                costs = in_child(
                    costs_of,
                    self.verbs.read,
                    search.line(),
                    search.line(words),
                    search.costs,
                    search.budget,
                    {} if record.baseline else search.constraints,
                    search.measured_at,
                    threads=1,
                )
        except ChildFailed as error:
            self._rejected.append(record)
            self.study.reject(job, f"it cannot be built: {str(error).removeprefix('ValueError: ')}")
            return False
        record.costs, record.solved = costs.values, costs.solved
        out = out_of(search.constraints, record.costs)
        if out and not record.baseline:  # which the others are compared with, whatever it costs
            low, high = search.constraints[out]
            bound = f"above {high:.4g}" if record.costs[out] > high else f"below {low:.4g}"
            self._rejected.append(record)
            self.study.reject(job, f"{out} {record.costs[out]:.4g} is {bound}")
            return False
        solved = [word(search.budget.key, costs.solved)] if search.budget else []
        record.words = [*words, *solved]
        self.study.keep(record)
        return True

    def _train(self, record: Record, seed: str, slot: int, name: str, *, longer: bool = False) -> Outcome:
        search = self.study.search
        assert record.words is not None
        return train(
            self.verbs.fit,
            [*search.line(record.words, longer=longer), word("seed_everything", int(seed))],
            folder_of(self.study.folder, record.number),
            name,
            threads=self.threads,
            slot=slot,
            minutes=None if longer else search.time_limit,
            watch=self._watch(record, seed) if not longer else lambda metrics: None,
            stop=self.stopping.is_set,
        )

    def _watch(self, record: Record, seed: str) -> Callable[[Path], str | None]:
        """Looks at a training and says whether, and why, to prune it."""
        search = self.study.search
        if search.prune_by is None or search.pruner is None:
            return lambda metrics: None
        pruner, seen, figure = make_pruner(search), 0, search.prune_by

        def look(metrics: Path) -> str | None:
            nonlocal seen
            curve = read_metrics(metrics).get(figure, [])
            if len(curve) == seen:
                return None
            seen, record.curves[seed] = len(curve), curve
            step = hopeless(pruner, search.prune_mode, curves_of(self.study.records()), curve)
            return None if step is None else f"{figure} {dict(curve)[step]:.4g} at step {step}"

        return look

    def _last_figures(self, record: Record, name: str) -> tuple[dict[str, float], str | None]:
        """The last value of every figure that a training has logged, and what is wrong with them, if anything is."""
        path = training.run_folder(folder_of(self.study.folder, record.number), name) / "metrics.csv"
        figures = read_metrics(path)
        last = {figure: curve[-1][1] for figure, curve in figures.items()}
        if self.study.search.prune_by in figures and name.startswith("seed_"):
            record.curves[name.removeprefix("seed_")] = figures[self.study.search.prune_by]
        for objective in self.study.search.logged:
            if objective not in last:
                near = get_close_matches(objective, last, n=3, cutoff=0.4) or sorted(last)
                return last, f"objective {objective} is logged by nobody; this training logged {', '.join(near)}"
            if not math.isfinite(last[objective]):
                return last, f"{objective} is {last[objective]}: it diverged"
        return last, None

    def _check_feasible(self) -> None:
        """Give up when candidate after candidate misses the constraints, or cannot be built.

        Raises:
            ValueError: Saying which constraint is missed, and by how much.
        """
        rejected, search = list(self._rejected), self.study.search
        if len(rejected) < GIVE_UP:
            return
        missed = Counter(filter(None, (out_of(search.constraints, record.costs) for record in rejected)))
        told = []
        for name, times in missed.most_common():
            low, high = search.constraints[name]
            values = [record.costs[name] for record in rejected if name in record.costs]
            told.append(
                f"{name} must be from {low:.4g} to {high:.4g}, and was from {min(values):.4g} to {max(values):.4g}"
                f" (missed by {times})"
            )
        unbuilt = [record.reason for record in rejected if not record.costs]
        told += [f"{len(unbuilt)} cannot be built, such as the last: {unbuilt[-1]}"] if unbuilt else []
        raise ValueError(
            f"none of the last {len(rejected)} candidates meets the constraints, so none was trained: {'; '.join(told)}"
        )

    def _check_first(self) -> None:
        """Give up when nothing has worked since the study began.

        Raises:
            ValueError: With the reason of the first failure.
        """
        ended = [record for record in self.study.records() if record.state not in ("running", "rejected")]
        failed = [record for record in ended if record.state == "failed"]
        nobody = [record for record in failed if "logged by nobody" in record.reason]
        if len(failed) == len(ended) and (len(failed) >= FIRST or nobody):
            first = (nobody or failed)[0]
            log = folder_of(self.study.folder, first.number)
            raise ValueError(
                f"{'the first training has' if len(ended) == 1 else f'all {len(ended)} trainings have'} failed, and "
                f"the search ends: {first.reason} (its output is in {log})"
            )
