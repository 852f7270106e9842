from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from apps._frame.params import (
    MISSING,
    add_flags,
    as_flags,
    as_settings,
    build,
    check_fields,
    choice,
    number,
    optional,
    read_file,
    section,
    setting,
    several,
    switch,
    text,
    whole,
)
from core import ConfigError
from core.parsers import Parser


@dataclass(frozen=True, slots=True, kw_only=True)
class MD:
    timestep: float = setting(2.0, number(0.0, 5.0), "femtoseconds from 0 to 5", "time step", "FS")
    steps: int = setting(100, whole(1), doc="steps of a segment", metavar="N")
    rigid: bool = setting(False, switch, doc="keep bonds rigid")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    steps: int = setting(10, whole(1), doc="steps between frames", metavar="N")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    source: str = setting(MISSING, text, "a structure", "the structure", "SOURCE", positional=True)
    temperatures: tuple[float, ...] = setting((300.0,), several(number(1.0)), "kelvins", "temperatures", "K,K")
    rounds: int = setting(5, whole(1), doc="rounds", metavar="N", identity=False)
    md: MD = section(MD)
    output: Output = section(Output)

    def __post_init__(self) -> None:
        check_fields(self)


def parse(*argv: str, below: dict[str, object] | None = None) -> Params:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, Params)
    return build(Params, vars(parser.parse_args(argv)), None, below)


def write(tmp_path: Path, content: str) -> str:
    path = tmp_path / "campaign.toml"
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    "params",
    [
        lambda: parse("helix", "--timestep", "1.5", "--md-steps", "7", "--output-steps", "3"),
        lambda: parse("helix", "--md-timestep", "1.5", "--md-steps", "7", "--output-steps", "3"),
        lambda: Params(source="helix", md=MD(timestep=1.5, steps=7), output=Output(steps=3)),
        lambda: Params(source="helix", md={"timestep": "1.5", "steps": 7}, output={"steps": 3}),  # type: ignore[arg-type]
        lambda: parse("helix", "--md-steps", "7", below={"md": {"timestep": 1.5, "steps": 9}, "output": {"steps": 3}}),
    ],
    ids=["plain flags", "whole flags", "Python", "mappings", "flags over a file"],
)
def test_a_section_is_the_same_as_flags_as_a_table_and_in_python(params: object) -> None:
    assert params() == Params(source="helix", md=MD(timestep=1.5, steps=7), output=Output(steps=3))  # type: ignore[operator]


def test_a_plain_flag_that_two_sections_could_mean_is_none() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, Params)

    assert "--steps" not in parser.format_help()


def test_a_plain_flag_that_every_command_has_is_the_commands() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, Params, taken={"--timestep"})

    assert "--md-timestep FS" in parser.format_help()
    assert "--timestep FS" not in parser.format_help().replace("--md-timestep FS", "")


def test_a_switch_can_be_turned_off_over_a_file() -> None:
    assert parse("helix", "--no-rigid", below={"md": {"rigid": True}}).md.rigid is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("temperture = 3", r"campaign\.toml has no setting 'temperture' \(is it 'temperatures'\?\); known: source, "),
        ("timestep = 3", r"campaign\.toml has no setting 'timestep' \(is it 'timestep' in \[md\]\?\); known: .*\[md\]"),
        (
            "[md]\ntimstep = 3",
            r"campaign\.toml: \[md\] has no setting 'timstep' \(is it 'timestep'\?\); known: timestep",
        ),
        ("[mdd]\ntimestep = 3", r"campaign\.toml has no setting 'mdd' \(is it 'md'\?\)"),
        ("[md]\ntimestep = 9", r"campaign\.toml: \[md\] timestep = 9: expected femtoseconds from 0 to 5$"),
        ("md = 3", r"campaign\.toml: md = 3: expected a table, \[md\]$"),
        ("[md]\nsteps = 1\nst-eps = 2", r"\[md\] has no setting 'st-eps'"),
        ("[execution]\nwrokers = 2", r"campaign\.toml: \[execution\] has no setting 'wrokers' \(is it 'workers'\?\)"),
        ("[execution]\nworkers = 0", r"campaign\.toml: \[execution\] workers = 0: expected a whole number"),
        ("execution = 3", r"campaign\.toml: execution = 3: expected a table, \[execution\]$"),
        ("overwrite = 'perhaps'", r"campaign\.toml: overwrite = perhaps: expected true or false$"),
        ("[execution]\nlog = 'x'", r"\[execution\] has no setting 'log'"),
    ],
)
def test_what_a_file_says_wrong_is_named_with_file_table_and_key(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_file(Params, write(tmp_path, content))


def test_a_key_that_is_given_twice_in_two_spellings_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Long:
        mean_block: int = setting(1, whole(1), "a whole number", "length")

    with pytest.raises(ConfigError, match="gives mean_block twice"):
        read_file(Long, write(tmp_path, "mean_block = 1\nmean-block = 2"))


def test_what_all_commands_have_stands_at_the_top_or_under_execution(tmp_path: Path) -> None:
    found = read_file(
        Params, write(tmp_path, 'overwrite = true\n[execution]\noutput = "runs/x"\nworkers = 2\ntimeout = "5m"')
    )

    assert found.common == {"overwrite": True, "output": "runs/x"}
    assert found.execution == {"workers": 2, "timeout": "5m"}


def test_a_section_called_like_what_all_commands_have_is_the_applications(tmp_path: Path) -> None:
    found = read_file(Params, write(tmp_path, "[output]\nsteps = 4"))

    assert (found.params, found.common) == ({"output": {"steps": 4}}, {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["helix", "--timestep", "9"], "^--md-timestep 9: expected femtoseconds"),
        (["helix", "--output-steps", "0"], "^--output-steps 0: expected a whole number"),
        (["helix", "--temperatures", "cold"], "^--temperatures cold: expected kelvins"),
        ([], "^SOURCE is missing: expected a structure$"),
    ],
)
def test_a_flag_that_does_not_fit_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(*argv)


def test_a_section_that_is_something_else_is_refused_in_python() -> None:
    with pytest.raises(ConfigError, match="^md = 3: expected MD, or a mapping of its settings$"):
        Params(source="helix", md=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "params",
    [
        Params(source="helix"),
        Params(source="-helix", temperatures=(300.0, 310.5), md=MD(timestep=0.1, rigid=True), output=Output(steps=2)),
    ],
    ids=["defaults", "all"],
)
def test_flags_and_settings_give_the_same_parameters_again(params: Params) -> None:
    assert parse(*as_flags(params)) == params
    assert build(Params, {}, None, as_settings(params)) == params


def test_settings_are_what_json_can_hold() -> None:
    assert as_settings(Params(source="helix"))["temperatures"] == [300.0]
    assert as_settings(Params(source="helix"))["md"] == {"timestep": 2.0, "steps": 100, "rigid": False}


@pytest.mark.parametrize(
    ("parser", "expects"),
    [
        (whole(1), "a whole number of at least 1"),
        (whole(1, 5), "a whole number from 1 to 5"),
        (number(), "a number"),
        (number(0.0), "a number of at least 0"),
        (number(0.0, open_ends=True), "a number above 0"),
        (number(most=1.5), "a number of at most 1.5"),
        (number(0.0, 1.0, open_ends=True), "a number between 0 and 1"),
        (choice("", "a", "b"), "one of a, b"),
        (optional(whole(1)), "a whole number of at least 1"),
        (several(text), "text, or several separated by commas"),
        (several(text, distinct=True), "text, or several different ones separated by commas"),
        (switch, "true or false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "parser",
)
def test_a_parser_says_what_it_expects(parser: Parser[object], expects: str) -> None:
    assert parser.expects == expects


def test_a_setting_that_says_nothing_of_itself_is_an_error_of_the_application() -> None:
    with pytest.raises(TypeError, match="a setting says what it expects"):
        setting(1, int, doc="number")
    with pytest.raises(TypeError, match="and what it is for"):
        setting(1, whole(1))
