"""`hz run --shard K/N`: several machines share a folder of pictures and a folder of results."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shots import Hz, contents, disc, save, shot

from hzcli.engine.pairing import Job
from hzcli.engine.shard import Shard

RUN = ("run", "shots", "--mask-suffix", "_m", "--truth-suffix", "_gt")
NAMES = ("a", "b", "c", "deep/d", "deep/er/e", "f10", "f9")


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    for name in NAMES:
        shot(tmp_path / f"shots/{name}.png", truth="_gt.png")
    return tmp_path / "shots"


def inputs(said: object) -> list[str]:
    return [line["input"] for line in said.lines[:-1]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("of", [1, 2, 3, 9])
def test_shares_are_apart_together_all_and_of_one_size(of: int, hz: Hz, shots: Path) -> None:
    """Every picture is in one share; with more shares than pictures some are empty, and succeed."""
    shares = [hz(*RUN, "-n", "--json", "--shard", f"{k}/{of}") for k in range(1, of + 1)]

    assert [said.exit_code for said in shares] == [0] * of
    found = [inputs(said) for said in shares]
    assert Counter(itertools.chain(*found)) == Counter(f"shots/{name}.png" for name in NAMES)
    sizes = [len(share) for share in found]
    assert max(sizes) - min(sizes) <= 1
    assert [said.lines[-1]["shard"] for said in shares] == [f"{k}/{of}" for k in range(1, of + 1)]


def test_shares_do_not_depend_on_the_order_of_listing(
    hz: Hz, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on how the system lists folders nor on how the inputs are named in turn."""
    shot(shots.parent / "more/g.png")
    both = (*RUN[2:], "-n", "--json", "--shard", "2/3")
    first = inputs(hz("run", "shots", "more", *both))
    walk = os.walk

    def backwards(*words: object, **named: object) -> object:
        for folder, below, names in walk(*words, **named):  # type: ignore[call-overload]
            below.sort(reverse=True)
            yield folder, below, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)

    assert sorted(inputs(hz("run", "more", "shots", *both))) == sorted(first)
    assert len(first) == 3


def test_shares_meet_in_one_folder(hz: Hz, shots: Path) -> None:
    """The results are those of one run; each share has its report, and a run after them all
    keeps everything and reports all their figures."""
    for k in (3, 1, 2):
        said = hz(*RUN, "-o", "out", "--shard", f"{k}/3", "--json")
        assert said.exit_code == 0
        assert said.lines[-1]["counts"]["done"] == said.lines[-1]["pictures_found"]
        assert f"share {k}/3: {2 + (k == 1)} of 7 pictures" in said.err
    hz(*RUN, "-o", "alone")

    out, alone = contents(Path("out")), contents(Path("alone"))
    reports = {f"report-{k}of3.{kind}" for k in (1, 2, 3) for kind in ("json", "csv")}
    assert out.keys() - alone.keys() == reports
    assert {name: out[name] for name in out.keys() - reports} == {
        name: alone[name] for name in alone.keys() - {"report.json", "report.csv"}
    }
    hz(*RUN, "-o", "out")
    whole = json.loads(Path("out/report.json").read_text())
    assert whole["counts"]["kept"] == 7
    assert whole["means"] == json.loads(Path("alone/report.json").read_text())["means"]
    assert "shard" in whole and whole["shard"] is None


def test_an_empty_share_does_nothing_and_says_so(hz: Hz, shots: Path) -> None:
    """Eight machines for seven pictures: the eighth has its report, and no error."""
    said = hz(*RUN, "--shard", "8/8")

    assert said.exit_code == 0
    assert "share 8/8: 0 of 7 pictures" in said.err
    assert "Nothing was harmonised." in said.out
    assert json.loads(Path("harmonized/report-8of8.json").read_text())["pictures"] == []


def test_a_share_is_resumed_by_itself(hz: Hz, shots: Path) -> None:
    """What is kept is the share's own; the others' results and reports stay as they are."""
    hz(*RUN, "--shard", "1/2")
    hz(*RUN, "--shard", "2/2")
    target = Path("harmonized/deep/d.tif")  # the fourth of seven
    before = contents(Path("harmonized"))
    target.unlink()

    said = hz(*RUN, "--shard", "2/2", "--json")

    assert [line["status"] for line in said.lines[:-1]] == ["kept", "done", "kept"]
    own = json.loads(Path("harmonized/report-2of2.json").read_text())
    assert (own["shard"], own["counts"]["kept"], len(own["pictures"])) == ("2/2", 2, 3)
    after = contents(Path("harmonized"))
    assert {name for name in before if before[name] != after[name]} <= {
        "report-2of2.json", "report-2of2.csv",
    }  # fmt: skip


def test_several_models_share_out_too(hz: Hz, shots: Path) -> None:
    """Each model's folder and the comparison above have a report of the share."""
    hz(*RUN, "-m", "one", "-m", "two", "--shard", "2/2")

    names = [name for name in contents(Path("harmonized")) if "report" in name]
    tops = ("", "one/", "two/")
    assert sorted(names) == sorted(
        f"{t}report-2of2.{kind}" for t in tops for kind in ("csv", "json")
    )
    compared = json.loads(Path("harmonized/report-2of2.json").read_text())
    assert [row["done"] for row in compared["models"]] == [3, 3]


def test_names_are_those_of_the_whole_batch(hz: Hz, shots: Path) -> None:
    """{index} counts all pictures, and two pictures for one result are found in any share."""
    hz(*RUN, "--shard", "2/3", "--name", "{index}", "--no-report")
    assert sorted(contents(Path("harmonized"))) == ["2.tif", "deep/er/5.tif"]

    shot(shots / "a.jpg")
    said = hz(*RUN, "--shard", "3/3", "-o", "other")

    assert said.exit_code == 2
    assert "a.jpg" in said.err and "a.png" in said.err
    assert not Path("other").exists()


def test_empty_folders_are_left_to_other_machines(hz: Hz, tmp_path: Path) -> None:
    """A folder that is empty may be about to be written to by another share."""
    shot(tmp_path / "shots/deep/a.png")
    shot(tmp_path / "shots/z.png")
    save(tmp_path / "shots/deep/a_m.png", disc() * 0)
    (tmp_path / "harmonized/deep").mkdir(parents=True)

    assert hz(*RUN, "--shard", "1/2").exit_code == 1

    assert (tmp_path / "harmonized/deep").is_dir()


@pytest.mark.parametrize(
    "value", ["0/5", "6/5", "x", "", "3", "1/0", "-1/5", "1/2/3", "1.5/3", "/2", "٢/5"]
)
def test_what_is_no_share_is_wrong_usage(value: str, hz: Hz, shots: Path) -> None:
    said = hz(*RUN, "--shard", value)

    assert said.exit_code == 2
    assert f'--shard "{value}" is no share of a batch' in said.err
    assert "1/5, 2/5, ... 5/5" in said.err
    assert not Path("harmonized").exists()


STEMS = st.sampled_from(["a", "A", "1", "01", "x/a", "x/b"])
PLACES = st.lists(st.tuples(STEMS, st.sampled_from([".png", ".jpg"])), unique=True)


@settings(max_examples=60, deadline=None)
@given(places=PLACES, of=st.integers(1, 5), data=st.data())
def test_any_batch_is_dealt_out_alike_in_any_order(
    places: list[tuple[str, str]], of: int, data: st.DataObject
) -> None:
    """Whatever the order of the list, a picture is in the same one of the shares."""

    def dealt(pairs: list[tuple[str, str]]) -> dict[Path, int]:
        jobs = [Job(Path(stem + end), None, Path(f"{stem}.tif")) for stem, end in pairs]
        found = [(jobs[at].composite, k) for k in range(of) for at in Shard(k + 1, of).places(jobs)]
        assert len(found) == len(jobs)
        return dict(found)

    first = dealt(places)
    assert len(first) == len(places)
    assert first == dealt(data.draw(st.permutations(places)))
