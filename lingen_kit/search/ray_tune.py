"""A search on a cluster: Ray Tune places the trainings, the study hands out the candidates.

Every sample of Tune's is one candidate that its process fetches from the study, so what is drawn, kept and resumed is
the same with Ray as without. All machines must see the folders of the study and of the config files under the same
paths, as Tune's own storage asks for; give the study `storage: journal`, or the URL of a database, as SQLite and
network file systems do not go together.
"""

import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lingen_kit.errors import MissingPackage
from lingen_kit.search.engine import Engine, Verbs
from lingen_kit.search.study import Study
from lingen_kit.search.training import prepare

try:
    import ray
    from ray import tune
except ImportError as error:
    raise MissingPackage("--backend ray needs the package ray: pip install 'lingen_kit[ray]'") from error


def run_on_ray(study: Study, verbs: Verbs, modules: list[str], workers: int | None, threads: int, gpus: float) -> None:
    """Work on a study with the machines of a Ray cluster, that of the environment or a new one on this machine.

    Args:
        study: The study.
        verbs: What trains.
        modules: What a training imports.
        workers: Trainings at a time; None for as many as there is room for.
        threads: Cores of each.
        gpus: GPUs of each.

    Raises:
        ValueError: As `Engine.run`.
    """
    begun = not ray.is_initialized()
    if begun:
        path = os.pathsep.join(part for part in sys.path if part)
        # Tune would start each training in a folder of its own, where no path of a config holds.
        variables = {"PYTHONPATH": path, "RAY_CHDIR_TO_TRIAL_DIR": "0"}
        ray.init(runtime_env={"env_vars": variables}, log_to_driver=False, include_dashboard=False)
    try:
        place = partial(_tune, study, verbs, modules, workers, threads, gpus)
        place(_candidate, study.left())
        if study.search.proxy is not None:
            place(_longer, study.search.proxy.top + study.search.proxy.random)
    finally:
        if begun:
            ray.shutdown()


def _tune(
    study: Study,
    verbs: Verbs,
    modules: list[str],
    workers: int | None,
    threads: int,
    gpus: float,
    work: Any,
    samples: int,
) -> None:
    if not samples:
        return
    fixed = {
        "cwd": os.getcwd(),
        "folder": str(study.folder.absolute()),
        "verbs": verbs,
        "modules": modules,
        "threads": threads,
    }
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(work, fixed=fixed), {"cpu": threads, "gpu": gpus}),
        tune_config=tune.TuneConfig(num_samples=samples, max_concurrent_trials=workers),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(study.folder.absolute()),
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=1,
        ),
    )
    errors = tuner.fit().errors
    if errors:
        raise ValueError(_told(errors[0]))


def _candidate(config: dict[str, Any], fixed: dict[str, Any]) -> None:
    """Fetch candidates until one is trained, and report it to Tune."""
    engine = _engine(fixed)
    while record := engine.step(0):
        if record.state != "rejected":
            figures = {name: record.mean(name) for name in engine.study.search.objectives}
            tune.report(
                {
                    "trial": record.number,
                    "state": record.state,
                    **{k: v for k, v in figures.items() if not math.isnan(v)},
                }
            )
            return


def _longer(config: dict[str, Any], fixed: dict[str, Any]) -> None:
    record = _engine(fixed).step_longer(0)
    if record:
        tune.report({"trial": record.number})


def _engine(fixed: dict[str, Any]) -> Engine:
    os.chdir(fixed["cwd"])
    prepare(fixed["modules"])
    return Engine(Study(Path(fixed["folder"])), fixed["verbs"], 1, fixed["threads"])


def _told(error: Exception) -> str:
    """The error of the search itself, out of what Ray wraps around it."""
    text = str(error)
    lines = [line for line in text.splitlines() if line.startswith("ValueError: ")]
    return lines[-1].removeprefix("ValueError: ") if lines else text
