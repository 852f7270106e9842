"""What computing costs: the bill of what has run, the estimate of what would, by the prices of ``prices.toml``."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.fields import parse_field, read_toml, row_of, setting
from core.parsers import number, several, text
from core.settings import Address, ExecutorConfig, parse_address, parse_size
from core.types import Bill, TaskStats, Usage

TABLE = Path(__file__).with_name("prices.toml")

_GB = 1 << 30
_HOUR = 3600.0
_SINCE = re.compile(r"20\d\d(-(0[1-9]|1[0-2]))?")


def _page(value: object) -> str:
    if not text(value).startswith("https://"):
        raise ValueError
    return text(value)


def _date(value: object) -> str:
    if _SINCE.fullmatch(text(value)) is None:
        raise ValueError
    return text(value)


def _dollars(doc: str) -> Any:
    return setting(0.0, number(0.0), "US dollars", doc)


@dataclass(frozen=True, slots=True)
class Price:
    """What a platform charges, in US dollars; `source` and `date` are empty where nothing is charged."""

    name: str = setting(MISSING, text, "text", "product and region")
    gb_second: float = _dollars("a second of 2**30 bytes of granted memory")
    vcpu_second: float = _dollars("a second of one virtual processor")
    invocation: float = _dollars("one call")
    put: float = _dollars("one storage request that writes or lists")
    get: float = _dollars("one storage request that reads")
    worker_hour: float = _dollars("one worker of a machine that is rented or owned")
    quantum: float = setting(0.0, number(0.0), "seconds", "time that the time of an invocation is rounded up to")
    memory: int = setting(0, parse_size, "a size such as 512MiB", "what a worker is granted where nothing else is said")
    hosts: tuple[str, ...] = setting((), several(text), "a list of endings", "hosts whose addresses mean the product")
    source: str = setting("", _page, "an https:// address", "page that publishes the price")
    date: str = setting("", _date, "a year, or a year and month such as 2026-05", "when the page was last seen")
    known: bool = True

    def charge(self, seconds: float, gb_seconds: float, invocations: int, puts: int, gets: int) -> float:
        """Return US dollars for seconds of workers with one virtual processor each, calls and storage requests."""
        return (
            gb_seconds * self.gb_second
            + seconds * (self.vcpu_second + self.worker_hour / _HOUR)
            + invocations * self.invocation
            + puts * self.put
            + gets * self.get
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would be charged.

    `seconds` are those of all invocations, as billed; `requests` those of its storage; `cost` is None where no price
    is known.
    """

    backend: str
    invocations: int
    seconds: float
    gb_seconds: float
    requests: int
    cost: float | None
    currency: str
    price: str
    price_date: str
    price_source: str


OWN = Price("your own machines")
_UNKNOWN = Price("no price is known", known=False)
_HOSTED = ("http", "https")


@cache
def prices() -> Mapping[str, Price]:
    """Return the published prices, by product."""
    return read_prices(TABLE)


def read_prices(path: Path) -> Mapping[str, Price]:
    """Return the prices of a file.

    Raises
    ------
    ConfigError
        A key is unknown, a value does not fit, or a price has no name, page or date.
    """
    return {product: _read_price(given, f"{path}: {product}") for product, given in read_toml(path).items()}


def _read_price(given: object, origin: str) -> Price:
    if not isinstance(given, dict) or not {"name", "source", "date"} <= given.keys():
        raise ConfigError(f"{origin} is no price; a price has at least a name, a source and a date")
    rows = ((name, row_of(Price, name, origin)) for name in given)
    return Price(**{row.name: parse_field(row, given[name], f"{origin}: {name} =") for name, row in rows})


def price_at(compute: Address, storage: Address | None = None, machine_price: float | None = None) -> Price:
    """Return what computing at an address costs, with the requests of a storage.

    Parameters
    ----------
    compute, storage : Address
        Where tasks run and durable jobs live.
    machine_price : float, optional
        US dollars an hour for a worker of one's own machines; nothing unless given.
    """
    price = _compute_price(compute)
    if price is OWN and machine_price:
        price = replace(OWN, worker_hour=machine_price)
    if storage is None or not _is_amazon(storage):
        return price
    requests = prices()["s3"]
    said_by = price if price.source else requests
    name = f"{price.name}; {requests.name}"
    return replace(price, put=requests.put, get=requests.get, name=name, source=said_by.source, date=said_by.date)


def _compute_price(compute: Address) -> Price:
    if compute.scheme == "lambda":
        is_arm = compute.options.get("architecture", "") == "arm64"
        return prices()["lambda-arm64" if is_arm else "lambda"]
    host = compute.where.partition("/")[0].partition(":")[0]
    for price in prices().values():
        if price.hosts and host.endswith(price.hosts):
            return price
    if compute.scheme in _HOSTED and "." in host and not host.replace(".", "").isdecimal():
        return _UNKNOWN
    return OWN


def _is_amazon(storage: Address) -> bool:
    endpoint = (
        storage.options.get("endpoint")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL", "")
    )
    return storage.scheme == "s3" and (not endpoint or ".amazonaws.com" in endpoint)


def price_of(config: ExecutorConfig, compute: str | None = None) -> Price:
    """Return the price at the addresses of a configuration, or at another compute address."""
    storage = parse_address(config.storage) if config.storage is not None and "://" in config.storage else None
    return price_at(parse_address(compute or config.compute), storage, config.machine_price)


NO_USAGE = Usage()


def bill(
    backend: str,
    rows: Iterable[TaskStats],
    memory: int | None,
    invocations: int,
    requests: int,
    price: Price,
    before: Usage = NO_USAGE,
) -> Bill:
    """Add up what tasks have cost.

    Parameters
    ----------
    backend : str
        Scheme of the compute address.
    rows : iterable of TaskStats
        One row a finished task.
    memory : int, optional
        Bytes each task was granted; by default what the platform grants, else each task's peak counts.
    invocations, requests : int
        Batches handed to the backend; requests made of the storage, each counted at the dearer price.
    price : Price
        What the backend charges; half a quantum is added for each invocation.
    before : Usage, optional
        Tasks that are known by their sums alone.
    """
    granted = memory or price.memory
    tasks, bytes_in, bytes_out = before.tasks, before.bytes_in, before.bytes_out
    wall, cpu = before.wall_seconds, before.cpu_seconds
    gb_seconds = (wall * granted or before.rss_seconds) / _GB
    for row in rows:
        tasks += 1
        wall += row.duration
        cpu += row.cpu
        gb_seconds += row.duration * (granted or row.peak_rss) / _GB
        bytes_in += row.bytes_in
        bytes_out += row.bytes_out
    rounding = invocations * price.quantum / 2
    cost = price.charge(wall + rounding, gb_seconds + rounding * granted / _GB, invocations, requests, 0)
    return Bill(
        backend=backend,
        tasks=tasks,
        invocations=invocations,
        wall_seconds=wall,
        cpu_seconds=cpu,
        gb_seconds=gb_seconds,
        requests=requests,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        cost=cost,
        price_date=price.date,
    )


def billed_seconds(seconds: float, quantum: float) -> float:
    """Round the time of an invocation up as a platform does."""
    # Half of 10**-9 of a quantum: a sum of milliseconds is not to be charged one more for its last binary digit.
    return math.ceil(seconds / quantum - 5e-10) * quantum if quantum else seconds


def estimate(
    config: ExecutorConfig,
    invocations: int,
    seconds: float,
    memory: int = 0,
    puts: int = 0,
    gets: int = 0,
    compute: str | None = None,
    readers: int = 0,
) -> Estimate:
    """Return what invocations would be charged; see ``FunctionExecutor.estimate``.

    `readers` are the workers of a durable job, 0 for any other: each reads the job's record, an invocation is committed
    and its commit read.
    """
    price = price_of(config, compute)
    granted = config.memory or max(memory, price.memory)
    total = invocations * billed_seconds(seconds, price.quantum)
    gb_seconds = total * granted / _GB
    if readers:
        puts += 1 + invocations
        gets += invocations + min(readers, invocations)
    cost = price.charge(total, gb_seconds, invocations, puts, gets) if price.known else None
    return Estimate(
        backend=parse_address(compute or config.compute).scheme,
        invocations=invocations,
        seconds=total,
        gb_seconds=gb_seconds,
        requests=puts + gets,
        cost=cost,
        currency="USD",
        price=price.name,
        price_date=price.date,
        price_source=price.source,
    )
