"""How near a picture is to its ground truth: MSE, fMSE, PSNR and SSIM, band by band.

Two protocols, which give different figures:

- "standard": levels of 0..255 (16-bit codes / 257), the picture as delivered, at its own size.
  MSE is the mean of (p - g)^2 over all pixels and channels; fMSE = sum m (p - g)^2 / (3 sum m)
  with the soft mask m; PSNR has a peak of 255; SSIM is Wang et al. (2004).
- "hinet": as in HINet's evaluation (arXiv 2303.01681): the picture is p where m > 100/255 and g
  elsewhere; MSE is weighted by m, but divided by all pixels; the peak of PSNR is the largest
  value of that ground truth; SSIM compares p m + g (1 - m) with g.

Legend: p picture, g ground truth, m mask; SSIM with an 11 x 11 Gaussian of sigma 1.5, only where
it fits ("valid"), data range 255, mean over pixels and channels.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from hzcli.core.window import Size, Window, bands

PROTOCOLS = ("standard", "hinet")

RADIUS = 5
SIGMA = 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
HINET_THRESHOLD = np.float32(100 / 255)
# Rows worked on at once: about PART_PIXELS, but SSIM repeats 10 rows of each part, and blurs
# with a matrix product whose cost per pixel is the number of rows.
PART_PIXELS = 1 << 18
LEAST_ROWS, MOST_ROWS = 32, 128
WORKING_BYTES = 64 << 20  # what that takes, about
BLOCK = 64  # columns blurred by one matrix product


def measure(
    picture: np.ndarray, truth: np.ndarray, mask: np.ndarray, protocol: str = "standard"
) -> dict[str, float | None]:
    """The metrics of a whole picture; arguments and result as of `StreamedMetrics`."""
    metrics = StreamedMetrics(protocol)
    metrics.update(picture, truth, mask, Window.whole(Size(*picture.shape[:2])))
    return metrics.compute()


class StreamedMetrics:
    """Compares a picture with its ground truth, given in full-width bands from top to bottom."""

    def __init__(self, protocol: str = "standard") -> None:
        assert protocol in PROTOCOLS, protocol
        self.protocol = protocol
        self._size: Size | None = None
        self._rows = 0
        self._squares = self._weighted = self._weights = self._ssim = 0.0
        self._peak = 0.0
        self._kept: tuple[np.ndarray, np.ndarray] | None = None

    def update(
        self, picture: np.ndarray, truth: np.ndarray, mask: np.ndarray, window: Window
    ) -> None:
        """Take in the next rows.

        Args:
            picture, truth: (h, W, 3), uint8, uint16, or float32 of 0..255.
            mask: (h, W), uint8, uint16, or float32 of 0..1.
            window: the rows that these are; each begins where the last one ended.
        """
        assert window.top == self._rows, "bands come in order, without gaps"
        assert window.width == window.size.width == picture.shape[1]
        self._size, self._rows = window.size, window.bottom
        rows = min(max(LEAST_ROWS, PART_PIXELS // window.width), MOST_ROWS)
        for part in bands(Size(window.height, window.width), rows):
            at = slice(part.top, part.bottom)
            self._take(_levels(picture[at]), _levels(truth[at]), share_of(mask[at]))

    def _take(self, p: np.ndarray, g: np.ndarray, m: np.ndarray) -> None:
        m = m[..., None]
        if self.protocol == "hinet":
            p = np.where(m > HINET_THRESHOLD, p, g)
        squares = p - g
        squares *= squares
        self._squares += float(squares.sum(dtype=np.float64))
        squares *= m
        self._weighted += float(squares.sum(dtype=np.float64))
        self._weights += float(m.sum(dtype=np.float64))
        self._peak = max(self._peak, float(g.max()))
        if self.protocol == "hinet":
            p = g + m * (p - g)
        self._take_ssim(p, g)

    def _take_ssim(self, p: np.ndarray, g: np.ndarray) -> None:
        if self._kept is not None:
            p = np.concatenate([self._kept[0], p])
            g = np.concatenate([self._kept[1], g])
        self._kept = p[-2 * RADIUS :].copy(), g[-2 * RADIUS :].copy()
        if min(p.shape[:2]) > 2 * RADIUS:
            self._ssim += sum(_ssim_sum(p[..., channel], g[..., channel]) for channel in range(3))

    def compute(self) -> dict[str, float | None]:
        """The metrics of all that was given.

        Returns:
            {"mse", "fmse", "psnr", "ssim"}; psnr is infinite for equal pictures ("standard"),
            ssim is None for pictures lower or narrower than 11 pixels.
        """
        assert self._size is not None and self._rows == self._size.height, "rows are missing"
        values = 3 * self._size.pixels
        if self.protocol == "hinet":
            mse = self._weighted / values
            fmse = self._weighted / (3 * self._weights + 1e-6)
            peak, floor = self._peak, 1e-6
        else:
            mse = self._squares / values
            fmse = self._weighted / (3 * self._weights) if self._weights else 0.0
            peak, floor = 255.0, 0.0
        psnr = math.inf
        if mse + floor > 0:
            psnr = 10 * math.log10(peak**2 / (mse + floor)) if peak else -math.inf
        places = 3 * (self._size.height - 2 * RADIUS) * (self._size.width - 2 * RADIUS)
        fits = min(self._size.height, self._size.width) > 2 * RADIUS
        ssim = self._ssim / places if fits else None
        return {"mse": mse, "fmse": fmse, "psnr": psnr, "ssim": ssim}


def _ssim_sum(p: np.ndarray, g: np.ndarray) -> float:
    """Sum of the SSIM map of one channel: (h, w) in, (h - 10) x (w - 10) values added up."""
    places = p.shape[1] - 2 * RADIUS
    # Variances do not care about a shift; around 0 their float32 differences lose less.
    beyond = -places % BLOCK
    p, g = (np.pad(x - np.float32(127.5), ((0, 0), (0, beyond))) for x in (p, g))
    mean_p, mean_g = _blur(p), _blur(g)
    covariance = _blur(p * g)
    covariance -= mean_p * mean_g
    variances = _blur(p * p + g * g)
    variances -= mean_p * mean_p
    variances -= mean_g * mean_g
    mean_p += np.float32(127.5)
    mean_g += np.float32(127.5)
    ssim = (2 * mean_p * mean_g + np.float32(C1)) * (2 * covariance + np.float32(C2))
    ssim /= (mean_p * mean_p + mean_g * mean_g + np.float32(C1)) * (variances + np.float32(C2))
    total = float(ssim.sum(dtype=np.float64))
    if beyond:  # what the padding gave
        total -= float(ssim[-1, :, -beyond:].sum(dtype=np.float64))
    return total


def _blur(values: np.ndarray) -> np.ndarray:
    """Gaussian where it fits: (h, n BLOCK + 10) -> (n, h - 10, BLOCK), blocks of columns.

    Both passes are matrix products, which are several times faster than adding shifted
    copies. The layout does not matter to a sum. By torch, not numpy: the threads of numpy's
    BLAS spin while they wait, and on two busy cores that took eight times as long.
    """
    down = _gaussian(len(values) - 2 * RADIUS) @ torch.from_numpy(values)
    blocks = down.unfold(1, BLOCK + 2 * RADIUS, BLOCK).transpose(0, 1)
    return (blocks @ _gaussian(BLOCK).T).numpy()


@functools.lru_cache(maxsize=8)
def _gaussian(places: int) -> torch.Tensor:
    """The 11-tap window at each of `places` positions of a line, (places, places + 10)."""
    offset = np.arange(places + 2 * RADIUS) - np.arange(places)[:, None] - RADIUS
    window = np.exp(-(offset**2) / (2 * SIGMA**2)) * (np.abs(offset) <= RADIUS)
    return torch.from_numpy((window / window.sum(axis=1, keepdims=True)).astype(np.float32))


def _levels(codes: np.ndarray) -> np.ndarray:
    """Any depth as float32 levels of 0..255."""
    scale = 257 if codes.dtype == np.uint16 else 1
    return np.divide(codes, np.float32(scale), dtype=np.float32)


def share_of(codes: np.ndarray) -> np.ndarray:
    """A mask of any depth as float32, [0, 1]."""
    # Divided, not multiplied by the reciprocal: code 100 must not end above 100/255.
    scale = np.iinfo(codes.dtype).max if codes.dtype.kind == "u" else 1
    return np.divide(codes, np.float32(scale), dtype=np.float32)
