"""Where workers may be forked from the driver, and where they must start fresh: in drivers of their own."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from core import FunctionExecutor, locks

LOCKED = """
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int held;

static void *hold(void *unused) {
    pthread_mutex_lock(&lock);
    held = 1;
    for (;;) pause();
}

void start(void) {
    pthread_t thread;
    pthread_create(&thread, 0, hold, 0);
    while (!*(volatile int *)&held) usleep(100);
}

int use(void) {
    if (held) pthread_mutex_lock(&lock);
    return 7;
}
"""

FORKED = """
from core import FunctionExecutor
with FunctionExecutor("process", workers=2) as executor:
    print(executor.map(run, range(4), batch_size=1).results(60))
    parent = executor._backend._table.forkserver.pid
    print("forked" if open(f"/proc/{parent}/cmdline").read() == open("/proc/self/cmdline").read() else "fresh")
"""


def driven(script, *arguments):
    command = [sys.executable, "-c", script + FORKED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout.splitlines()


def require(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: pip install {name}")


def test_a_native_thread_of_any_library_makes_workers_start_fresh(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: apt-get install gcc")
    (tmp_path / "locked.c").write_text(LOCKED)
    library = str(tmp_path / "locked.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-pthread", "-o", library, tmp_path / "locked.c"], check=True)

    shown = driven(
        """
import ctypes, sys
path = sys.argv[1]
ctypes.CDLL(path).start()
def run(x):
    return ctypes.CDLL(path).use()
""",
        library,
    )

    assert shown == ["[7, 7, 7, 7]", "fresh"]


@pytest.mark.parametrize("module", ["numpy", "pandas", "scipy.linalg"])
def test_libraries_whose_threads_see_to_forks_keep_the_quick_start(module):
    shown = driven(
        f"""
import {module}, numpy
numpy.linalg.svd(numpy.ones((300, 300)))
def run(x):
    return round(float(numpy.linalg.norm(numpy.full((400, 400), x) @ numpy.ones((400, 400)))))
"""
    )

    assert shown == ["[0, 160000, 320000, 480000]", "forked"]


def test_polars_used_in_the_driver_makes_no_task_hang():
    require("polars")

    shown = driven(
        """
import polars
def run(x):
    return int(polars.DataFrame({"a": range(1000)}).group_by(polars.col("a") % 7).agg(polars.len())["len"].sum()) + x
run(0)
"""
    )

    assert shown == ["[1000, 1001, 1002, 1003]", "fresh"]


def test_arrow_used_in_the_driver_makes_no_task_hang():
    require("pyarrow")

    shown = driven(
        """
import pyarrow
def run(x):
    return pyarrow.table({"a": list(range(1000))}).group_by("a").aggregate([]).num_rows + x
run(0)
"""
    )

    assert shown[0] == "[1000, 1001, 1002, 1003]"


@pytest.mark.parametrize("start", ["fork", "fresh"])
def test_a_driver_with_more_than_a_thousand_open_files_has_workers(start):
    script = f"""
import os, resource
from core import FunctionExecutor
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
files = [open(os.devnull) for _ in range(1100)]
with FunctionExecutor("process?start={start}", workers=2) as executor:
    print(executor.map(abs, range(-3, 3)).results(60), executor.submit(abs, -4).result(60))
"""
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout

    assert shown == "[3, 2, 1, 0, 1, 2] 4\n"


def test_too_few_open_files_for_the_workers_are_told_with_the_remedy():
    script = """
import os, resource
from core import FunctionExecutor
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = [open(os.devnull) for _ in range(200)]
FunctionExecutor("process", workers=2).submit(abs, -4)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)

    assert "2 workers need about 64 open files beside the 20" in done.stderr
    assert "raise the limit with 'ulimit -n'" in done.stderr


class Anything:
    pass


@pytest.mark.parametrize("compute", ["serial", "process"])
def test_a_child_forked_while_another_thread_is_at_work_can_use_an_executor_of_its_own(compute):
    at_work, over = threading.Event(), threading.Event()

    def hold_every_lock():
        with contextlib.ExitStack() as held:
            for lock in locks._locks:
                held.enter_context(lock)
            at_work.set()
            over.wait(60)

    with FunctionExecutor("serial") as executor:
        executor.submit(abs, -1)
        thread = threading.Thread(target=hold_every_lock)
        thread.start()
        at_work.wait(60)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            with FunctionExecutor(compute) as own:
                results = own.map(lambda x: (Anything(), x), [1, 2]).results(20)
            os._exit([x for _, x in results] != [1, 2])
        status = os.waitpid(pid, 0)[1]
        over.set()
        thread.join()

    assert status == 0
