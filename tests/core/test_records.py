"""CSV is cut between its records, or refused: a record is never torn without a word."""

import csv
import io
import itertools

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import Chunks, FunctionExecutor, InputError, Partition
from core.data import objects, ranges, records
from core.data.objects import open_handle
from core.data.partition import find_objects, partition
from core.data.ranges import Source
from core.data.records import Quotes, Records
from core.storage.base import open_storage

numbers = itertools.count()
any_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)

pieces = st.sampled_from(['"', '""', ",", "\n", "\r", "\r\n", "a", " ", '",', ',"', '"\n', '\n"', "ä", "\0", "\ufeff"])
texts = st.lists(pieces, max_size=40).map("".join)
fields = st.one_of(st.text(max_size=6), texts)
tables = st.lists(st.lists(fields, min_size=1, max_size=4), max_size=8)


@pytest.fixture(params=["small reads", "normal reads"])
def _reads(request, monkeypatch):
    if request.param == "small reads":
        for module in (ranges, objects, records):
            monkeypatch.setattr(module, "PROBE", 2, raising=False)
            monkeypatch.setattr(module, "BLOCK", 5, raising=False)
            monkeypatch.setattr(module, "READ", 3, raising=False)


def put(content, key="table.csv"):
    storage = open_storage(f"memory://records-{next(numbers)}")
    storage.put(key, content)
    return storage, storage.head(key)


def chunks_of(content, key="table.csv", **options):
    return [open_handle(part) for part in partition([put(content, key)], Chunks(**options))]


def rows(text, **dialect):
    return list(csv.reader(text, **dialect))


def rows_of(content, **dialect):
    return rows(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""), **dialect)


def written(table, **dialect):
    out = io.StringIO(newline="")
    csv.writer(out, **dialect).writerows(table)
    return out.getvalue().encode("utf-8", "surrogatepass")


@pytest.mark.usefixtures("_reads")
@any_fixture
@given(text=texts, size=st.integers(1, 30))
def test_records_of_all_chunks_are_those_of_the_whole_whatever_the_text(text, size):
    content = text.encode()

    chunks = chunks_of(content, bytes=size, records="csv", delimiter=",")

    assert b"".join(chunk.read() for chunk in chunks) == content
    text_of = [chunk.text() for chunk in chunks]
    assert [row for chunk in text_of for row in rows(chunk)] == rows_of(content)


@pytest.mark.usefixtures("_reads")
@any_fixture
@given(
    table=tables,
    size=st.integers(1, 60),
    header=st.integers(0, 2),
    delimiter=st.sampled_from([",", ";", "\t", "|", "^"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_every_table_that_is_written_is_read_again_with_its_header_in_each_chunk(
    table, size, header, delimiter, end, quoting
):
    content = written(table, delimiter=delimiter, lineterminator=end, quoting=quoting)
    table = rows_of(content, delimiter=delimiter)

    chunks = chunks_of(content, bytes=size, records="csv", delimiter=delimiter, header_lines=header)

    read = [rows(chunk.text(), delimiter=delimiter) for chunk in chunks]
    assert all(part[:header] == table[:header] for part in read)
    assert table[:header] + [row for part in read for row in part[header:]] == table


def test_a_chunk_has_the_records_that_start_in_its_range():
    content = b'a,b\n1,"x\ny"\n2,z\n3,"p\n\nq"\n'
    begins = [0, 4, 12, 16]

    for size in range(1, len(content) + 1):
        for chunk in chunks_of(content, bytes=size, records="csv"):
            planned = range(chunk.part * size, (chunk.part + 1) * size)
            assert len(rows(chunk.text())) == sum(begin in planned for begin in begins)


def test_the_driver_reads_a_cut_object_once_and_one_of_one_chunk_not_at_all():
    storage, info = put(b'"a\nb",c\n' * 10_000)
    before = storage.bytes_in

    list(partition([(storage, info)], Chunks(bytes=info.size, records="csv")))
    whole = storage.bytes_in - before
    found = [Records(Source(storage, info.key, info.size, info.etag), None)]
    for position in range(0, info.size, 1000):
        found[0].start(position)
    once = storage.bytes_in - before - whole

    assert whole == info.size  # the content of an unshared storage travels; no pass before it
    assert once <= info.size + ranges.PROBE


def test_ranges_of_a_users_partitioner_are_moved_to_records_too(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'1,"a\nb"\n2,c\n')

    def backwards(handles):
        for handle in handles:
            for part, (start, end) in enumerate([(6, 12), (0, 6)]):
                fields = {name: getattr(handle.partition, name) for name in Partition.__slots__}
                yield Partition(**{**fields, "start": start, "end": end, "part": part, "parts": 2})

    parts = partition(find_objects(tmp_path / "x.csv"), Chunks(partitioner=backwards, records="csv"))

    assert [open_handle(part).read() for part in parts] == [b"2,c\n", b'1,"a\nb"\n']


@pytest.mark.parametrize(
    ("key", "content"),
    [("x.csv", b'1;"a\nb"\n2;c\n'), ("x.tsv", b'1,"a\nb"\n2,c\n'), ("x", b'1\t"a\nb"\n2\tc\n'), ("x", b'1|"a\nb"\n')],
)
def test_another_delimiter_than_the_one_assumed_is_refused_until_it_is_told(key, content):
    delimiter = chr(content[1])

    with pytest.raises(InputError, match="has a quote behind .* delimiter="):
        chunks_of(content, key, bytes=5, records="csv")

    chunks = chunks_of(content, key, bytes=5, records="csv", delimiter=delimiter)
    assert [row for chunk in chunks for row in rows(chunk.text(), delimiter=delimiter)] == rows_of(
        content, delimiter=delimiter
    )


def test_tabs_separate_the_fields_of_a_tsv_by_default():
    content = b'1\t"a\nb"\n2\tc,"d\n'

    assert [chunk.read() for chunk in chunks_of(content, "X.TSV", bytes=4, records="csv", delimiter="\t")] == [
        b'1\t"a\nb"\n',
        b"",
        b'2\tc,"d\n',
        b"",
    ]


@pytest.mark.parametrize("key", ["x.csv", "X.CSV", "folder/x.tsv"])
@pytest.mark.parametrize(
    "reader", [lambda obj: obj.read(), lambda obj: list(obj.lines()), lambda obj: rows(obj.text())]
)
def test_lines_that_cut_a_quoted_field_are_refused_with_the_remedy(tmp_path, key, reader):
    content = b'1,"a\nb"\n2,c\n'
    storage = open_storage(f"file://{tmp_path}")
    storage.put(key, content)

    chunks = [open_handle(part) for part in partition([(storage, storage.head(key))], Chunks(bytes=3))]

    with pytest.raises(InputError, match=r"part 0 of .* tears a record.*records='csv'.*records='lines'"):
        reader(chunks[0])
    assert b"".join(chunk.read() for chunk in chunks_of(content, key, bytes=3, records="lines")) == content


def test_pandas_shows_the_refusal_of_a_torn_record(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"name,note\n" + b'row,"one\ntwo"\n' * 1000)

    with FunctionExecutor("serial") as executor:
        with pytest.raises(InputError, match="tears a record"):
            executor.map(lambda obj: pd.read_csv(obj.data_stream), str(tmp_path), chunk_bytes=1001).results(60)
        frames = executor.map(
            lambda obj: pd.read_csv(obj.data_stream),
            str(tmp_path),
            chunks=Chunks(bytes=1001, records="csv", header_lines=1),
        ).results(60)

    assert len(frames) > 5
    assert pd.concat(frames)["note"].tolist() == ["one\ntwo"] * 1000


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("x.txt", b'"a\nb"\n' * 5),
        ("x", b'"\n"\n"\n'),
        ("x.csv", b'5" disk,1\n7" disk,2\n' * 5),
        ("x.csv", b'"a","b"\n"c","d"\n' * 5),
        ("x.csv", b'"say ""hi""",1\n' * 5),
        ("x.csv", b'"a"b"c,1\n' * 5),
    ],
)
def test_what_tears_no_record_is_not_refused(key, content):
    for size in range(1, 40):
        assert b"".join(chunk.read() for chunk in chunks_of(content, key, bytes=size)) == content


def test_a_whole_object_is_not_looked_at_for_quotes():
    assert chunks_of(b'1,"a\nb', bytes=100)[0].read() == b'1,"a\nb'


@any_fixture
@given(table=tables, size=st.integers(1, 40))
def test_chunks_of_lines_are_right_or_one_of_them_is_refused(table, size):
    content = written(table, lineterminator="\n")
    try:
        read = [row for chunk in chunks_of(content, bytes=size) for row in rows(chunk.text())]
    except InputError:
        return
    assert read == rows_of(content)


def test_quotes_are_followed_across_pieces_of_any_size():
    content = b'"a,""b""\n",c"d,"e"f\r\n"g"\n' * 3
    whole = Quotes(b",")
    whole.feed(content)

    for size in range(1, 12):
        quotes = Quotes(b",")
        for at in range(0, len(content), size):
            quotes.feed(content[at : at + size])
        assert quotes.place == whole.place == "outside"


@pytest.mark.parametrize("end", [b"", b"\n", b',"open', b'"'])
def test_fields_that_follow_one_another_are_looked_at_together(monkeypatch, end):
    entered, enter = [], Quotes._enter
    monkeypatch.setattr(Quotes, "_enter", lambda *args, **options: entered.append(1) or enter(*args, **options))

    Quotes(b",").feed(b'"a""b",c,"d"\n' * 10_000 + b'"e"' + end)

    assert len(entered) <= 3
