"""What is said through Python's `warnings` while pictures are worked on reaches the user once."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from made_shots import Darker, Hz, shot

from hzcli.io.hushed import gathered, hushed

RUN = ("run", "shots", "--mask-suffix", "_m")


class Warner(Darker):
    """Calls `warn` in every picture: where the network runs, or where its answer is applied."""

    def __init__(self, where: str, warn: Callable[[], object]) -> None:
        self.where, self.warn = where, warn

    def predict(self, thumb: object) -> object:
        lut = super().predict(thumb)
        if self.where == "network":
            self.warn()
            return lut
        return Warns(lut, self.warn)


class Warns:
    def __init__(self, transform: object, warn: Callable[[], object]) -> None:
        self.transform, self.warn = transform, warn
        self.reach = transform.reach  # type: ignore[attr-defined]

    def apply(self, rgb: object, mask: object, window: object) -> object:
        self.warn()
        return self.transform.apply(rgb, mask, window)  # type: ignore[attr-defined]


@pytest.fixture
def warner(
    hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Callable[[], object]], None]:
    """Four pictures, and a model that warns in each."""
    import hzcli.models

    for name in "abcd":
        shot(tmp_path / f"shots/{name}.png")

    def install(where: str, warn: Callable[[], object]) -> None:
        monkeypatch.setattr(hzcli.models, "load", lambda name, device: Warner(where, warn))

    return install


def no_kernel() -> object:
    """HINet's own warning, from where it arises."""
    import torch

    from hzcli.nets import local_card

    return local_card._agrees(object(), torch.zeros(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", ["1", "3"])
@pytest.mark.parametrize("where", ["network", "picture"])
def test_a_warning_of_our_own_reaches_the_user_once(
    where: str, jobs: str, hz: Hz, warner: Callable[..., None]
) -> None:
    """On stderr as other warnings, in the summary's line and in the report; -q is quiet."""
    warner(where, no_kernel)

    said = hz(*RUN, "-j", jobs, "--json")

    assert said.exit_code == 0
    (line,) = [line for line in said.err.splitlines() if "kernel" in line]
    assert line.startswith("warning: HINet decodes without its kernel on cpu, more slowly: ")
    assert said.lines[-1]["warnings"] == [line.removeprefix("warning: ")]
    report = json.loads(Path("harmonized/report.json").read_text())
    assert report["warnings"] == said.lines[-1]["warnings"]
    assert hz(*RUN, "-j", jobs, "-q", "-f").err == ""


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_library_is_told_of_once_a_place_and_programmers_matters_never(
    jobs: str, hz: Hz, warner: Callable[..., None]
) -> None:
    """Else a thousand pictures could say it with a thousand numbers."""
    count = iter(range(1000))

    def warn() -> None:
        warnings.warn(f"odd value\n {next(count)}", UserWarning, stacklevel=1)
        warnings.warn("use something else", DeprecationWarning, stacklevel=1)

    warner("picture", warn)

    said = hz(*RUN, "-j", jobs, "--json")

    (text,) = said.lines[-1]["warnings"]
    assert text.startswith("odd value 0 (UserWarning, cli/test_warnings.py:")
    assert said.err.count("odd value") == 1


def test_several_models_say_it_in_the_comparison_too(hz: Hz, warner: Callable[..., None]) -> None:
    warner("picture", no_kernel)

    hz(*RUN, "-m", "one", "-m", "two")

    (first, second) = json.loads(Path("harmonized/report.json").read_text())["warnings"]
    assert first == second
    assert "kernel" in first


def test_a_thread_hushes_itself_alone() -> None:
    """While one thread hushes Pillow, another is heard; the filters are afterwards as before."""
    before = list(warnings.filters), warnings.showwarning
    inside, done = threading.Event(), threading.Event()

    def quiet() -> None:
        with hushed():
            inside.set()
            done.wait(10)
            warnings.warn("of a block", UserWarning, stacklevel=1)

    with gathered() as heard:
        thread = threading.Thread(target=quiet)
        thread.start()
        assert inside.wait(10)
        warnings.warn("of a picture", UserWarning, stacklevel=1)
        done.set()
        thread.join()
        warnings.warn("of another", UserWarning, stacklevel=1)
        texts = [text.split(" (")[0] for text in heard.new()]

    assert texts == ["of a picture", "of another"]
    assert heard.new() == []
    assert (list(warnings.filters), warnings.showwarning) == before


def test_outside_a_batch_hushed_is_pythons_own() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with hushed():
            warnings.warn("of a block", UserWarning, stacklevel=1)
        warnings.warn("of a picture", UserWarning, stacklevel=1)

    assert [str(one.message) for one in caught] == ["of a picture"]
