"""Where jobs run: in this process, in several, or on a Ray cluster. The results are the same.

A launcher is a function of jobs and a number of workers that yields each job's result when it is
done, in any order. Jobs write what they do whole and go on where they stood, so a launcher may
run one again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import cv2

from sana_wm_gym.evaluation.control.jobs import Job, Launcher, Result, give_up, run_job

LAUNCHERS = ("processes", "ray")

_RETRIES = 3  # of a job whose worker was killed, each in a new worker
_RAY = {  # what Ray reads when it is imported, unless the user has set it otherwise
    "RAY_USAGE_STATS_ENABLED": "0",  # no report to its makers
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # no copy of the working folder
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a cluster started here stays on the loopback
}
_STORE_BYTES = 128 * 2**20  # Ray's shared memory: results are a few kB each


def launcher_of(name: str, ray_address: str | None = None) -> Launcher:
    """The launcher of this name.

    Args:
        name: One of `LAUNCHERS`.
        ray_address: A cluster that runs already, or `auto` for the one this machine is part of;
            None starts one here and stops it at the end.

    Raises:
        ValueError: There is none, or it takes no address.
    """
    if name == "ray":
        return partial(ray_tasks, address=ray_address)
    if name not in LAUNCHERS:
        raise ValueError(f"given launcher={name!r}; expected one of {', '.join(LAUNCHERS)}")
    if ray_address is not None:
        raise ValueError(f"given ray_address with launcher={name}; expected launcher=ray")
    return processes


def processes(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Side by side in processes of this machine; one worker stays in this process.

    Raises:
        BrokenExecutor: A worker died. What was done is kept.
    """
    if min(workers, len(jobs)) <= 1:
        single_threaded()
        yield from map(run_job, jobs)
        return
    # A fresh interpreter each: torch and OpenCV do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker) as pool:
        yield from _gather(pool, jobs)


def _gather(pool: Executor, jobs: Sequence[Job]) -> Iterator[Result]:
    futures: list[Future[Result]] = [pool.submit(run_job, job) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
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


def ray_tasks(jobs: Sequence[Job], workers: int, address: str | None = None) -> Iterator[Result]:
    """As Ray tasks of one CPU each. Every machine must see the checkout and the run's folders
    under the paths they have here.

    A job whose worker is killed is run again in another one, three times; then it is given up,
    with the code `worker_died`, and the others are unaffected.

    Args:
        jobs: What to do.
        workers: CPUs of the cluster that is started here; one that runs already uses all it has.
        address: See `launcher_of`.

    Raises:
        ImportError: `ray` is missing, or a worker cannot import what a job needs.
        ConnectionError: There is no cluster at the address, or none can be started.
    """
    if not jobs:
        return
    with _cluster(min(workers, len(jobs)), address) as ray:
        ends = ray.exceptions
        died = (ends.WorkerCrashedError, ends.OutOfMemoryError, ends.NodeDiedError)
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_run_there)
        running = {task.remote(job, os.getcwd()): job for job in jobs}
        while running:
            (done,), _ = ray.wait(list(running))
            job = running.pop(done)
            try:
                yield ray.get(done)
            except died as error:
                message = f"its worker died {_RETRIES + 1} times ({type(error).__name__})"
                yield give_up(job, "worker_died", message)
            except (ends.RaySystemError, RuntimeError) as error:
                raise ImportError(
                    f"a worker of Ray cannot read its job ({str(error).splitlines()[-1]}); every "
                    f"machine must see {os.getcwd()} and all that is imported under these paths"
                ) from error


def _run_there(job: Job, folder: str) -> Result:
    """Run a job in a worker of Ray, which starts in a folder of its own on other machines."""
    single_threaded()
    os.chdir(folder)
    return run_job(job)


@contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[Any]:
    """Ray, connected; a cluster started here listens to this machine alone, ends with the block
    and leaves no folder behind."""
    os.environ |= {name: value for name, value in _RAY.items() if name not in os.environ}
    try:
        import ray
    except ImportError as error:
        raise ImportError("launcher=ray needs ray: pip install sana_wm_gym[distributed]") from error
    with ExitStack() as ending:
        if address is None:
            where: dict[str, Any] = {
                "address": "local",
                "num_cpus": workers,
                "object_store_memory": _STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": ending.enter_context(_short_folder()),
            }
        else:
            where = {"address": address}
        try:
            ray.init(
                **where,
                runtime_env={"env_vars": _worker_variables()},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        # It raises plain exceptions too, as where a busy machine is too slow for its patience.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ConnectionError(f"Ray cannot be started or reached: {reason}") from error
        ending.callback(ray.shutdown)
        yield ray


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """For sockets, the length of whose paths is limited: TMPDIR may be too long."""
    where = "/tmp" if os.path.isdir("/tmp") else None
    return tempfile.TemporaryDirectory(prefix="ray", dir=where, ignore_cleanup_errors=True)


def _worker_variables() -> dict[str, str]:
    """What a worker imports lies where this process found it; nothing is uploaded."""
    own = (sys.prefix, sys.base_prefix)  # the interpreter knows these by itself
    paths = [os.path.abspath(path) for path in sys.path if not path.startswith(own)]
    return {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def single_threaded() -> None:
    """Networks and frames are small: threads that wait for each other cost more than they bring.
    Scenes run side by side instead."""
    cv2.setNumThreads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when a world first imports it
