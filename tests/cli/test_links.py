"""Folders that are links: followed, also out of the tree, and each picture is done once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_shots import Hz, contents, shot

RUN = ("run", "shots", "--mask-suffix", "_m")


def link(path: Path, to: Path, *, relative: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.relpath(to, path.parent)) if relative else to
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")


def planned(hz: Hz, *words: str | Path) -> list[str]:
    """The pictures of a dry run, in its order."""
    said = hz(*(words or RUN), "-n", "--json")
    assert said.exit_code == 0, said.err
    return [line["input"] for line in said.lines[:-1]]


def test_a_folder_of_shots_that_is_a_link_is_done(hz: Hz, tmp_path: Path) -> None:
    """Its results lie under the link's name; nothing is written to where it leads."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "disc/day2/deep/b.png")
    link(tmp_path / "shots/day2", tmp_path / "disc/day2")
    before = contents(tmp_path / "disc")

    assert hz(*RUN).exit_code == 0

    assert sorted(contents(tmp_path / "harmonized")) == [
        "a.tif", "day2/deep/b.tif", "report.csv", "report.json",
    ]  # fmt: skip
    assert contents(tmp_path / "disc") == before


def test_masks_of_linked_folders_are_found_under_the_links_name(hz: Hz, tmp_path: Path) -> None:
    shot(tmp_path / "disc/b.png", mask=None)
    shot(tmp_path / "shots/a.png", mask=None)
    shot(tmp_path / "masks/a.png", mask=None)
    shot(tmp_path / "masks/day2/b.png", mask=None)
    link(tmp_path / "shots/day2", tmp_path / "disc")

    said = hz("run", "shots", "--mask-dir", "masks", "-n", "--json")

    assert [line["mask"] for line in said.lines[:-1]] == ["masks/a.png", "masks/day2/b.png"]


@pytest.mark.parametrize("relative", [False, True])
def test_circles_end(relative: bool, hz: Hz, tmp_path: Path) -> None:
    """A link to itself, to the folder it lies in, to the input, and two that lead to each other."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/deep/er/b.png")
    shot(tmp_path / "disc/c.png")
    for name, target in {
        "self": "shots/self", "here": "shots", "deep/er/up": "shots/deep", "deep/top": "shots",
        "out": "disc", "dead": "nowhere", "one/two": "shots/two", "two/one": "shots/one",
    }.items():  # fmt: skip
        link(tmp_path / "shots" / name, tmp_path / target, relative=relative)
    link(tmp_path / "disc/back", tmp_path / "shots", relative=relative)

    said = hz(*RUN, "-n", "--json")

    assert said.exit_code == 0
    found = [line["input"] for line in said.lines[:-1]]
    assert found == ["shots/a.png", "shots/deep/er/b.png", "shots/out/c.png"]
    assert said.lines[-1]["warnings"] == [], "nothing was left out"


def test_a_folder_has_its_own_name_before_a_links(hz: Hz, tmp_path: Path) -> None:
    """Whichever is listed first; of two links the first in natural order counts."""
    shot(tmp_path / "shots/m/a.png")
    shot(tmp_path / "disc/b.png")
    for name in ("l", "z"):
        link(tmp_path / f"shots/{name}", tmp_path / "shots/m")
    for name in ("n10", "n9"):
        link(tmp_path / f"shots/{name}", tmp_path / "disc")

    assert planned(hz) == ["shots/m/a.png", "shots/n9/b.png"]


def test_inputs_that_lead_to_one_folder_are_done_once(hz: Hz, tmp_path: Path) -> None:
    shot(tmp_path / "shots/deep/a.png")
    link(tmp_path / "same", tmp_path / "shots")

    assert planned(hz, "run", "same", *RUN[1:]) == ["same/deep/a.png"]
    assert planned(hz, "run", "shots", "same/deep/a.png", *RUN[2:]) == ["shots/deep/a.png"]


def test_one_file_may_have_two_names(hz: Hz, tmp_path: Path) -> None:
    """A link to a picture is a picture: it may have another mask."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "shots/b.png").unlink()
    link(tmp_path / "shots/b.png", tmp_path / "shots/a.png")

    assert planned(hz) == ["shots/a.png", "shots/b.png"]


def test_no_link_leads_to_results_or_masks(hz: Hz, tmp_path: Path) -> None:
    """Neither to the output folder, nor into it, nor around it."""
    shot(tmp_path / "shots/a.png")
    shot(tmp_path / "disc/b.png")
    shot(tmp_path / "disc/out/deep/result.png")
    link(tmp_path / "shots/results", tmp_path / "disc/out")
    link(tmp_path / "shots/some", tmp_path / "disc/out/deep")
    link(tmp_path / "shots/around", tmp_path / "disc")

    assert planned(hz, *RUN, "-o", "disc/out") == ["shots/a.png", "shots/around/b.png"]


def test_a_link_out_to_a_folder_above_is_passed_over_and_named(hz: Hz, tmp_path: Path) -> None:
    """Nobody means all that lies beside the input; but it is said."""
    shot(tmp_path / "disc/shots/a.png")
    shot(tmp_path / "disc/else.png")
    link(tmp_path / "disc/shots/up", tmp_path / "disc")
    asked = ("run", "disc/shots", "--mask-suffix", "_m")

    said = hz(*asked, "--json")

    assert [line["input"] for line in said.lines[:-1]] == ["disc/shots/a.png"]
    (warning,) = said.lines[-1]["warnings"]
    assert warning.startswith("the link disc/shots/up is passed over: it leads to ")
    assert f"warning: {warning}" in said.err
    assert "the link disc/shots/up is passed over" in hz(*asked, "-n").err


def test_links_from_outside_do_not_lead_above_either(hz: Hz, tmp_path: Path) -> None:
    """The links stand where another link leads; above them, and above the input, lie others."""
    shot(tmp_path / "disc/a/b/c.png")
    shot(tmp_path / "disc/a/else.png")
    shot(tmp_path / "home/shots/d.png")
    shot(tmp_path / "home/else.png")
    link(tmp_path / "home/shots/x", tmp_path / "disc/a/b")
    link(tmp_path / "disc/a/b/up", tmp_path / "disc/a")
    link(tmp_path / "disc/a/b/home", tmp_path / "home")

    found = planned(hz, "run", "home/shots", *RUN[2:])

    assert found == ["home/shots/d.png", "home/shots/x/c.png"]
