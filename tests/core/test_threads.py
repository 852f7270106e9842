"""Numerical threads of workers, in drivers of their own; counted as the system counts them."""

import ctypes.util
import importlib.util
import os
import subprocess
import sys

import pytest

from core import ConfigError, FunctionExecutor
from core.compute.local.threads import usable_cores
from core.worker.agent import Agent

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")

DRIVER = """
import os, sys
from core import FunctionExecutor
def threads():
    return len(os.listdir("/proc/self/task"))
def run(x):
    import numpy
    numpy.ones((300, 300)) @ numpy.ones((300, 300))
    return threads()
if sys.argv[1] == "before":
    run(0)
with FunctionExecutor(sys.argv[2], workers=int(sys.argv[3])) as executor:
    print(set(executor.map(run, range(3), batch_size=1).results(60)))
"""

needs_cores = pytest.mark.skipif(usable_cores() < 2, reason="needs two processors")


def driven(when, compute, workers, **variables):
    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", DRIVER, when, compute, str(workers)]
    done = subprocess.run(command, env=plain | variables, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout.splitlines()[0]


@needs_cores
@pytest.mark.parametrize("start", ["fork", "fresh"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_workers_use_their_share_of_the_processors_wherever_numpy_was_loaded_first(when, start):
    assert driven(when, f"process?start={start}", usable_cores()) == "{1}"
    assert driven(when, f"process?start={start}", 1) == f"{{{usable_cores()}}}"


ASKED = {
    "pyarrow": "import pyarrow; number = pyarrow.cpu_count()",
    "numexpr": "import numexpr; number = numexpr.set_num_threads(1); numexpr.set_num_threads(number)",
    "numba": "import numba; number = numba.get_num_threads()",
    "gomp": "import ctypes; number = ctypes.CDLL('libgomp.so.1').omp_get_max_threads()",
}
SHARED = """
import sys
from core import FunctionExecutor
def run(code):
    scope = {}
    exec(code, scope)
    return scope["number"]
if sys.argv[2] == "imported":
    exec(sys.argv[1].partition(";")[0])
if sys.argv[2] == "asked":
    run(sys.argv[1])
for workers in map(int, sys.argv[3:]):
    with FunctionExecutor("process", workers=workers) as executor:
        print(executor.submit(run, sys.argv[1]).result(60))
"""


@needs_cores
@pytest.mark.parametrize("library", ASKED)
@pytest.mark.parametrize("when", ["imported", "asked", "in the worker alone"])
def test_thread_pools_of_other_libraries_have_the_workers_share_too(library, when):
    if library == "gomp" and ctypes.util.find_library("gomp") is None:
        pytest.skip("needs libgomp: apt-get install libgomp1")
    if library != "gomp" and importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}: pip install {library}")

    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", SHARED, ASKED[library], when, str(usable_cores()), "1"]
    shown = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=100, check=True).stdout

    assert shown.split() == ["1", str(usable_cores())]


@needs_cores
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_variable_of_the_users_own_wins(when):
    assert driven(when, "process", usable_cores(), OMP_NUM_THREADS="2") == "{2}"
    assert driven(when, "process", 1, OPENBLAS_NUM_THREADS="1") == "{1}"


@needs_cores
def test_an_option_of_the_address_says_how_many_threads_each_worker_has():
    assert driven("before", "process?threads=2", usable_cores()) == "{2}"


@pytest.mark.parametrize("option", ["threads=0", "threads=two", "start=later", "cores=1"])
def test_a_wrong_option_is_refused_with_those_there_are(option):
    with pytest.raises(ConfigError, match=rf"start=fork\|fresh and threads=N, not {option}"):
        FunctionExecutor(f"process?{option}")


def test_the_drivers_own_threads_are_as_before():
    script = """
import ctypes, re
import numpy
from core import FunctionExecutor
def number():
    path = next(line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line)
    library = ctypes.CDLL(path)
    names = [f"{a}openblas_get_num_threads{b}" for a in ("", "scipy_") for b in ("", "64_", "_64")]
    return next(getattr(library, name)() for name in names if hasattr(library, name))
before = number()
with FunctionExecutor("process?start=fork", workers=64) as executor:
    print(executor.submit(number).result(60), number() - before)
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)

    assert shown.stdout.split() == ["1", "0"]


def test_agents_of_one_process_share_its_processors(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    alone, crowded = Agent(), Agent(agents=4 * usable_cores())
    try:
        assert alone._backend.threads == usable_cores()
        assert crowded._backend.threads == 1
    finally:
        alone.close()
        crowded.close()
