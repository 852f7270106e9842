"""What a script may define. Run by test_definitions, behind a definition of `open_executor`."""

# ruff: noqa: B006, B019, C901, B905, F821, PT018, UP045
import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import operator
import threading
import types
from collections.abc import Callable
from typing import NewType, Optional, ParamSpec, Protocol, TypeVar, TypeVarTuple

import numpy as np


class A:
    def who(self):
        return "A"


class B(A):
    def who(self):
        return "B" + super().who()


class C(A):
    def who(self):
        return "C" + super().who()


class D(B, C):
    def who(self):
        return "D" + super().who()


class Self:
    default = None

    def __init__(self, x=0):
        self.x = x

    def __eq__(self, o):
        return isinstance(o, Self) and o.x == self.x

    __hash__ = None


Self.default = Self(5)


class Named:
    def __set_name__(self, owner, name):
        self.name = name
        owner.noted = [*getattr(owner, "noted", []), name]

    def __get__(self, o, k=None):
        return self.name


class WithDesc:
    one = Named()
    two = Named()


class MetaP(type):
    @property
    def kind(cls):
        return cls.__name__.lower()

    def __len__(cls):
        return 7

    def __setattr__(cls, n, v):
        if n.startswith("x"):
            raise AttributeError(n)
        super().__setattr__(n, v)


class UsesMeta(metaclass=MetaP):
    pass


class ICode(enum.IntEnum):
    A = 1

    def double(self):
        return self * 2


class SCode(enum.StrEnum):
    A = enum.auto()

    @property
    def up(self):
        return self.upper()

    @classmethod
    def of(cls, x):
        return cls(x)

    def __str__(self):
        return "S" + self.value


class Own(enum.Enum):
    A = "a"

    def __new__(cls, v):
        o = object.__new__(cls)
        o._value_ = v
        o.extra = v * 2
        return o

    @classmethod
    def _missing_(cls, v):
        return cls.A


@dataclasses.dataclass
class Base1:
    a: int
    b: list = dataclasses.field(default_factory=lambda: [1])
    iv: dataclasses.InitVar[int] = 3
    _: dataclasses.KW_ONLY
    k: int = 1

    def __post_init__(self, iv):
        self.c = iv


@dataclasses.dataclass(order=True)
class Child(Base1):
    z: int = 2


@dataclasses.dataclass(slots=True)
class SlotParent:
    a: int = 1


@dataclasses.dataclass(slots=True)
class SlotChild(SlotParent):
    b: int = 2


class Meth:
    @functools.lru_cache
    def cached(self, x):
        return x * 2

    @staticmethod
    @functools.cache
    def st(x):
        return x * 3

    @functools.singledispatchmethod
    def sd(self, x):
        return "o"

    @sd.register
    def _(self, x: int):
        return "i"

    par = functools.partialmethod(lambda self, x, y: x + y, 1)

    def __call__(self, x):
        return x + 1

    @classmethod
    def cm(cls, x):
        return cls.__name__, x

    async def co(self, x):
        return x

    def gen(self):
        yield 1


def rec(n):
    return 1 if n < 2 else n * rec(n - 1)


def mutual():
    def even(n):
        return True if n == 0 else odd(n - 1)

    def odd(n):
        return False if n == 0 else even(n - 1)

    return even


even = mutual()


@contextlib.contextmanager
def ctx():
    yield 3


def with_class():
    G = 4

    class L:
        v = G

        def get(self):
            return (self.v, __class__.__name__, HIDDEN)

    return L


HIDDEN = "h"
L = with_class()


def body_global():
    class X:
        y = HIDDEN
        z = [HIDDEN for _ in range(1)]

    return X.y, X.z


UserId = NewType("UserId", int)
P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def deco(f: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(f)
    def w(*a: P.args, **k: P.kwargs) -> R:
        return f(*a, **k)

    return w


@deco
def decorated(x: UserId, y: Optional["A"] = None) -> "list[UserId]":
    return [x]


class Arr(np.ndarray):
    unit = "m"


Pt = collections.namedtuple("Pt", "x y", defaults=[1])


class Pt2(Pt):
    __slots__ = ()

    def norm(self):
        return self.x + self.y


class GP(Protocol[R]):
    def m(self) -> R: ...


class Cmp:
    def __init__(self, x):
        self.x = x

    def __lt__(self, o):
        return self.x < o.x

    def __eq__(self, o):
        return self.x == o.x


Cmp = functools.total_ordering(Cmp)


class Reduced:
    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return Reduced, (self.x,)


class GetState:
    def __init__(self):
        self.l = threading.Lock()
        self.x = 1

    def __getstate__(self):
        return {"x": self.x}

    def __setstate__(self, s):
        self.x = s["x"]
        self.l = threading.Lock()


class Attr:
    def __getattr__(self, n):
        if n.startswith("__"):
            raise AttributeError(n)
        return n


class Weak:
    __slots__ = ("__weakref__", "a")


def annotated(x: int = 3, *, y: "str" = "q") -> np.ndarray:
    return x, y


class Outer:
    class Inner:
        class Deep:
            v = 1


async def co(x):
    return x


def default_mut(x, acc=[]):
    acc.append(x)
    return acc


def check(payload):
    kind, v = payload
    if kind == "D":
        assert v.who() == "DBCA", v.who()
    if kind == "Self":
        assert type(v).default == Self(5) and type(Self.default) is Self
    if kind == "desc":
        assert (v.one, v.two, type(v).noted) == ("one", "two", ["one", "two"])
    if kind == "meta":
        assert type(v).kind == "usesmeta" and len(UsesMeta) == 7
    if kind == "icode":
        assert v.double() == 2 and isinstance(v, int)
    if kind == "scode":
        assert v.up == "A" and str(v) == "Sa" and SCode.of("a") is v and v == "a"
    if kind == "own":
        assert v.extra == "aa" and Own("zzz") is Own.A, vars(v)
    if kind == "base1":
        assert dataclasses.asdict(v) == {"a": 1, "b": [1], "k": 1} and v.c == 3 and Base1(1).b == [1]
    if kind == "child":
        assert (
            v < Child(5)
            and dataclasses.replace(v, z=5, iv=9).c == 9
            and dataclasses.fields(v)[0].default is dataclasses.MISSING
        )
    if kind == "slotc":
        assert not hasattr(v, "__dict__") and (v.a, v.b) == (1, 2)
    if kind == "meth":
        assert v.cached(2) == 4 and v.st(1) == 3 and v.sd(1) == "i" and v.sd("") == "o" and v.par(2) == 3 and v(1) == 2
        assert v.cm(1) == ("Meth", 1) and asyncio.run(v.co(3)) == 3 and list(v.gen()) == [1]
    if kind == "rec":
        assert v(5) == 120
    if kind == "even":
        assert v(10) is True and even(3) is False
    if kind == "ctx":
        with v() as x:
            assert x == 3
    if kind == "L":
        assert v.get() == (4, "L", "h") and type(v) is L
    if kind == "bg":
        assert v() == ("h", ["h"])
    if kind == "deco":
        assert v(1) == [1] and decorated(2) == [2]
    if kind == "arr":
        assert v.unit == "m" and v.sum() == 3
    if kind == "pt":
        assert v.norm() == 2 and Pt(1).y == 1
    if kind == "cmp":
        assert v >= Cmp(0) and not v < Cmp(0)
    if kind == "gs":
        assert v.x == 1 and v.l
    if kind == "attr":
        assert v.anything == "anything"
    if kind == "ann":
        assert v() == (3, "q") and v.__annotations__["return"] is np.ndarray
    if kind == "deep":
        assert v.v == 1 and type(v).__qualname__ == "Outer.Inner.Deep" and isinstance(v, Outer.Inner.Deep)
    if kind == "co":
        assert asyncio.run(v(3)) == 3
    if kind == "bound":
        assert v(1) == 2
    if kind == "cmb":
        assert v(1) == ("Meth", 1)
    if kind == "unbound":
        assert v(Meth(), 3) == 4
    if kind == "mut":
        assert len(v(1)) >= 1
    if kind == "partial":
        assert v() == 6
    return kind, v


def same(name, v, back):
    assert type(back) is type(v), name
    if isinstance(v, type | enum.Enum) or (isinstance(v, types.FunctionType) and "<locals>" not in v.__qualname__):
        assert back is v, name


WeakV = Weak()
WeakV.a = 1
CASES = [
    ("D", D()),
    ("Self", Self(3)),
    ("desc", WithDesc()),
    ("meta", UsesMeta()),
    ("icode", ICode.A),
    ("scode", SCode.A),
    ("own", Own.A),
    ("base1", Base1(1)),
    ("child", Child(1)),
    ("slotc", SlotChild()),
    ("meth", Meth()),
    ("rec", rec),
    ("even", even),
    ("ctx", ctx),
    ("L", L()),
    ("bg", body_global),
    ("deco", decorated),
    ("arr", np.arange(3).view(Arr)),
    ("pt", Pt2(1)),
    ("gp", GP),
    ("cmp", Cmp(1)),
    ("red", Reduced(1)),
    ("gs", GetState()),
    ("attr", Attr()),
    ("weak", WeakV),
    ("ann", annotated),
    ("deep", Outer.Inner.Deep()),
    ("co", co),
    ("bound", Meth().__call__),
    ("cmb", Meth.cm),
    ("unbound", Meth.__call__),
    ("mut", default_mut),
    ("partial", functools.partial(operator.add, 1, 5)),
    ("uid", UserId),
    ("ps", P),
    ("tv", R),
    ("ts", Ts),
    ("alias", dict[str, A]),
    ("opt", Optional[A]),
    ("cls", D),
    ("prop", [A, B]),
    ("lock-free", types.SimpleNamespace(a=A())),
]
if __name__ == "__main__":
    with open_executor() as ex:
        for (name, v), (_, back) in zip(
            CASES, ex.map(lambda pair: check(pair[0]), [[case] for case in CASES]).results(60)
        ):
            same(name, v, back)
        for name, v in CASES:
            same(name, v, ex.submit(lambda case=(name, v): check(case)).result(60)[1])
    print("all")
