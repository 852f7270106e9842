"""Classes and functions of ``__main__``: scripts that are run as a user runs them, over several backends."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PLACES = {
    "fork": {"compute": "process?start=fork", "workers": 2},
    "fresh": {"compute": "process?start=fresh", "workers": 2},
    "serial": {"compute": "serial"},
    "durable": {"compute": "process", "workers": 2, "durable": True},
    "http": {},
}


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    settings = PLACES[request.param] or request.getfixturevalue("http_site")
    return {"storage": f"file://{tmp_path}/store", **settings}


def run_script(folder, place, body):
    """Run a script whose `executor` is at a place; returns what it printed."""
    path = folder / "script.py"
    before = f"from core import FunctionExecutor\n\ndef open_executor():\n    return FunctionExecutor(**{place!r})\n\n"
    path.write_text(before + textwrap.dedent(body))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_value_that_comes_back_changes_no_class_and_reads_the_globals_of_now(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        FACTOR = 1

        class Job:
            done = 0
            def __init__(self, x):
                self.x = x
            def scaled(self):
                return self.x * FACTOR

        if __name__ == "__main__":
            with open_executor() as executor:
                for future in executor.map(lambda job: job, [Job(i) for i in range(6)], batch_size=1):
                    job = future.result(60)
                    assert type(job) is Job
                    Job.done += 1
                FACTOR = 10
                print(Job.done, job.scaled())
        """,
    )

    assert shown == ["6", "50"]


def test_each_call_has_the_classes_and_globals_as_they_were_when_it_was_made(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        LIMIT = 1

        class Job:
            size = 1
            extra = "there"
            def told(self):
                return self.size, LIMIT, getattr(self, "extra", "gone")

        def tell(job):
            return (*job.told(), LIMIT)

        if __name__ == "__main__":
            with open_executor() as executor:
                first = executor.map(tell, [Job()] * 4, batch_size=1).results(60)
                Job.size, LIMIT = 2, 2
                del Job.extra
                second = executor.map(tell, [Job()] * 4, batch_size=1).results(60)
                print(*set(first), *set(second), (Job.size, LIMIT))
        """,
    )

    assert "".join(shown) == "(1,1,'there',1)(2,2,'gone',2)(2,2)"


def test_calls_that_take_turns_in_one_worker_keep_their_own_state_of_a_class(tmp_path, place):
    shown = (
        run_script(
            tmp_path,
            {**place, "workers": 1},
            """
        import itertools
        from core import worker_resource

        class Job:
            size = 0

        @worker_resource
        def made():
            return Job()

        def tell(x):
            return Job.size, isinstance(made(), Job), isinstance(x, Job)

        def items(count):
            for _ in range(count):
                yield Job()

        if __name__ == "__main__":
            with open_executor() as executor:
                jobs = []
                for Job.size in range(3):
                    jobs.append(executor.map(tell, items(20), batch_size=1))
                for size, futures in enumerate(jobs):
                    assert set(futures.results(60)) == {(size, True, True)}, futures.results()
                print("kept")
        """,
        )
        if place["compute"] != "serial"
        else ["kept"]
    )

    assert shown == ["kept"]


def test_a_definition_travels_once_and_not_with_every_value(tmp_path, place):
    there, back = run_script(
        tmp_path,
        place,
        """
        class Table:
            taken_apart = 0
            def __reduce__(self):
                Table.taken_apart += 1
                return Table, ()

        class Job:
            table = Table()

        def work(job):
            return job, Table.taken_apart

        def items():
            for _ in range(200):
                yield Job()

        if __name__ == "__main__":
            with open_executor() as executor:
                results = executor.map(work, items(), batch_size=2).results(60)
                assert all(type(job) is Job for job, _ in results)
                print(Table.taken_apart, max(count for _, count in results))
        """,
    )

    assert int(there) == 1
    assert int(back) <= 1


def test_what_scientists_define_in_a_script_goes_to_workers_and_comes_back_as_itself(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        import abc, dataclasses, enum, functools
        from typing import Generic, NamedTuple, Protocol, TypedDict, TypeVar, runtime_checkable

        @dataclasses.dataclass(slots=True)
        class Slotted:
            x: int
            parts: list = dataclasses.field(default_factory=list)

        @dataclasses.dataclass(frozen=True, slots=True)
        class Frozen:
            x: int = 1

        class Private:
            __slots__ = ("__value", "__weakref__")
            def __init__(self, value):
                self.__value = value
            def value(self):
                return self.__value

        class Mode(enum.Enum):
            A = 1
            B = 2
            ALIAS = 1

        class Planet(enum.Enum):
            EARTH = (5.9e24, 6.3e6)
            def __init__(self, mass, radius):
                self.mass, self.radius = mass, radius

        class Access(enum.Flag):
            READ = 1
            WRITE = 2

        class Name(str, enum.Enum):
            X = "x"

        class Plugin:
            registry = []
            def __init_subclass__(cls, label, **options):
                super().__init_subclass__(**options)
                Plugin.registry.append(label)

        class First(Plugin, label="first"):
            pass

        class Meta(type):
            made = []
            def __new__(meta, name, bases, space, **options):
                cls = super().__new__(meta, name, bases, space)
                Meta.made.append(name)
                return cls
            def __init__(cls, name, bases, space, **options):
                super().__init__(name, bases, space)

        class Made(metaclass=Meta, option=1):
            pass

        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...

        class Square(Shape):
            def area(self):
                return 4

        @Shape.register
        class Virtual:
            pass

        class Point(NamedTuple):
            x: int
            y: int = 2

        T = TypeVar("T")

        class Box(Generic[T]):
            def __init__(self, held: T):
                self.held = held

        class IntBox(Box[int]):
            pass

        @runtime_checkable
        class Closes(Protocol):
            def close(self): ...

        class Closed(Closes):
            def close(self):
                return "closed"

        class Options(TypedDict):
            depth: int

        class Lazy:
            @functools.cached_property
            def answer(self):
                return 42
            @staticmethod
            def fixed():
                return 1
            @classmethod
            def made(cls):
                return cls()
            @property
            def double(self):
                return 2 * self.answer

        @functools.lru_cache(maxsize=10)
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        @functools.cache
        def once(x):
            return object()

        @functools.singledispatch
        def kind(x):
            return "something"

        @kind.register
        def _(x: int):
            return "number"

        @kind.register
        def _(x: Slotted):
            return "slotted"

        def plain(x):
            return x

        def logged(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper

        @logged
        def wrapped(x):
            return x + 1

        class Demanding(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a} {b}")
                self.b = b

        VALUES = [
            Slotted(1), Frozen(2), Private(3), Square(), Point(1), Box(1), IntBox(2), Closed(), Lazy(), First(), Made(),
            Demanding(1, 2), Virtual(),
        ]
        SAME = [
            Mode.A, Mode.B, Access.READ, Access.READ | Access.WRITE, Name.X, Planet.EARTH,
            Slotted, Mode, Meta, Made, Point, Box, Closes, Options, fib, once, kind, plain, wrapped, First, Plugin, T,
        ]

        def check(value):
            assert fib(20) == 6765
            assert (kind(2), kind(Slotted(1)), kind("x")) == ("number", "slotted", "something")
            assert dataclasses.replace(Slotted(1), x=2) == Slotted(2)
            assert dataclasses.fields(Slotted)[0].default is dataclasses.MISSING
            assert not hasattr(Slotted(1), "__dict__")
            assert Mode.A is Mode(1) is Mode["ALIAS"] and Planet.EARTH.mass > Planet.EARTH.radius
            assert Plugin.registry == ["first"] and Meta.made == ["Made"], (Plugin.registry, Meta.made)
            assert isinstance(Virtual(), Shape) and isinstance(Square(), Shape) and Square().area() == 4
            assert isinstance(Closed(), Closes) and IntBox.__orig_bases__ == (Box[int],)
            assert Lazy().double == 84 and Lazy.made().fixed() == 1 and wrapped(1) == 2
            assert once(1) is once(1)
            try:
                Shape()
            except TypeError:
                return value

        if __name__ == "__main__":
            with open_executor() as executor:
                for value, back in zip(VALUES, executor.map(check, [[v] for v in VALUES]).results(60)):
                    assert type(back[0]) is type(value), value
                for value, back in zip(SAME, executor.map(check, [[v] for v in SAME]).results(60)):
                    assert back[0] is value, (value, back[0])
                for value, back in zip(VALUES, executor.map(lambda x: x, VALUES).results(60)):
                    assert type(back) is type(value), value
                for value in SAME:
                    assert executor.submit(lambda x=value: [x]).result(60)[0] is value, value
            assert Plugin.registry == ["first"] and Meta.made == ["Made"]
            assert executor.config.storage
            print("all")
        """,
    )

    assert shown == ["all"]


def test_whatever_a_script_defines_works_in_workers_and_comes_back(tmp_path, place):
    body = (Path(__file__).parent / "definitions_script.py").read_text()

    assert run_script(tmp_path, place, body) == ["all"]


def test_futures_of_a_job_inside_a_task_give_the_drivers_own_classes(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        class Job:
            size = 1
            def __init__(self, x):
                self.x = x

        def outer(x, storage):
            with FunctionExecutor("process", storage.address, workers=1, durable=True) as inner:
                return inner.map(Job, range(x))

        if __name__ == "__main__":
            with open_executor() as executor:
                futures = executor.map(outer, [3])[0].result(60)
                Job.size = 2
                print([(type(job) is Job, job.x, job.size) for job in executor.get_result(futures)])
        """,
    )

    assert "".join(shown) == "[(True,0,2),(True,1,2),(True,2,2)]"


def test_items_and_results_of_local_modules_travel_where_workers_cannot_import_them(tmp_path, place):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_mine.py").write_text(
        "import enum\n\n"
        "SCALE = 2\n\n"
        "class Mode(enum.Enum):\n    A = 1\n\n"
        "class Item:\n"
        "    def __init__(self, x):\n        self.x = x\n"
        "    def scaled(self):\n        return Result(self.x * SCALE)\n\n"
        "class Result:\n"
        "    def __init__(self, x):\n        self.x, self.mode = x, Mode.A\n"
    )

    shown = run_script(
        tmp_path,
        place,
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path / "mine")!r})
        import of_mine

        if __name__ == "__main__":
            with open_executor() as executor:
                results = executor.map(lambda item: item.scaled(), [of_mine.Item(i) for i in range(4)]).results(60)
                assert all(type(r) is of_mine.Result and r.mode is of_mine.Mode.A for r in results)
                print(*(r.x for r in results))
        """,
    )

    assert shown == ["0", "2", "4", "6"]


def test_functions_of_a_call_share_their_globals_and_variables(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        COUNT = 0

        def count():
            global COUNT
            COUNT += 1

        class Reader:
            def read(self):
                return COUNT

        def pair():
            total = 0
            def add():
                nonlocal total
                total += 1
            return add, lambda: total

        add, total = pair()

        def work(reader):
            count()
            add()
            return reader.read(), COUNT, total()

        if __name__ == "__main__":
            with open_executor() as executor:
                print(*executor.submit(work, Reader()).result(60), COUNT, total())
        """,
    )

    assert shown == ["1", "1", "1", *(["1", "1"] if place["compute"] == "serial" else ["0", "0"])]


def test_a_class_that_a_worker_makes_comes_back_once_and_knows_its_own_again(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        class Base:
            seen = []
            def __init_subclass__(cls, tag):
                Base.seen.append(tag)

        KEPT = {}

        def make(x):
            if "Late" not in KEPT:
                class Late(Base, tag="late"):
                    pass
                KEPT["Late"] = Late
            return KEPT["Late"]()

        def again(late):
            return isinstance(late, Base), type(late).__name__, late

        if __name__ == "__main__":
            with open_executor() as executor:
                made = executor.map(make, range(3), batch_size=3).results(60)
                assert type(made[0]) is type(made[1]) and isinstance(made[0], Base)
                is_base, name, back = executor.map(again, made).results(60)[0]
                assert type(back) is type(made[0])
                print(is_base, name, Base.seen)
        """,
    )

    assert shown[:2] == ["True", "Late"]
    assert shown[2:] == ["[]"] or place["compute"] == "serial"


def test_an_object_that_cannot_be_sent_says_so_and_spares_the_others(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        import threading
        from core.errors import SerializationError

        class Guarded:
            lock = threading.Lock()

        if __name__ == "__main__":
            with open_executor() as executor:
                futures = executor.map(lambda x: 1, [[1], Guarded(), [2]], batch_size=3)
                error = futures[1].exception(60)
                assert isinstance(error, SerializationError), error
                assert "lock" in str(error) and "inside" in str(error), error
                print(futures[0].result(60), futures[2].result(60))
        """,
    )

    assert shown == ["1", "1"]


def test_a_process_that_takes_up_a_job_reads_results_of_classes_that_it_does_not_have(tmp_path):
    store = f"file://{tmp_path}/store"
    place = {"storage": store, "compute": "process", "workers": 1, "durable": True}
    (job,) = run_script(
        tmp_path,
        place,
        """
        class Result:
            unit = "m"
            def __init__(self, x):
                self.x = x
            def shown(self):
                return f"{self.x}{self.unit}"

        def work(x):
            return Result(x), work

        if __name__ == "__main__":
            executor = open_executor()
            futures = executor.map(work, range(3))
            futures.results(60)
            print(futures.job_id, flush=True)
            import os
            os._exit(0)
        """,
    )

    shown = run_script(
        tmp_path,
        place,
        f"""
        if __name__ == "__main__":
            executor = FunctionExecutor.attach({job!r}, {store!r}, compute="process", workers=1)
            with executor:
                results = executor.get_result(timeout=60)
            print(*(r.shown() for r, _ in results), len({{type(r) for r, _ in results}}), results[0][1](7)[0].shown())
        """,
    )

    assert shown == ["0m", "1m", "2m", "1", "7m"]


def test_workers_that_are_drivers_pass_classes_on(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        class Job:
            size = 3
            def __init__(self, x):
                self.x = x

        def inner(job):
            job.x *= Job.size
            return job

        def outer(job):
            Job.size = 4
            with FunctionExecutor("process", workers=1) as nested, FunctionExecutor("serial") as here:
                once = nested.map(inner, [job]).results(60)[0]
                twice = here.map(inner, [once]).results()[0]
            assert type(once) is type(twice) is Job
            return twice, Job.size

        if __name__ == "__main__":
            with open_executor() as executor:
                job, size = executor.submit(outer, Job(2)).result(60)
                print(type(job) is Job, job.x, size)
        """,
    )

    assert shown == ["True", "32", "4"]


@pytest.mark.parametrize("start", ["fork", "fresh"])
@pytest.mark.parametrize("reload", [True, False], ids=["reloaded", "on disk alone"])
def test_the_function_that_runs_is_the_one_that_the_driver_has_now(tmp_path, start, reload):
    (tmp_path / "user.py").write_text("import edited\n\ndef g(x):\n    return edited.f(x), edited.Item([x])\n")
    (tmp_path / "edited.py").write_text("class Item(list): pass\n\ndef f(x):\n    return x + 1\n")

    shown = run_script(
        tmp_path,
        {**PLACES[start], "storage": f"file://{tmp_path}/store"},
        f"""
        import importlib, pathlib, sys
        sys.path.insert(0, {str(tmp_path)!r})
        import edited, user

        def inside(x):
            import edited
            return edited.f(x)

        if __name__ == "__main__":
            with open_executor() as executor:
                jobs = [edited.f, inside, lambda x: user.g(x)[0], lambda x: edited.f(x)]
                before = [executor.submit(f, 1).result(60) for f in jobs]
                pathlib.Path("edited.py").write_text("class Item(list): pass\\n\\ndef f(x):\\n    return x + 100\\n")
                if {reload}:
                    importlib.reload(edited)
                jobs[0] = edited.f
                after = [executor.submit(f, 1).result(60) for f in jobs]
                here = [f(1) for f in jobs]
                assert before == [2] * 4, before
                assert after[:1] + after[2:] == here[:1] + here[2:], (after, here)
                assert not {reload} or after == here, (after, here)
                assert type(executor.submit(user.g, 1).result(60)[1]) is edited.Item
                print("now")
        """,
    )

    assert shown == ["now"]


@pytest.mark.parametrize("durable", [False, True], ids=["direct", "durable"])
@pytest.mark.parametrize("start", ["fork", "fresh"])
def test_a_module_that_tasks_alone_import_is_read_again_when_it_has_changed(tmp_path, start, durable):
    place = {**PLACES[start], "storage": f"file://{tmp_path}/store", "durable": durable}
    shown = run_script(
        tmp_path,
        place,
        """
        import pathlib, sys
        sys.dont_write_bytecode = True

        def told(x):
            import outer
            return outer.told()

        def write(text):
            pathlib.Path("inner.py").write_text(f"def told(): return {text!r}")
            pathlib.Path("outer.py").write_text("from inner import told")

        if __name__ == "__main__":
            write("old")
            with open_executor() as executor:
                print(*set(executor.map(told, range(8), batch_size=1).results(60)))
                write("the newer one")
                print(*set(executor.map(told, range(8), batch_size=1).results(60)))
        """,
    )

    assert " ".join(shown) == "old the newer one"


@pytest.mark.parametrize("known", [False, True], ids=["to tasks alone", "to the driver too"])
def test_a_package_that_has_changed_is_read_again_with_the_folders_in_it_that_are_no_packages(tmp_path, known):
    (tmp_path / "lab" / "inner").mkdir(parents=True)
    shown = run_script(
        tmp_path,
        PLACES["fork"],
        f"""
        import pathlib, sys
        sys.dont_write_bytecode = True

        def told(x):
            from lab.inner import again
            return again.told()

        def write(text):
            pathlib.Path("lab/__init__.py").write_text(f"TEXT = {{text!r}}")
            pathlib.Path("lab/inner/again.py").write_text("from lab import TEXT\\ndef told(): return TEXT")

        if __name__ == "__main__":
            write("old")
            if {known}:
                import lab.inner.again
            with open_executor() as executor:
                print(*set(executor.map(told, range(8), batch_size=1).results(60)))
                write("the newer one")
                print(*set(executor.map(told, range(8), batch_size=1).results(60)))
        """,
    )

    assert " ".join(shown) == "old the newer one"


def test_the_main_module_itself_is_as_the_driver_has_it_now(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        import threading
        import __main__

        LIMIT, LOCK = 1, threading.Lock()

        def told(x):
            return __main__.LIMIT

        if __name__ == "__main__":
            with open_executor() as executor:
                print(executor.submit(told, 0).result(60))
                LIMIT = 2
                print(executor.submit(told, 0).result(60))
        """,
    )

    assert shown == ["1", "2"]


def test_functions_of_random_that_a_script_imports_draw_other_numbers_in_each_worker_and_call(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        from random import choice, random
        from numpy.random import normal
        from scipy.stats import norm

        def draw(x):
            return random(), choice(range(10**12)), normal(), float(norm.rvs())

        if __name__ == "__main__":
            with open_executor() as executor:
                drawn = [row for _ in range(2) for row in executor.map(draw, range(20), batch_size=1).results(60)]
                print(*[len(set(column)) for column in zip(*drawn)])
        """,
    )

    assert shown == ["40"] * 4


def test_the_environment_is_that_of_the_task_and_never_travels(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        import os
        from os import environ, environb
        from core.serialization import dumps
        from core.task.call import Call, dump_call

        environ["PASSWORD_OF_THE_DRIVER"] = "correct horse"

        def told(x):
            return environ.get("COLOUR"), environb.get(b"COLOUR"), os.environ.get("COLOUR")

        if __name__ == "__main__":
            with open_executor() as executor:
                print(*executor.map(told, [0], extra_env={"COLOUR": "red"}).results(60)[0])
            travels = dump_call(Call(told, "item"), (), False).data + dumps(environ)
            print(b"horse" in travels)
        """,
    )

    assert shown == ["red", "b'red'", "red", "False"]


def test_a_generator_that_goes_along_with_a_function_is_told_once(tmp_path, place):
    shown = run_script(
        tmp_path,
        place,
        """
        import logging, sys
        import numpy as np

        logging.basicConfig(stream=sys.stdout, format="%(message).35s")
        rng = np.random.default_rng(1)

        if __name__ == "__main__":
            with open_executor() as executor:
                for _ in range(3):
                    executor.map(lambda x: rng.random(), [1, 2]).results(60)
                    executor.map(lambda own: own.random(), [np.random.default_rng(1)]).results(60)
        """,
    )

    assert " ".join(shown) == "a function takes a random generator"


def test_a_changed_module_that_cannot_travel_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "edited.py").write_text(
        "import threading\nlock = threading.Lock()\n\ndef f(x):\n    return lock and x\n"
    )

    shown = run_script(
        tmp_path,
        {**PLACES["fork"], "storage": f"file://{tmp_path}/store"},
        """
        import importlib, pathlib
        import edited
        from core.errors import SerializationError

        if __name__ == "__main__":
            with open_executor() as executor:
                executor.submit(edited.f, 1).result(60)
                path = pathlib.Path("edited.py")
                path.write_text(path.read_text() + "# more\\n")
                try:
                    executor.submit(edited.f, 1)
                except SerializationError as error:
                    print("new executor" in str(error), "edited has changed" in str(error))
        """,
    )

    assert shown == ["True", "True"]


def test_items_of_ever_new_classes_are_sent_by_themselves_in_the_end(tmp_path):
    shown = run_script(
        tmp_path,
        {**PLACES["fresh"], "storage": f"file://{tmp_path}/store"},
        """
        from collections import namedtuple

        def rows():
            for number in range(50):
                yield namedtuple(f"Row{number}", ["x"])(number)

        if __name__ == "__main__":
            with open_executor() as executor:
                made = list(rows())
                back = executor.map(lambda row: [row], [[row] for row in made], batch_size=1).results(60)
                assert [row[0][0] for row in back] == made
                assert all(type(row[0][0]) is type(one) for row, one in zip(back, made))
                print(len(executor.map(lambda row: row.x, rows()).results(60)))
        """,
    )

    assert shown == ["50"]


def test_a_subclass_that_its_library_refuses_to_make_again_says_what_helps(tmp_path):
    (tmp_path / "library.py").write_text(
        "class Plugin:\n    def __init_subclass__(cls, name):\n        cls.name = name\n"
    )

    shown = run_script(
        tmp_path,
        {**PLACES["fresh"], "storage": f"file://{tmp_path}/store"},
        """
        import library

        class Mine(library.Plugin, name="mine"):
            pass

        if __name__ == "__main__":
            with open_executor() as executor:
                print(executor.map(lambda x: 1, [Mine()])[0].exception(60))
        """,
    )

    assert "Mine cannot be made again in another process" in " ".join(shown)
    assert "define it in a module that workers can import" in " ".join(shown)


def test_the_state_of_a_class_is_let_go_with_it(tmp_path):
    shown = run_script(
        tmp_path,
        {**PLACES["fork"], "workers": 1, "storage": f"file://{tmp_path}/store"},
        """
        import gc

        def job():
            class Job:
                def held(self):
                    return type(self)
            return Job()

        def known(_):
            from core.serialization.tokens import registry
            gc.collect()
            return len(registry.states), len(registry._tokens)

        if __name__ == "__main__":
            with open_executor() as executor:
                before = None
                for _ in range(80):
                    executor.submit(lambda x: x.held() is type(x), job()).result(60)
                    before = before or executor.submit(known, 0).result(60)
                after = executor.submit(known, 0).result(60)
                print(after[0] < before[0] + 50, after[1] < before[1] + 200)
                from core.serialization.tokens import registry
                gc.collect()
                print(len(registry._tokens) < 50)
        """,
    )

    assert shown == ["True", "True", "True"]
