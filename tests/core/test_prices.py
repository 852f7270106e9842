from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core import FunctionExecutor
from core.errors import ConfigError
from core.events.prices import (
    OWN,
    TABLE,
    Price,
    bill,
    billed_seconds,
    estimate,
    price_at,
    price_of,
    prices,
    read_prices,
)
from core.settings import ExecutorConfig, parse_address
from core.types import TaskStats

GiB = 1 << 30
CLOUD = Price(
    "cloud", gb_second=0.5, vcpu_second=2.0, invocation=10.0, put=100.0, get=7.0, date="2026-01", source="https://x"
)


def stats(task_id: int) -> TaskStats:
    return TaskStats(task_id, 100.0, 2.0, 1.5, "worker-0", 1, peak_rss=GiB // 2, bytes_in=10 * task_id, bytes_out=1)


class TestBill:
    def test_one_s_own_machine_costs_nothing_but_is_accounted_for(self) -> None:
        total = bill("process", [stats(1), stats(2)], None, invocations=2, requests=3, price=OWN)

        assert (total.backend, total.tasks, total.invocations, total.requests) == ("process", 2, 2, 3)
        assert (total.wall_seconds, total.cpu_seconds, total.gb_seconds) == (4.0, 3.0, 2.0)
        assert (total.bytes_in, total.bytes_out, total.cost) == (30, 2, 0.0)

    def test_granted_memory_counts_before_the_platform_s_and_that_before_what_was_used(self) -> None:
        platform = replace(OWN, memory=GiB)

        assert bill("x", [stats(1)], 4 * GiB, 1, 0, platform).gb_seconds == pytest.approx(8.0)
        assert bill("x", [stats(1)], None, 1, 0, platform).gb_seconds == pytest.approx(2.0)
        assert bill("x", [stats(1)], None, 1, 0, OWN).gb_seconds == pytest.approx(1.0)

    def test_cost_is_memory_time_plus_processor_time_plus_invocations_plus_requests(self) -> None:
        total = bill("cloud", [stats(1)], 2 * GiB, invocations=3, requests=5, price=CLOUD)

        assert total.cost == pytest.approx(0.5 * 4 + 2 * 2 + 10 * 3 + 100 * 5)
        assert total.price_date == "2026-01"

    def test_an_invocation_is_expected_to_be_rounded_up_by_half_a_quantum(self) -> None:
        price = Price("cloud", gb_second=1.0, quantum=0.1)

        assert bill("cloud", [stats(1)], GiB, invocations=4, requests=0, price=price).cost == pytest.approx(2.2)

    def test_what_an_executor_has_run_on_rented_workers_has_their_price(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FANFOLD_MACHINE_PRICE", "3600")
        with FunctionExecutor("serial") as executor:
            executor.map(abs, [1, -2]).results()
            total = executor.bill()

        assert total.cost == pytest.approx(total.wall_seconds)
        assert total.cost > 0


class TestPriceAt:
    @pytest.mark.parametrize("compute", ["serial", "process", "container://image", "slurm://long", "dask://host:8786"])
    def test_one_s_own_machines_are_free_unless_a_price_is_set(self, compute: str) -> None:
        assert price_at(parse_address(compute)) is OWN
        assert price_at(parse_address(compute), machine_price=0.36).charge(10.0, 0, 0, 0, 0) == pytest.approx(0.001)

    @pytest.mark.parametrize(
        ("compute", "product"),
        [
            ("lambda://fn?region=eu-west-1", "lambda"),
            ("lambda://fn?architecture=arm64", "lambda-arm64"),
            ("https://worker-abc-ew.a.run.app/", "cloud-run"),
            ("openwhisk://us-south.functions.cloud.ibm.com/me_dev", "ibm-functions"),
        ],
    )
    def test_an_address_tells_the_product(self, compute: str, product: str) -> None:
        assert price_at(parse_address(compute), machine_price=1.0) is prices()[product]

    @pytest.mark.parametrize(
        "compute", ["kubernetes://team", "openwhisk://10.0.0.4/guest", "http://localhost:8080/", "http://10.0.0.1:80/"]
    )
    def test_one_s_own_cluster_is_one_s_own(self, compute: str) -> None:
        assert price_at(parse_address(compute)) is OWN

    def test_a_service_that_the_table_lacks_has_no_price_rather_than_none_to_pay(self) -> None:
        assert not price_at(parse_address("https://app.example.com/")).known

    def test_requests_are_charged_by_amazon_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        process = parse_address("process")

        amazon = price_at(process, parse_address("s3://bucket/jobs"))
        ceph = price_at(process, parse_address("s3://bucket/jobs?endpoint=http://ceph:8080"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
        here = price_at(process, parse_address("s3://bucket/jobs"))

        s3 = prices()["s3"]
        assert (amazon.put, amazon.get, amazon.date) == (s3.put, s3.get, s3.date)
        assert (ceph, here) == (OWN, OWN)

    def test_a_configuration_names_both_places(self) -> None:
        price = price_of(
            ExecutorConfig(
                compute="lambda://fn", storage="s3://bucket/jobs?endpoint=https://s3.eu-west-1.amazonaws.com"
            )
        )

        assert (price.gb_second, price.put) == (prices()["lambda"].gb_second, prices()["s3"].put)

    def test_every_price_has_a_page_and_a_date(self) -> None:
        assert set(prices()) == {"lambda", "lambda-arm64", "cloud-run", "ibm-functions", "s3"}
        for price in prices().values():
            assert price.source.startswith("https://")
            assert price.date[:2] == "20"


class TestTable:
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("gb_secnd = 1.0", r"lambda has no setting 'gb_secnd' \(is it 'gb_second'\?\); known: name, gb_second"),
            ("gb_second = -1.0", "lambda: gb_second = -1.0: expected US dollars"),
            ("gb_second = nan", "lambda: gb_second = nan: expected US dollars"),
            ("gb_second = true", "lambda: gb_second = True: expected US dollars"),
            ('memory = "much"', "lambda: memory = much: expected a size"),
            ("known = false", "lambda has no setting 'known'"),
        ],
    )
    def test_a_line_that_does_not_fit_is_named(self, tmp_path: Path, line: str, message: str) -> None:
        file = tmp_path / "prices.toml"
        file.write_text(f'[lambda]\n{line}\nname = "x"\nsource = "https://x"\ndate = "2026"\n')

        with pytest.raises(ConfigError, match=message):
            read_prices(file)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("source", '"http://x"'), ("source", "3"), ("date", '"May 2026"'), ("date", '"2026-13"'), ("date", "2026")],
    )
    def test_a_page_and_a_date_are_that(self, tmp_path: Path, name: str, value: str) -> None:
        given = {"name": '"x"', "source": '"https://x"', "date": '"2026"', name: value}
        file = tmp_path / "prices.toml"
        file.write_text("[lambda]\n" + "".join(f"{key} = {text}\n" for key, text in given.items()))

        with pytest.raises(ConfigError, match=f"lambda: {name} = "):
            read_prices(file)

    @pytest.mark.parametrize("text", ["lambda = 3", '[lambda]\nname = "x"\ndate = "2026"'])
    def test_a_price_without_its_page_is_none(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "prices.toml"
        file.write_text(text)

        with pytest.raises(ConfigError, match="lambda is no price; a price has at least a name, a source and a date"):
            read_prices(file)

    def test_the_table_lies_beside_the_code_that_reads_it(self) -> None:
        assert TABLE.is_file()


class TestEstimate:
    def test_a_thousand_seconds_of_lambda_cost_what_its_price_page_says(self) -> None:
        found = estimate(ExecutorConfig(compute="lambda://fn", memory=GiB), invocations=1000, seconds=1.0)

        assert found.gb_seconds == pytest.approx(1000.0)
        assert found.cost == pytest.approx(0.0166667 + 0.0002)
        assert (found.backend, found.invocations, found.requests) == ("lambda", 1000, 0)

    @pytest.mark.parametrize(
        ("seconds", "quantum", "billed"),
        [
            (0.0, 0.1, 0.0),
            (0.001, 0.1, 0.1),
            (0.1, 0.1, 0.1),
            (0.3, 0.1, 0.3),
            (0.101, 0.1, 0.2),
            (1.2345, 0.0, 1.2345),
        ],
    )
    def test_time_is_rounded_up_to_the_quantum(self, seconds: float, quantum: float, billed: float) -> None:
        assert billed_seconds(seconds, quantum) == pytest.approx(billed)

    def test_a_function_is_granted_what_it_needs_or_the_platform_s_default_if_that_is_more(self) -> None:
        config = ExecutorConfig(compute="lambda://fn")

        assert estimate(config, 1, 1.0, memory=GiB // 8).gb_seconds == pytest.approx(1769 / 1024)
        assert estimate(config, 1, 1.0, memory=4 * GiB).gb_seconds == pytest.approx(4.0)

    def test_a_durable_job_asks_its_storage_for_more(self) -> None:
        stays = estimate(ExecutorConfig(), 100, 1.0, puts=5, gets=7)
        durable = estimate(ExecutorConfig(), 100, 1.0, puts=5, gets=7, readers=8)

        assert stays.requests == 12
        assert durable.requests - stays.requests == 1 + 100 + 100 + 8

    def test_a_durable_job_makes_about_the_requests_that_were_estimated(self, tmp_path: Path) -> None:
        with FunctionExecutor("process", f"file://{tmp_path}", workers=2, durable=True) as executor:
            executor.map(abs, range(60), batch_size=1).results()
            made, planned = executor.bill(), executor.estimate(60, 0.001)

        assert made.invocations == planned.invocations
        assert made.requests == pytest.approx(planned.requests, rel=0.1)

    def test_an_unknown_price_is_not_zero(self) -> None:
        assert estimate(ExecutorConfig(compute="https://app.example.com/"), 1, 1.0).cost is None

    def test_an_executor_estimates_for_its_own_address_and_for_others(self) -> None:
        with FunctionExecutor("process", workers=2) as executor:
            here, there = executor.estimate(10, 2.0), executor.estimate(10, 2.0, compute="lambda://any")

        assert (here.cost, here.seconds) == (0.0, 20.0)
        assert there.cost is not None
        assert there.cost > 0
