"""Wrong usage: exit code 2, 4 or 5, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_shots import Hz, colours, contents, disc, save, shot

from hzcli.errors import DeviceError, ModelError

RUN = ("run", "shots", "--mask-suffix", "_m")


@pytest.mark.parametrize(
    ("words", "said_so"),
    [
        (("run",), "Missing argument"),
        (("run", "shots"), "--mask-suffix _m"),
        (("run", "nowhere", "--mask-suffix", "_m"), "nowhere does not exist"),
        (("run", "void", "--mask-suffix", "_m"), "no picture in void"),
        (("run", "shots", "--mask-suffix", ""), "is no suffix"),
        (("run", "shots", "--mask-dir", "nowhere"), "nowhere is not a folder"),
        (("run", "shots", "--mask-dir", "shots"), "is the input folder itself"),
        (("run", "shots", "--mask", "shots/a_m.png"), "--mask is the mask of one picture"),
        (("run", "shots/a.png", "--mask", "nowhere.png"), "is not a file"),
        (("run", "shots", "--layout", "iharmony4"), "no folder composite_images"),
        ((*RUN, "--layout", "iharmony4"), "already says"),
        ((*RUN, "--truth-suffix", "_M"), "the same suffix"),
        ((*RUN, "-o", "shots"), "is the input folder"),
        ((*RUN, "-o", "shots/a.png"), "is a file"),
        ((*RUN, "--memory", "much"), "is no amount of memory"),
        ((*RUN, "--strength", "1.5"), "less than or equal to 1"),
        ((*RUN, "--mode", "magic"), "magic"),
        ((*RUN, "--device", "toaster"), "toaster"),
        ((*RUN, "--unknown"), "--unknown"),
        (("run", "shots/a_m.png", "--mask-suffix", "_m"), "holds only masks"),
    ],
)
def test_wrong_usage_ends_with_2_and_writes_nothing(
    words: tuple[str, ...], said_so: str, hz: Hz, tmp_path: Path
) -> None:
    """What is wrong stands on stderr, and the folder is as it was."""
    shot(tmp_path / "shots/a.png")
    (tmp_path / "void").mkdir()
    before = contents(tmp_path)

    said = hz(*words)

    assert said.exit_code == 2
    assert said.out == ""
    assert said_so in " ".join(said.err.split())
    assert contents(tmp_path) == before
    assert not (tmp_path / "harmonized").exists()


def test_two_inputs_for_one_output_are_both_named(hz: Hz, tmp_path: Path) -> None:
    """x.png and x.jpg would both become x.tif: nothing is begun."""
    shot(tmp_path / "shots/x.png")
    shot(tmp_path / "shots/X.jpg", mask=None)

    said = hz(*RUN)

    assert said.exit_code == 2
    assert "shots/x.png" in said.err
    assert "shots/X.jpg" in said.err
    assert not (tmp_path / "harmonized").exists()


def test_a_result_never_lands_on_an_input(hz: Hz, tmp_path: Path) -> None:
    """Even with -f a picture, mask or ground truth in the output folder's place is safe."""
    shot(tmp_path / "shots/a.png", mask=None)
    save(tmp_path / "masks/a.tif", disc())
    before = contents(tmp_path)

    said = hz("run", "shots/a.png", "--mask-dir", "masks", "-o", "masks", "-f")

    assert said.exit_code == 2
    assert "over the input" in said.err
    assert contents(tmp_path) == before


def test_a_missing_model_is_4_and_writes_nothing(
    hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of weights end the run before a file is made."""
    import hzcli.models

    def load(name: object, device: object) -> object:
        raise ModelError('there is no model "x"', "see hz models")

    monkeypatch.setattr(hzcli.models, "load", load)
    shot(tmp_path / "shots/a.png")

    said = hz(*RUN)

    assert said.exit_code == 4
    assert 'there is no model "x".' in said.err
    assert not (tmp_path / "harmonized").exists()


def test_a_device_that_is_not_there_is_5_never_the_cpu(
    hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that was named is taken or refused."""
    from hzcli.engine import device

    def pick(name: str) -> object:
        raise DeviceError(f"{name} is not there", "use --device auto")

    monkeypatch.setattr(device, "pick", pick)
    shot(tmp_path / "shots/a.png")

    said = hz(*RUN, "--device", "cuda:7")

    assert said.exit_code == 5
    assert "cuda:7 is not there" in said.err
    assert not (tmp_path / "harmonized").exists()


def test_a_forgotten_truth_suffix_is_guessed(hz: Hz, tmp_path: Path) -> None:
    """x_gt.png beside x.png without a mask is told about --truth-suffix."""
    shot(tmp_path / "shots/x.png")
    save(tmp_path / "shots/x_gt.png", colours())

    assert "--truth-suffix _gt" in hz(*RUN).err
