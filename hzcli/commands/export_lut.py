"""`hz export-lut`: what a model does to a picture's colours, as a file that other programs read."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hzcli import __version__
from hzcli.engine import pairing
from hzcli.engine.delivery import FileSettings, opened
from hzcli.engine.fates import failed
from hzcli.engine.looks.hosts import CURVE
from hzcli.engine.looks.look_plan import STDOUT, LookSettings, single, targets_of
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job, PairingRules
from hzcli.errors import HzError, UsageError
from hzcli.report import Event, Result

if TYPE_CHECKING:
    from hzcli.engine.looks.foreground import Foreground
    from hzcli.engine.looks.looks import PictureLook

__all__ = ["Exported", "LookSettings", "export_lut"]

OnEvent = Callable[[Event], None]
TOO_FAR = 7  # exit code
# Above this mean residual in 8-bit levels a warning says where it comes from.
VISIBLE = 1.5


@dataclass(frozen=True)
class Exported(Outcome):
    """A picture's look, or how near a merged one comes to it.

    exact: whether the model holds the look itself. size: nodes a side, or entries of curves.
    own: as many as the model's own look has, where it is exact.
    residual: {"levels" | "delta_e": {"mean", "median", "p99", "max"}, "by_place"}, the look's
    picture against hz's, where the mask is above 0. trust: share at which it was merged.
    """

    exact: bool | None = None
    format: str = ""
    size: int | None = None
    own: int | None = None
    space: str = "srgb"
    strength: float = 1.0
    interpolation: str = ""
    residual: dict[str, Any] = field(default_factory=dict)
    trust: float | None = None


def export_lut(
    inputs: Sequence[Path],
    rules: PairingRules,
    settings: LookSettings,
    *,
    model: str | Path,
    on_event: OnEvent = lambda event: None,
) -> Result:
    """Write a look for every picture, or one for all.

    Args:
        inputs: files and folders. rules: where masks are. model: id of weights, or their file.

    Returns:
        One `Exported` a picture; where their residuals are too large, with exit code 7.

    Raises:
        UsageError: the plan cannot be carried out. ModelError, DeviceError: nor can any look.
    """
    start = time.perf_counter()
    if settings.background is not None and not settings.background.is_file():
        raise UsageError(f"--background {settings.background} is not a file", "Check its spelling.")
    folder = None if single(settings) else Path(settings.output or "looks")
    # Hald CLUTs are pictures: those written before are no inputs.
    skip = folder if settings.form.format == "hald" else None
    jobs = pairing.find(inputs, replace(rules, output=skip))
    targets = targets_of(jobs, settings, folder)

    from hzcli.engine import device as devices

    taken, note = devices.pick(settings.device)
    on_event(Event("info" if settings.device == "auto" else "note", text=f"device: {note}"))
    from hzcli import models

    predictor = models.load(model, taken)
    if settings.background is not None and not getattr(predictor, "takes_reference", False):
        raise UsageError(
            f"{predictor.card.id} takes no --background: it harmonises towards each picture's own",
            "Choose weights of S2CRNet with --model; hz models lists them.",
        )
    work = _Export(settings, predictor, taken, on_event)
    on_event(Event("begin", count=len(jobs)))
    interrupted = False
    rows: list[Exported] = []
    try:
        rows = work.together(jobs, targets[0]) if settings.merge else []
        for job, target in () if settings.merge else zip(jobs, targets, strict=True):
            rows.append(work.one(job, target))
            on_event(Event("row", row=rows[-1]))
    except KeyboardInterrupt:
        interrupted = True
    done = [row for row in rows if row.status == "done"]
    limit = float("inf") if settings.max_residual is None else settings.max_residual
    far = [row for row in done if _mean(row) > limit]
    bad = any(row.status == "failed" for row in rows)
    return Result(
        "export-lut",
        outcomes=tuple(rows),
        interrupted=interrupted,
        output=folder,
        files=tuple(dict.fromkeys(Path(row.output) for row in done if row.output)),
        summary={
            "version": __version__,
            "pictures_found": len(jobs),
            "seconds": round(time.perf_counter() - start, 3),
            "merged": settings.merge,
            "stdout": settings.output == STDOUT,
            "median_residual": statistics.median(map(_mean, done)) if done else None,
            "max_residual": settings.max_residual,
            "beyond": len(far),
        },
        exit=TOO_FAR if far and not bad else None,
    )


def _masks(job: Job) -> str:
    return ", ".join(str(path) for path in job.masks)


def _mean(row: Exported) -> float:
    return float(row.residual["levels"]["mean"])


@dataclass(frozen=True)
class _Export:
    """Looks of pictures, by one model."""

    settings: LookSettings
    predictor: Any
    device: Any
    on_event: OnEvent

    def one(self, job: Job, target: Path | Literal["-"]) -> Exported:
        """A picture's look, written, and measured against what `hz run` makes of the picture."""
        self.on_event(Event("start", text=str(job.composite)))
        start = time.perf_counter()
        if target != STDOUT and Path(target).exists() and not self.settings.overwrite:
            return Exported(
                input=str(job.composite), mask=_masks(job), output=str(target), status="kept"
            )
        try:
            from hzcli.engine.looks import looks

            with self._seen(job) as seen:
                look = looks.look_of(seen, self.settings.form.size or looks.FIT_SIZE)
                given = self._given(look)
                row = self._row(job, seen, given, look)
            self._write(given, target, job.composite.stem, row)
        except Exception as error:  # a bad picture must not end the others
            return self._failed(job, error)
        spent = {"total": time.perf_counter() - start}
        return replace(row, output=str(target), seconds=spent)

    def together(self, jobs: Sequence[Job], target: Path | Literal["-"]) -> list[Exported]:
        """One look for all pictures that can be done, and its residual on each."""
        from hzcli.engine.looks import looks

        found: dict[int, PictureLook] = {}
        rows: dict[int, Exported] = {}
        for index, job in enumerate(jobs):
            self.on_event(Event("start", text=str(job.composite)))
            try:
                with self._seen(job) as seen:
                    found[index] = looks.look_of(seen, self.settings.form.size or looks.FIT_SIZE)
            except Exception as error:
                rows[index] = self._failed(job, error)
                self.on_event(Event("row", row=rows[index]))
        if not found:
            return list(rows.values())
        whole, trust = looks.merged(list(found.values()), self.settings.form.size or looks.FIT_SIZE)
        given = self._given(whole)
        for index, share in zip(found, trust, strict=True):
            start = time.perf_counter()
            try:
                with self._seen(jobs[index]) as seen:
                    row = self._row(jobs[index], seen, given)
                if share < 0.5:
                    said = f"unlike the others: it counted {share:.0%} of its pixels in the merge"
                    row = replace(row, warnings=(*row.warnings, said))
                spent = {"total": time.perf_counter() - start}
                rows[index] = replace(row, output=str(target), trust=share, seconds=spent)
            except Exception as error:
                rows[index] = self._failed(jobs[index], error)
            self.on_event(Event("row", row=rows[index]))
        done = [row for row in rows.values() if row.status == "done"]
        if done:
            self._write(given, target, f"{len(found)} pictures", done[0])
        return [rows[index] for index in sorted(rows)]

    @contextlib.contextmanager
    def _seen(self, job: Job) -> Iterator[Foreground]:
        from hzcli.engine.looks.foreground import foreground
        from hzcli.engine.looks.look_colour import colour_of
        from hzcli.io.masks import union
        from hzcli.io.picture import open_picture

        s = self.settings
        with contextlib.ExitStack() as files:
            found = files.enter_context(
                opened(job, FileSettings(assume_profile=s.assume), s.budget_bytes)
            )
            colour, name, notes = colour_of(found.reader, s.assume)
            towards = towards_colour = None
            if s.background is not None:
                towards = files.enter_context(open_picture(s.background))
                towards_colour = colour_of(towards, s.assume)[0]
            seen = files.enter_context(
                foreground(
                    found.reader,
                    union(found.masks),
                    self.predictor,
                    mode=s.mode,
                    device=self.device,
                    budget_bytes=s.budget_bytes,
                    reference=towards,
                    colour=colour,
                    reference_colour=towards_colour,
                )
            )
            if len(found.masks) > 1:
                notes += (
                    f"one look for {len(found.masks)} masks together: hz run takes each by itself",
                )
            if seen.colour is not None and s.form.space == "srgb":
                notes += (
                    f"the picture is in {name}, its look is for sRGB: a host that does not convert"
                    " wants another --space",
                )
            yield replace(seen, warnings=(*notes, *seen.warnings))

    def _given(self, look: PictureLook) -> Any:
        """What the host is given, as numbers of the file's precision."""
        import numpy as np

        from hzcli.engine.looks import looks, spaces

        form = self.settings.form
        if form.curves:
            if look.knots is None:
                raise UsageError(
                    "this look mixes channels, and three curves cannot",
                    "Choose --format cube; S2CRNet alone holds curves.",
                )
            size = form.size or (look.nodes if look.even and look.nodes <= CURVE else CURVE)
            given = looks.curves_of(look, size, strength=form.strength, clamp=form.clamp)
        else:
            given = looks.table_of(
                look,
                form.size or looks.FIT_SIZE,
                space=spaces.SPACES[form.space],
                strength=form.strength,
                clamp=form.clamp,
            )
        return given if form.steps is None else np.rint(given * form.steps) / form.steps

    def _row(
        self, job: Job, seen: Foreground, given: Any, look: PictureLook | None = None
    ) -> Exported:
        """How near what the host is given comes; look: what it was made of, if not of several."""
        from hzcli.engine.looks import looks, spaces

        s = self.settings
        residual = looks.residual_of(
            seen,
            given,
            interpolation=s.form.interpolation,
            space=spaces.SPACES[s.form.space],
            strength=s.form.strength,
        )
        warnings = [*job.warnings, *seen.warnings]
        mean = residual["levels"]["mean"]
        if mean > VISIBLE and look is not None and not look.exact:
            warnings.append(
                f"no table gives this picture: {residual['by_place']:.0%} of the residual differs "
                "from place to place between pixels of one colour"
            )
        return Exported(
            input=str(job.composite),
            mask=_masks(job),
            width=seen.reader.size.width,
            height=seen.reader.size.height,
            depth_in=seen.reader.depth,
            model=getattr(getattr(self.predictor, "card", None), "id", None),
            mode=s.mode,
            device=str(self.device),
            foreground=seen.survey.foreground,
            warnings=tuple(warnings),
            exact=look is not None and look.exact,
            own=look.nodes if look is not None and look.exact else None,
            format=s.form.format,
            size=len(given),
            space=s.form.space,
            strength=s.form.strength,
            interpolation=s.form.interpolation,
            residual=residual,
            plan=f"{seen.inside} pixels of foreground",
        )

    def _write(self, given: Any, target: Path | Literal["-"], name: str, row: Exported) -> None:
        import numpy as np

        from hzcli.engine.looks.spaces import SPACES
        from hzcli.io import looks as files
        from hzcli.io.cube import Look

        array = np.ascontiguousarray(given, np.float32)
        title = f"{name} ({row.model})" if row.model else name
        look = Look(title, None, array) if array.ndim == 2 else Look(title, array)
        how = "linear" if array.ndim == 2 else row.interpolation
        comments = [
            f"hz {__version__}  model={row.model}  strength={row.strength:g}",
            f"space={SPACES[row.space].title}, encoded  in=0..1 out=0..1  interpolation={how}",
        ]
        where: Any = sys.stdout.buffer if target == STDOUT else target
        files.write(look, where, row.format, comments=comments)
        if target == STDOUT:
            sys.stdout.buffer.flush()

    def _failed(self, job: Job, error: Exception) -> Exported:
        if isinstance(error, UsageError):  # true of every picture
            raise error
        if self.settings.traces and not isinstance(error, HzError):
            self.on_event(Event("note", text=traceback.format_exc()))
        return Exported(**{**vars(failed(job, error)), "format": self.settings.form.format})
