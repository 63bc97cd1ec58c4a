"""The segments of a TIFF as they lie in the file, to be copied without being decoded."""

from __future__ import annotations

from hzcli.io.formats.faults import exactly, unreadable
from hzcli.io.formats.tags import NONE, Page


class Encoded:
    """Encoded strips or tiles of a page of one channel group; a context manager.

    Args:
        page: of the file; not planar.
        rows: height of a strip, where rows lie as they are and may be cut elsewhere
            (`Page.direct`); else the page's own.

    Raises:
        PictureError: the file cannot be opened any more.
    """

    def __init__(self, page: Page, rows: int) -> None:
        self._page, self._rows = page, rows
        header = page.header
        try:
            self._file = open(header.path, "rb", buffering=0)  # noqa: SIM115 - until close()
        except OSError as error:
            raise unreadable(header.path, header.format, error) from error

    def segment(self, index: int) -> bytes:
        """The bytes of one strip or tile, counted in rows from the top left.

        Raises:
            PictureError: the file ends early, or the disk refuses.
        """
        header = self._page.header
        try:
            parts = (exactly(self._file, *place, header) for place in self._places(index))
            return b"".join(parts)
        except OSError as error:
            raise unreadable(header.path, header.format, error) from error

    def _places(self, index: int) -> list[tuple[int, int]]:
        page = self._page
        if not page.direct:
            length = page.lengths[index]
            if page.compression == NONE:
                # Without compression all are of one size; some writers pad them.
                pixel = page.samples * page.bits // 8
                length = page.segment.pixels * pixel
                if not page.tiled:
                    rows = page.header.stored.height - index * page.segment.height
                    length = min(length, rows * page.row_bytes)
            return [(page.offsets[index], length)]
        row, step = index * self._rows, page.segment.height
        bottom = min(row + self._rows, page.header.stored.height)
        places = []
        while row < bottom:
            strip = row // step
            last = min((strip + 1) * step, bottom)
            start = page.offsets[strip] + (row - strip * step) * page.row_bytes
            places.append((start, (last - row) * page.row_bytes))
            row = last
        return places

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Encoded:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
