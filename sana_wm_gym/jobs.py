"""Many independent jobs: in this process, in several, on a Ray cluster, or a static shard of them.

A job is a picklable value, and what runs it a function of a module. Jobs may be run again after
their process was killed, so they should write whole files and skip what is there.

    launcher = Launcher("processes", workers=4)
    for job, result in launcher.run(function, shard_of(jobs, shard=0, shards=8)):
        ...
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, TypeVar

import cv2

from sana_wm_gym.checks import require_choice, require_integer

LAUNCHERS = ("processes", "ray")
RETRIES = 3
"""How often Ray runs a job again whose worker was killed, each time in a new worker."""

_RAY = {  # what Ray reads when it is imported, unless the user has set it otherwise
    "RAY_USAGE_STATS_ENABLED": "0",  # no report to its makers
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # no copy of the working folder
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a cluster started here stays on the loopback
}
_STORE_BYTES = 128 * 2**20  # Ray's shared memory: results are a few kB each

Job = TypeVar("Job")
Result = TypeVar("Result")


def shard_of(items: Sequence[Job], shard: int, shards: int) -> list[Job]:
    """Items shard, shard + shards, ...: those of one of several processes that share the work.

    Raises:
        ValueError: `shard` is not in [0, shards).
    """
    require_integer("shards", shards, 1)
    require_integer("shard", shard, 0, shards - 1)
    return list(items[shard::shards])


@dataclass(frozen=True)
class Launcher:
    """Where jobs run; the results are the same everywhere.

    Every machine of a Ray cluster must see the checkout and the jobs' folders under the paths that
    they have here.

    Attributes:
        name: One of `LAUNCHERS`; one worker of `processes` is this process.
        workers: Jobs at a time; a Ray cluster that already runs uses all its CPUs.
        ray_address: A Ray cluster that already runs, or `auto` for the one of this machine; None
            starts one here and stops it at the end.
    """

    name: str = "processes"
    workers: int = 1
    ray_address: str | None = None

    def __post_init__(self) -> None:
        require_choice("launcher", self.name, LAUNCHERS)
        require_integer("workers", self.workers, 1)
        if self.ray_address is not None and self.name != "ray":
            raise ValueError(f"ray_address is given with launcher={self.name}, expected ray")

    def run(
        self,
        function: Callable[[Job], Result],
        jobs: Sequence[Job],
        on_lost: Callable[[Job, str], Result] | None = None,
    ) -> Iterator[tuple[Job, Result]]:
        """Each job with its result when it is done, in any order.

        Args:
            function: Applied to every job.
            jobs: What to do.
            on_lost: Result of a job, from it and a reason, whose worker was killed each time that
                Ray tried it; None raises instead. The other jobs are unaffected.

        Raises:
            BrokenExecutor: A worker process died.
            RuntimeError: Ray's workers were killed and there is no `on_lost`.
            Exception: Whatever `function` raises.
            ImportError: `ray` is missing, or a worker of it cannot import what a job needs.
            ConnectionError: There is no cluster at the address, or none can be started.
        """
        workers = min(self.workers, len(jobs))
        if not jobs:
            return
        if self.name == "ray":
            with _cluster(workers, self.ray_address) as ray:
                yield from _ray_tasks(ray, function, jobs, on_lost)
        elif workers == 1:
            single_threaded()
            for job in jobs:
                yield job, function(job)
        else:
            yield from _processes(function, jobs, workers)


def single_threaded() -> None:
    """One thread per process: where tensors are small, threads that wait for each other cost more
    than they bring, and jobs run next to each other instead."""
    cv2.setNumThreads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when it is first imported


def _processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    # A fresh interpreter each: torch and OpenCV do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        futures = {pool.submit(function, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def _start_worker() -> None:
    single_threaded()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the process that started this one, also if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _ray_tasks(
    ray: Any,
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    on_lost: Callable[[Job, str], Result] | None,
) -> Iterator[tuple[Job, Result]]:
    """One CPU each."""
    ends = ray.exceptions
    died = (ends.WorkerCrashedError, ends.OutOfMemoryError, ends.NodeDiedError)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_run_there)
    running = {task.remote(function, job, os.getcwd()): job for job in jobs}
    while running:
        (done,), _ = ray.wait(list(running))
        job = running.pop(done)
        try:
            result, error = ray.get(done)
        except died as death:
            message = f"its worker died {RETRIES + 1} times ({type(death).__name__})"
            if on_lost is None:
                raise RuntimeError(f"{job}: {message}") from death
            result, error = on_lost(job, message), None
        except (ends.RaySystemError, RuntimeError) as unread:
            raise ImportError(
                f"a worker of Ray cannot read its job ({str(unread).splitlines()[-1]}); every "
                f"machine must see {os.getcwd()} and all that is imported under these paths"
            ) from unread
        if error is not None:
            raise error
        yield job, result


def _run_there(
    function: Callable[[Job], Result], job: Job, folder: str
) -> tuple[Result | None, Exception | None]:
    """Run a job in a worker of Ray, which starts in a folder of its own on other machines."""
    single_threaded()
    os.chdir(folder)
    try:
        return function(job), None
    except Exception as error:  # the job's own, not one of Ray's
        return None, error


@contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[Any]:
    """Ray, connected; a cluster started here listens to this machine alone, ends with the block
    and leaves no folder behind."""
    os.environ |= {name: value for name, value in _RAY.items() if name not in os.environ}
    try:
        import ray
    except ImportError as error:
        raise ImportError("launcher=ray needs ray: pip install sana_wm_gym[distributed]") from error
    # Workers import from the paths of this process; nothing is uploaded. The interpreter's own
    # folders need not be listed.
    paths = [
        os.path.abspath(p) for p in sys.path if not p.startswith((sys.prefix, sys.base_prefix))
    ]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with ExitStack() as ending:
        where: dict[str, Any] = {"address": address}
        if address is None:
            # For sockets, the length of whose paths is limited: TMPDIR may be too long.
            parent = "/tmp" if os.path.isdir("/tmp") else None
            folder = tempfile.TemporaryDirectory(
                prefix=f"ray{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
            )
            where = {
                "address": "local",
                "num_cpus": workers,
                "object_store_memory": _STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": ending.enter_context(folder),
            }
        try:
            ray.init(
                **where,
                runtime_env={"env_vars": variables},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        # It raises plain exceptions too, as on a time-out on a busy machine.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ConnectionError(f"Ray cannot be started or reached: {reason}") from error
        ending.callback(ray.shutdown)
        yield ray
