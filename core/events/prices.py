"""What computing costs: published prices by platform, the bill of what has run, the estimate of what would.

Prices are list prices in US dollars before taxes, discounts and free tiers, in the cheapest common region; traffic to
other networks is not counted. `Price.date` is when the source was last seen to say so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from core.settings import Address, ExecutorConfig, parse_address
from core.types import Bill, TaskStats, Usage

_GB = 1 << 30
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Price:
    """What a platform charges, in US dollars.

    Attributes
    ----------
    name : str
        Product and region.
    gb_second, vcpu_second : float
        A second of 2**30 bytes of granted memory, of one virtual processor.
    invocation : float
        One call.
    put, get : float
        One storage request that writes or lists; that reads.
    worker_hour : float
        One worker of a machine that is rented or owned.
    quantum : float
        Seconds that the time of an invocation is rounded up to.
    memory : int
        Bytes that a worker is granted where nothing else is said.
    source, date : str
        Page that publishes the price, and when it was last seen to; empty where nothing is charged.
    known : bool
        False where a price is charged that this table does not have.
    """

    name: str
    gb_second: float = 0.0
    vcpu_second: float = 0.0
    invocation: float = 0.0
    put: float = 0.0
    get: float = 0.0
    worker_hour: float = 0.0
    quantum: float = 0.0
    memory: int = 0
    source: str = ""
    date: str = ""
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

LAMBDA = Price(
    "AWS Lambda, x86, us-east-1",
    gb_second=0.0000166667,
    invocation=0.20e-6,
    quantum=0.001,
    memory=1769 << 20,  # one virtual processor: "Configure Lambda function memory", docs.aws.amazon.com
    source="https://aws.amazon.com/lambda/pricing/",
    date="2026-05",
)
PRICES: Mapping[str, Price] = {
    "lambda": LAMBDA,
    "lambda-arm64": replace(LAMBDA, name="AWS Lambda, arm64, us-east-1", gb_second=0.0000133334),
    "cloud-run": Price(
        "Google Cloud Run, request-based, tier 1",
        gb_second=0.0000025,
        vcpu_second=0.000024,
        invocation=0.40e-6,
        quantum=0.1,
        memory=512 << 20,
        source="https://cloud.google.com/run/pricing",
        date="2025",
    ),
    "ibm-functions": Price(
        "IBM Cloud Functions, closed in October 2024: its last price",
        gb_second=0.000017,
        quantum=0.1,
        memory=256 << 20,
        source="https://cloud.ibm.com/functions/learn/pricing",
        date="2024-10",
    ),
}
"""Computing, by product."""

S3 = Price(
    "Amazon S3 Standard, us-east-1",
    put=0.005e-3,
    get=0.0004e-3,
    source="https://aws.amazon.com/s3/pricing/",
    date="2025",
)

_HOSTS = {
    ".run.app": "cloud-run",
    ".functions.cloud.ibm.com": "ibm-functions",
    ".functions.appdomain.cloud": "ibm-functions",
}
_UNKNOWN = Price("no price is known", known=False)
_HOSTED = ("http", "https")


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
    if price.source:
        return replace(price, put=S3.put, get=S3.get, name=f"{price.name}; {S3.name}")
    return replace(price, put=S3.put, get=S3.get, name=f"{price.name}; {S3.name}", source=S3.source, date=S3.date)


def _compute_price(compute: Address) -> Price:
    if compute.scheme == "lambda":
        is_arm = compute.options.get("architecture", "") == "arm64"
        return PRICES["lambda-arm64" if is_arm else "lambda"]
    host = compute.where.partition("/")[0].partition(":")[0]
    for ending, product in _HOSTS.items():
        if host.endswith(ending):
            return PRICES[product]
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
