"""What an application keeps of its work beside stages, and settings that a run goes on with."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from apps._frame import App, Command
from apps._frame.manifest import MANIFEST, read_manifest
from apps._frame.params import check_fields, setting, whole
from apps._frame.run import Run
from core import ConfigError

KEEPS = ("rounds/",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    seed: int = setting(1, whole(0), "a number", "seed")
    rounds: int = setting(10, whole(0), "a number", "rounds", identity=False)

    def __post_init__(self) -> None:
        check_fields(self)


def opened(place, params=None, **options) -> Run:
    return Run(place, "words", params or Params(), keeps=KEEPS, **options)


def test_a_run_that_failed_after_it_kept_work_can_be_resumed(tmp_path):
    run = opened(tmp_path)

    def fail_late():
        with run:
            run.storage.put("rounds/1.json", b"{}")
            raise KeyError

    with pytest.raises(KeyError):
        fail_late()

    assert run.kept
    with opened(tmp_path) as again:
        assert again.resumed


def test_a_run_that_failed_before_it_kept_anything_leaves_nothing(tmp_path):
    run = opened(tmp_path / "run")

    with pytest.raises(KeyError), run:
        raise KeyError

    assert not run.kept
    assert not (tmp_path / "run" / MANIFEST).exists()


def test_work_of_others_is_neither_taken_for_its_own_nor_removed(tmp_path):
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "mine.txt").write_text("mine")

    with pytest.raises(ConfigError, match="has rounds/, which no run of words wrote"), opened(tmp_path):
        pass

    assert (tmp_path / "rounds" / "mine.txt").read_text() == "mine"


def test_starting_anew_forgets_the_work(tmp_path):
    with opened(tmp_path) as run:
        run.storage.put("rounds/1.json", b"{}")

    with opened(tmp_path, overwrite=True) as again:
        assert list(again.storage.list("rounds/")) == []


def test_a_run_goes_on_to_what_was_asked_for_last(tmp_path):
    with opened(tmp_path):
        pass
    with opened(tmp_path, Params(rounds=50)):
        pass

    assert read_manifest(str(tmp_path))["params"] == {"seed": 1, "rounds": 50}


def test_what_was_found_out_stands_in_the_manifest_and_stays(tmp_path):
    with opened(tmp_path) as run:
        run.remember({"platform": "Reference"})
    with opened(tmp_path, Params(rounds=50)):
        pass

    assert read_manifest(str(tmp_path))["found"] == {"platform": "Reference"}


def test_a_finished_run_that_has_more_to_do_is_no_longer_finished(tmp_path):
    with opened(tmp_path) as run:
        run.publish({"result.json": json.dumps({}).encode()})
    with opened(tmp_path) as again:
        assert again.finished
        again.reopen()

    with opened(tmp_path) as last:
        assert not last.finished


def test_a_preset_stands_below_files_and_flags(tmp_path, capsys):
    seen = []
    presets = {"preset": {"talk": {"seed": 7, "rounds": 99}}}
    app = App("words", [Command("run", Params, lambda session, params: seen.append(params), presets=presets)])
    (tmp_path / "a.toml").write_text("seed = 8\n")

    assert app.main(["--preset", "talk"]) == 0
    assert app.main(["--preset", "talk", "--config", str(tmp_path / "a.toml"), "--rounds", "5"]) == 0
    assert app.main(["--preset", "walk"]) == 2

    assert seen == [Params(seed=7, rounds=99), Params(seed=8, rounds=5)]
    assert "--preset walk: expected one of talk" in capsys.readouterr().err
