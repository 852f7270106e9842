from __future__ import annotations

import gzip
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.databases import (
    Database,
    find_molecules,
    human_gem,
    read_database,
    read_databases,
    shipped,
    unique_formulas,
)
from apps.metabolomics.databases import tables as tables_module
from apps.metabolomics.databases.lipids import lipids
from apps.metabolomics.databases.tables import LISTED, UniqueTexts
from apps.metabolomics.science.formulas import parse_formula
from core import InputError, open_storage


def written(folder: Path, content: str | bytes, name: str = "molecules.tsv") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def molecules(address: str) -> list[tuple[str, str, str]]:
    """Formula, name and id of everything in a database."""
    found = find_molecules(address, read_database(address).formulas.to_pylist())
    return [(one.formula, one.name, one.id) for each in found.values() for one in each]


GLUCOSE = ("C6H12O6", "glucose", "M1")
WATER = ("H2O", "water", "M2")


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found_out(tmp_path: Path, separator: str, end: str) -> None:
    rows = [("id", "name", "formula"), ("M1", "glucose", "C6H12O6"), ("M2", "water", "H2O")]
    address = written(tmp_path, "".join(separator.join(row) + end for row in rows))

    assert molecules(address) == [GLUCOSE, WATER]


@pytest.mark.parametrize(
    ("heading", "row"),
    [
        ("formula\tname\tid", "C6H12O6\tglucose\tM1"),
        ("Molecular Formula\tmoleculeName\tmoleculeId", "C6H12O6\tglucose\tM1"),
        ("chemical_formula\tCommon Name\tHMDB_ID", "C6H12O6\tglucose\tM1"),
        ('"id"\t"name"\t"formula"', '"M1"\t"glucose"\t"C6H12O6"'),
        ("#id\tname\tformula", "M1\tglucose\tC6H12O6"),
        ("# made by hand\n# twice\nid\tname\tformula", "M1\tglucose\tC6H12O6"),
        ("sep=;\nid;name;formula", "M1;glucose;C6H12O6"),
        ("\n\nid\tname\tinchi\tformula\tmass", "M1\tglucose\tInChI=1S\tC6H12O6\t180.06"),
        (" id \t name \t formula ", " M1\tglucose \t C6H12O6 "),
    ],
)
def test_columns_are_known_by_the_names_people_give_them(tmp_path: Path, heading: str, row: str) -> None:
    assert molecules(written(tmp_path, f"{heading}\n{row}\n")) == [GLUCOSE]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("compressed", [False, True])
def test_encodings_and_gzip_are_known_by_content(tmp_path: Path, encoding: str, compressed: bool) -> None:
    content = "id\tname\tformula\nM1\tα-glucose é\tC6H12O6\n".encode(encoding)
    address = written(tmp_path, gzip.compress(content) if compressed else content, "any.name")

    assert molecules(address) == [("C6H12O6", "α-glucose é", "M1")]


def test_bytes_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    address = written(tmp_path, b"id\tname\tformula\nM1\tcaf\xe9ine\tC8H10N4O2\n")

    assert molecules(address)[0][1].encode("utf-8", "surrogateescape") == b"caf\xe9ine"


@pytest.mark.parametrize("name", ["NA", "nan", "null", "None", "1e5", "001", "True", "=1+1"])
def test_every_cell_is_text(tmp_path: Path, name: str) -> None:
    address = written(tmp_path, f"id\tname\tformula\n{name}\t{name}\tC6H12O6\n")

    assert molecules(address) == [("C6H12O6", name, name)]


def test_a_molecule_without_a_name_has_its_id_and_the_other_way_round(tmp_path: Path) -> None:
    address = written(tmp_path, "id\tname\tformula\n\tglucose\tC6H12O6\nM2\t \tH2O\n\t\tCH4\n")

    assert molecules(address) == [("C6H12O6", "glucose", "glucose"), ("H2O", "M2", "M2"), ("CH4", "CH4", "CH4")]


def test_formulas_alone_are_a_database(tmp_path: Path) -> None:
    assert molecules(written(tmp_path, "formula\nC6H12O6\n")) == [("C6H12O6", "C6H12O6", "C6H12O6")]


def test_spellings_of_one_formula_are_one_formula_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    address = written(tmp_path, "id\tname\tformula\na\ta\tH2O\nb\tb\tO6C6H12\nc\tc\tOH2\nd\td\tC6H12O6\n")

    database = read_database(address)

    assert database.formulas.to_pylist() == ["H2O", "C6H12O6"]
    assert database.rows == 4
    assert [one.id for one in find_molecules(address, ["C6H12O6"])["C6H12O6"]] == ["b", "d"]


def test_bad_formulas_are_listed_by_line_with_the_reason_and_left_out(tmp_path: Path) -> None:
    address = written(tmp_path, "id\tname\tformula\na\ta\tC54H102O6XYZ\nb\tb\tC6H12O6\nc\tc\t\nd\td\tC3H5R\n")

    database = read_database(address)

    assert database.formulas.to_pylist() == ["C6H12O6"]
    assert [(row.line, row.value) for row in database.rejected] == [(2, "C54H102O6XYZ"), (4, ""), (5, "C3H5R")]
    assert all(row.reason for row in database.rejected)
    assert database.rejected_rows == 3


def test_of_many_bad_rows_the_first_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    bad = "".join(f"x\tx\tX{number}\n" for number in range(LISTED + 500))
    address = written(tmp_path, f"id\tname\tformula\n{bad}a\ta\tC6H12O6\n")

    database = read_database(address)

    assert (len(database.rejected), database.rejected_rows) == (LISTED, LISTED + 500)
    assert len(database.reasons) < 5


def test_a_comma_within_a_name_without_quotes_shifts_no_column_in_silence(tmp_path: Path) -> None:
    address = written(tmp_path, "id,formula,name\na,C6H12O6,1,2-diol\nb,C6H12O6,CH4,H2O\nc,H2O,water,,\n")

    database = read_database(address)

    assert database.formulas.to_pylist() == ["H2O"]
    assert [row.line for row in database.rejected] == [2, 3]
    assert "quotes" in database.rejected[0].reason


def test_rows_with_a_cell_before_the_first_column_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text("name\tformula\n1\tglucose\tC6H12O6\n2\talanine\tC3H7NO2\n")

    with pytest.raises(InputError, match="line 2, has 3 cells where the first line names 2.*col.names=NA"):
        read_database(str(tmp_path / "r.tsv"))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('id,name,formula\na,"1,2-diol",C6H12O6\n', ["1,2-diol"]),
        ('id,name,formula\na,"5""-deoxy",C6H12O6\n', ['5"-deoxy']),
        ('id\tname\tformula\na\t5"-deoxy\tC6H12O6\nb\t"5 prime\tH2O\n', ['5"-deoxy', '"5 prime']),
        ('id,name,formula\na,"two\nlines",C6H12O6\nb,b,H2O\n', ["two\nlines", "b"]),
    ],
)
def test_quotes_hold_separators_quotes_and_ends_of_lines(tmp_path: Path, content: str, names: list[str]) -> None:
    assert [name for _, name, _ in molecules(written(tmp_path, content))] == names


def test_a_quote_that_is_never_closed_costs_its_row_alone(tmp_path: Path) -> None:
    rest = "".join(f"m{number},m{number},C{number}H4\n" for number in range(1, 100))
    address = written(tmp_path, f'id,name,formula\nbad,"open,C9,H8\n{rest}')

    database = read_database(address)

    assert len(database.formulas) == 99
    assert [row.line for row in database.rejected] == [2]
    assert "quote" in database.rejected[0].reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id\tname\tinchi\na\tb\tc\n", "separated by tabs, names id, name, inchi"),
        ("id,name,inchi\na,b,c\n", "separated by commas, names id, name, inchi"),
        ("C6H12O6\nH2O\n", "names C6H12O6; name one of them formula"),
        ("id name formula\na b H2O\n", "stand apart by spaces"),
        ("", "is empty"),
        ("# only\n# remarks\n", "is empty"),
        ("id\tname\tformula\n", "it has no rows"),
        ("id\tname\tformula\na\tb\tXx9\n", "the first: line 2"),
        ("formula\tchemical_formula\nH2O\tCH4\n", "formula and chemical_formula could both be the formula"),
        (b"PK\x03\x04 and so on", "spreadsheet or zip"),
        (b"\x1f\x8b\x08\x00broken", "damaged gzip"),
        (gzip.compress(b"id\tname\tformula\na\ta\tH2O\n" * 999)[:-20], "damaged gzip"),
        ("id\tformula\na\tH2O\n".encode("utf-16-le"), "no text in UTF-8"),
    ],
)
def test_what_is_no_database_is_refused_in_one_sentence(tmp_path: Path, content: str | bytes, said: str) -> None:
    address = written(tmp_path, content)

    with pytest.raises(InputError, match=re.escape(said)) as refused:
        read_database(address)

    assert address in str(refused.value)


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"no database at {tmp_path}/none.tsv")):
        read_database(f"{tmp_path}/none.tsv")


def test_a_database_is_read_from_an_object_store() -> None:
    open_storage("memory://molecules").put("a/lipids.csv.gz", gzip.compress(b"id,name,formula\nM2,water,H2O\n"))

    database = read_database("memory://molecules/a/lipids.csv.gz")

    assert (database.name, database.formulas.to_pylist()) == ("lipids", ["H2O"])
    assert molecules(database.address) == [WATER]


def test_several_databases_keep_their_counts_and_share_their_formulas(tmp_path: Path) -> None:
    first = written(tmp_path, "formula\nH2O\nCH4\nbad!\n", "one.tsv")
    (tmp_path / "b").mkdir()
    second = written(tmp_path / "b", "formula\nCH4\nNH3\n", "one.tsv")

    databases = read_databases([first, second])

    assert [(each.name, each.rows, each.rejected_rows) for each in databases] == [("one", 2, 1), ("one-2", 2, 0)]
    assert unique_formulas(databases).to_pylist() == [*databases[0].formulas.to_pylist(), "H3N"]


def test_one_database_given_twice_is_refused(tmp_path: Path) -> None:
    address = written(tmp_path, "formula\nH2O\n")

    with pytest.raises(InputError, match="given twice"):
        read_databases([address, address])


def test_distinct_texts_keep_their_order_over_many_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_module, "REMEMBERED", 7)
    texts = [f"C{number * 37 % 101}" for number in range(1000)]
    unique = UniqueTexts()

    for start in range(0, 1000, 13):
        unique.add(texts[start : start + 13])

    assert unique.array().to_pylist() == list(dict.fromkeys(texts))


def read_or_refusal(address: str) -> Database | str:
    try:
        return read_database(address)
    except InputError as error:
        return str(error)


CELLS = st.text(st.sampled_from("CHON126()[]+-.\"\t,;|'\x00é \ud800"), max_size=8)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=8)


@settings(deadline=None)
@given(ROWS, st.sampled_from(["\t", ",", ";"]), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_whatever_stands_in_a_table_is_a_molecule_or_a_row_left_out(
    rows: list[list[str]], separator: str, end: str, compressed: bool
) -> None:
    lines = [separator.join(row) for row in [["id", "formula", "name", "more"], *rows]]
    content = end.join(lines).encode("utf-8", "surrogatepass")
    store = open_storage("memory://fuzzed-databases")
    store.put("any.tsv", gzip.compress(content) if compressed else content)

    database = read_or_refusal("memory://fuzzed-databases/any.tsv")

    if isinstance(database, str):
        assert database.startswith("memory://fuzzed-databases/any.tsv")
        return
    formulas = database.formulas.to_pylist()
    assert formulas == [str(parse_formula(formula)) for formula in formulas]
    assert len(set(formulas)) == len(formulas) <= database.rows
    # Quoted cells may span lines, so there are at most as many records as lines.
    assert database.rows + database.rejected_rows <= len(content.splitlines())
    found = find_molecules(database.address, formulas)
    assert set(found) == set(formulas)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_a_database_or_refused(content: bytes) -> None:
    store = open_storage("memory://fuzzed-databases")
    store.put("any", b"formula\n" + content)
    store.put("raw", content)

    found = {name: read_or_refusal(f"memory://fuzzed-databases/{name}") for name in ("any", "raw")}

    assert all(name in each if isinstance(each, str) else each.rows >= 1 for name, each in found.items())


@pytest.mark.parametrize(
    ("name", "formulas", "rejected"),
    [("moldb.csv", 3, 0), ("db-empty-values.csv", 3, 0), ("db-wrong-sep.csv", 3, 0)],
)
def test_fixtures_of_metaspace_are_read(shared_data: Path, name: str, formulas: int, rejected: int) -> None:
    database = read_database(str(shared_data / "moldbs" / name))

    assert (len(database.formulas), database.rejected_rows) == (formulas, rejected)


def test_fixtures_of_metaspace_that_are_wrong_are_named(shared_data: Path) -> None:
    wrong = read_database(str(shared_data / "moldbs/db-wrong-formulas.csv"))

    assert [row.line for row in wrong.rejected] == [2]
    assert wrong.formulas.to_pylist() == ["C83H146O17P2", "C61H108O6"]  # a stop stands between the parts of a salt
    with pytest.raises(InputError, match="names id, name, inchi; name one of them formula"):
        read_database(str(shared_data / "moldbs/db-missing-columns.csv"))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("PC 34:1", "C42H82NO8P"),
        ("PC O-34:1", "C42H84NO7P"),
        ("PE 36:2", "C41H78NO8P"),
        ("PS 36:1", "C42H80NO10P"),
        ("PI 38:4", "C47H83O13P"),
        ("PG 34:1", "C40H77O10P"),
        ("PA 34:1", "C37H71O8P"),
        ("LPC 16:0", "C24H50NO7P"),
        ("TG 52:2", "C55H102O6"),
        ("DG 36:2", "C39H72O5"),
        ("FA 18:1", "C18H34O2"),
        ("CE 18:1", "C45H78O2"),
        ("CAR 16:0", "C23H45NO4"),
        ("CL 72:8", "C81H142O17P2"),
        ("Cer 34:1", "C34H67NO3"),
        ("SM 34:1", "C39H79N2O6P"),
        ("HexCer 34:1", "C40H77NO8"),
        ("SHexCer 42:2", "C48H91NO11S"),
        ("GM3 34:1", "C57H104N2O21"),
    ],
)
def test_lipids_by_rule_have_the_formulas_of_well_known_ones(name: str, formula: str) -> None:
    assert dict(lipids())[name] == formula


def test_the_shipped_database_reads_without_a_row_left_out_and_names_source_and_licence() -> None:
    database = shipped()
    head = gzip.decompress(Path(database.address).read_bytes()).decode().partition("\nid\t")[0]

    assert database.rejected == ()
    assert len(database.formulas) > 5000
    assert "Human-GEM 1.18.0" in head
    assert "CC BY 4.0" in head
    assert "HMDB" not in gzip.decompress(Path(database.address).read_bytes()).decode()


def test_the_shipped_database_has_well_known_molecules_neutral() -> None:
    known = {"C10H16N5O13P3": "ATP", "C27H46O": "cholesterol", "C34H32FeN4O4": "heme", "C42H82NO8P": "PC 34:1"}

    found = find_molecules(shipped().address, known)

    assert all(name in [one.name for one in found[formula]] for formula, name in known.items())


def test_the_shipped_formulas_are_canonical() -> None:
    formulas = shipped().formulas.to_pylist()

    assert formulas == [str(parse_formula(formula)) for formula in formulas]


SBML = """<?xml version="1.0"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core"
 xmlns:fbc="http://www.sbml.org/sbml/level3/version1/fbc/version2"><model><listOfSpecies>
<species id="M1c" name="acid" compartment="c" fbc:charge="-2" fbc:chemicalFormula="C4H4O4"/>
<species id="M1e" name="acid" compartment="e" fbc:charge="-2" fbc:chemicalFormula="C4H4O4"/>
<species id="M2c" name="choline &lt;+&gt;" compartment="c" fbc:charge="1" fbc:chemicalFormula="C5H14NO"/>
<species id="M3c" name="residue" compartment="c" fbc:charge="0" fbc:chemicalFormula="C4H6O2R"/>
<species id="M4c" name="[protein]-lysine" compartment="c" fbc:charge="0" fbc:chemicalFormula="C6H14N2O2"/>
<species id="M5c" name="radical" compartment="c" fbc:charge="0" fbc:chemicalFormula="C2H5"/>
<species id="M6r" name="wrong in one place" compartment="r" fbc:charge="0" fbc:chemicalFormula="C6H4NO4"/>
<species id="M6c" name="wrong in one place" compartment="c" fbc:charge="0" fbc:chemicalFormula="C6H5NO4"/>
<species id="M7c" name="salt" compartment="c" fbc:charge="0" fbc:chemicalFormula="C2H3O2Na"/>
<species id="M8c" name="nothing" compartment="c"/>
</listOfSpecies></model></sbml>
"""


def test_metabolites_of_a_model_are_neutralised_once_and_what_has_no_formula_is_counted() -> None:
    left_out: Counter[str] = Counter()

    found = list(human_gem.metabolites(io.BytesIO(SBML.encode()), left_out))

    assert [(one.id, one.name, one.formula) for one in found] == [
        ("M1", "acid", "C4H6O4"),
        ("M2", "choline <+>", "C5H13NO"),
        ("M6", "wrong in one place", "C6H5NO4"),
    ]
    assert sum(left_out.values()) == 5


def test_the_shipped_file_is_made_again_to_the_byte(tmp_path: Path) -> None:
    one, two = tmp_path / "one.gz", tmp_path / "two.gz"

    human_gem.write_database(io.BytesIO(SBML.encode()), one)
    human_gem.write_database(io.BytesIO(SBML.encode()), two)

    assert one.read_bytes() == two.read_bytes()
    assert read_database(str(one)).formulas.to_pylist()[:2] == ["C4H6O4", "C5H13NO"]
