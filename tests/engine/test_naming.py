"""Names of results: what a template gives, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzcli.core.window import Size
from hzcli.engine import naming
from hzcli.engine.pairing import Job
from hzcli.errors import UsageError


def job(name: str, root: str = "/in") -> Job:
    """As pairing gives it: where the picture is, and its place below its input."""
    return Job(Path(root, name), Path(root, "m.png"), Path(name).with_suffix(".tif"))


def name(pattern: str | None, *jobs: Job, suffix=".tif", **rest) -> list[str]:
    template = None if pattern is None else naming.parse(pattern)
    done = naming.named(jobs, template, suffix=lambda path: suffix, **rest)
    return [found.output.as_posix() for found in done]


def test_without_a_template_name_and_place_stay():
    assert name(None, job("a.jpg"), job("day 1/b.x.png")) == ["a.tif", "day 1/b.x.tif"]
    assert name(None, job("a:b.jpg"), suffix=".png") == ["a:b.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{stem}{suffix}", "day1/IMG_1.tif"),
        ("{stem}_{model}{suffix}", "day1/IMG_1_hinet.tif"),
        ("{parent}_{stem}{suffix}", "day1/day1_IMG_1.tif"),
        ("{parent}/{stem}{suffix}", "day1/IMG_1.tif"),
        ("all/{index:04}{suffix}", "all/0001.tif"),
        ("{index}-{mode}{suffix}", "day1/1-region.tif"),
        ("{stem}_{width}x{height}{suffix}", "day1/IMG_1_60x40.tif"),
        ("{stem}_{size}{suffix}", "day1/IMG_1_60x40.tif"),
        ("{stem:>8}{suffix}", "day1/   IMG_1.tif"),
        ("{parent}\\{stem}{suffix}", "day1/IMG_1.tif"),
        ("{{{stem}}}{suffix}", "day1/{IMG_1}.tif"),
        ("{stem}", "day1/IMG_1.tif"),
        ("{stem}.v1", "day1/IMG_1.v1.tif"),
        ("{stem}.TIFF", "day1/IMG_1.TIFF"),
    ],
)
def test_templates(pattern, expected):
    found = name(
        pattern,
        job("day1/IMG_1.jpg"),
        model="hinet",
        mode="region",
        size=lambda job: Size(40, 60),
    )
    assert found == [expected]


def test_sizes_are_asked_only_where_they_are_wanted():
    def ask(job: Job) -> Size:
        raise AssertionError("not wanted")

    assert name("{stem}{suffix}", job("a.jpg"), size=ask) == ["a.tif"]
    assert naming.parse("{width}").needs_size
    assert not naming.parse("{stem}").needs_size
    assert name("{stem}_{size}{suffix}", job("a.jpg"), size=lambda job: None) == ["a_0x0.tif"]


@pytest.mark.parametrize(
    "pattern",
    [
        "{sten}{suffix}",
        "{}{suffix}",
        "{0}",
        "{stem.__class__}",
        "{stem[0]}",
        "{stem!r}",
        "{stem",
        "stem}",
        "{stem:04d}",
        "{index:z}",
        "{index:{width}}",
        "{index:9999999}",
        "../{stem}{suffix}",
        "a/../../{stem}",
        "/tmp/{stem}{suffix}",
        "C:/{stem}",
        "c:{stem}",
        "\\\\server\\{stem}",
        "./{stem}",
        "a//{stem}",
        "{stem}/",
        "",
    ],
)
def test_patterns_that_are_refused(pattern):
    with pytest.raises(UsageError) as caught:
        naming.parse(pattern)
    assert caught.value.hint


@pytest.mark.parametrize("pattern", ["{suffix}", "{model}", "{model}{suffix}"])
def test_a_name_must_be_left(pattern):
    with pytest.raises(UsageError, match="no name"):
        name(pattern, job("a.jpg"))


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("a:b?c", "a_b_c.tif"),
        ('<>"|*\\', "______.tif"),
        ("a\nb\x7f", "a_b_.tif"),
        ("con", "_con.tif"),
        ("COM1.x", "_COM1.x.tif"),
        ("console", "console.tif"),
        (" ünïcode 写真 ", " ünïcode 写真 .tif"),
    ],
)
def test_what_windows_refuses_is_replaced(stem, expected):
    found = naming.parse("{stem}{suffix}").fill(Path("x"), {"stem": stem, "suffix": ".tif"})
    assert found.as_posix() == expected


def test_names_do_not_end_in_dots_or_spaces():
    for stem in ("a.", "a ", "a. ."):
        assert naming.parse("{stem}").fill(Path("x"), {"stem": stem}).name == "a_"


def test_names_that_are_too_long_are_cut():
    found = naming.parse("{stem}_{stem}{suffix}").fill(
        Path("x"), {"stem": "é" * 100, "suffix": ".tif"}
    )
    assert found.suffix == ".tif"
    assert len(found.name.encode()) <= 255 - len("..12345678.part")


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_no_stem_leaves_the_output_folder(stem):
    """Whatever a file may be called, its result lies below the output, in one folder."""
    try:
        found = naming.parse("x/{stem}{suffix}").fill(Path("a"), {"stem": stem, "suffix": ".tif"})
    except UsageError:
        return
    assert len(found.parts) == 2 and found.parts[0] == "x" and found.parts[1] not in ("..", ".")


def test_two_results_of_one_name_are_refused():
    jobs = [job("a/x.jpg"), job("b/x.jpg")]

    def check(pattern: str, also=()) -> None:
        done = naming.named(jobs, naming.parse(pattern), suffix=lambda path: ".tif")
        naming.check(done, Path("/out"), also)

    check("{stem}{suffix}")
    check("all/{parent}_{stem}{suffix}")
    check("all/{index}{suffix}", also=("mask", "layer"))
    with pytest.raises(UsageError, match="both be written") as caught:
        check("all/{stem}{suffix}")
    assert "{index}" in caught.value.hint
    with pytest.raises(UsageError, match="both be written"):
        check("all/same{suffix}")


def test_case_does_not_tell_names_apart():
    with pytest.raises(UsageError, match="both be written"):
        naming.check([job("A.jpg"), job("a.png")], Path("/out"))


def test_companions_share_the_folder_with_results():
    jobs = [job("a.jpg"), job("a_mask.jpg")]
    naming.check(jobs, Path("/out"), ("delta",))
    with pytest.raises(UsageError, match=r"a_mask\.tif"):
        naming.check(jobs, Path("/out"), ("mask",))


def test_no_result_and_no_companion_goes_over_an_input(tmp_path):
    naming.check([job("a.jpg", "/in")], Path("/out"))
    with pytest.raises(UsageError, match="over the input"):
        naming.check([job("a.tif", "/in")], Path("/in"))
    masked = Job(Path("/in/a.jpg"), Path("/in/a_mask.tif"), Path("a.tif"))
    with pytest.raises(UsageError, match="over the input"):
        naming.check([masked], Path("/in"), ("mask",))
    with pytest.raises(UsageError, match="over the input"):
        naming.check([job("a.jpg")], Path("/out"), inputs=[Path("/out/a.tif")])


def test_companions_lie_beside_the_result():
    assert naming.beside(Path("out/x.y.png"), "layer") == Path("out/x.y_layer.tif")
