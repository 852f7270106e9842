"""One adapter a contender of the CSV benchmark, and one measurement: ``python -m benchmarks._csv_contenders NAME``."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from benchmarks import _contenders as engines
from benchmarks._measure import adopt_orphans, tree_cpu

BUCKET = "bench"
DATA, WARM = "data/", "warm/"
"""Prefixes of the table, and of a small one that is worked on before the clock starts."""
CHUNK = 32 << 20
COLUMNS = ["number", "station", "price", "value"]
PARSING: dict[str, Any] = {"header": None, "names": COLUMNS, "usecols": ["station", "value"]}

Answer = dict[str, list[int]]
"""Count and sum of the values of each station."""


def count(lines: bytes) -> Any:
    """Count and add up the values of each station in whole lines of CSV: what every contender's map does."""
    import pandas

    return pandas.read_csv(io.BytesIO(lines), **PARSING).groupby("station")["value"].agg(["count", "sum"])


def merge(parts: Sequence[Any]) -> Any:
    import pandas

    return pandas.concat(parts).groupby(level=0).sum()


def count_object(obj: Any) -> Any:
    return count(obj.data_stream.read())


def count_texts(lines: Any) -> Any:
    return count("".join(lines).encode())


class Contender(Protocol):
    def open(self) -> None: ...

    def run(self, prefix: str) -> Any: ...

    def close(self) -> None: ...


class Loop:
    def open(self) -> None:
        import boto3

        self.client = boto3.client("s3")

    def run(self, prefix: str) -> Any:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
        bodies = (self.client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"] for each in found)
        return merge([count(body.read()) for body in bodies])

    def close(self) -> None: ...


class Fanfold(engines.Fanfold):
    def run(self, prefix: str) -> Any:
        address = f"s3://{BUCKET}/{prefix}"
        return self.executor.map_reduce(count_object, address, merge, chunk_bytes=CHUNK).result()


class DaskFrame(engines.Dask):
    def run(self, prefix: str) -> Any:
        from dask import dataframe

        frame = dataframe.read_csv(f"s3://{BUCKET}/{prefix}*", blocksize=CHUNK, **PARSING)
        return frame.groupby("station")["value"].agg(["count", "sum"]).compute()


class DaskBag(engines.Dask):
    def run(self, prefix: str) -> Any:
        from dask import bag

        lines = bag.read_text(f"s3://{BUCKET}/{prefix}*", blocksize=CHUNK)
        return lines.reduction(count_texts, merge, split_every=False).compute()


class Lithops(engines.Lithops):
    def open(self) -> None:
        self.settings = {
            **self.settings,
            "lithops": {"backend": "localhost", "storage": "aws_s3"},
            "aws_s3": {
                "storage_bucket": BUCKET,
                "region": os.environ["AWS_DEFAULT_REGION"],
                "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
                "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
            },
        }
        super().open()

    def run(self, prefix: str) -> Any:
        address = f"s3://{BUCKET}/{prefix}"
        future = self.executor.map_reduce(count_object, address, merge_results, obj_chunk_size=CHUNK, obj_newline="\n")
        return self.executor.get_result(future)


def merge_results(results: Any) -> Any:
    """Merge what Lithops hands to a parameter of this name."""
    return merge(results)


CONTENDERS: dict[str, tuple[Callable[[], Contender], str]] = {
    "boto3 loop, one process": (Loop, ""),
    "fanfold": (Fanfold, ""),
    "dask.dataframe": (DaskFrame, "s3fs"),
    "dask.bag": (DaskBag, "s3fs"),
    "Lithops": (Lithops, "lithops"),
}
"""Each with the peer whose environment it needs."""


def as_answer(frame: Any) -> Answer:
    return {str(station): [int(row["count"]), int(row["sum"])] for station, row in frame.iterrows()}


def main(name: str) -> None:
    adopt_orphans()
    try:
        contender = CONTENDERS[name][0]()
        contender.open()
        contender.run(WARM)
        wall, cpu = time.perf_counter(), tree_cpu()
        frame = contender.run(DATA)
        answer = {"wall": time.perf_counter() - wall, "cpu": tree_cpu() - cpu, "answer": as_answer(frame)}
    except ModuleNotFoundError as error:
        answer = {"error": f"{error.name or error} is not installed: pip install '.[bench]'"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    print("\n" + json.dumps(answer), flush=True)
    # The measurement is done, and a contender that broke may never close.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
