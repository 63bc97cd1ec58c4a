"""HINet's predicted function on a graphics card: the equations of local_mlp.py as one kernel.

The kernel is started once a level, coarse to fine, and a program of it decodes one block: it makes
the block's weights from the map's four nearest nodes, then goes over the block's pixels. Colours
and mask of the coarser levels are means that it takes itself; features of a level, pixels first,
are all that goes through memory between levels. All arithmetic is float32.

Only local_card.py imports this: it needs Triton, which torch's CUDA builds bring. With
TRITON_INTERPRET=1 in the environment the same kernel runs on a processor, to be tested there.
"""

# ruff: noqa: N803, N806 (capitals are what a kernel is compiled for)

from __future__ import annotations

import triton
import triton.language as tl

from hzcli.nets.modulated import LEAK

_LEAK = tl.constexpr(LEAK)


@triton.jit
def _leaky(x):
    return tl.where(x > 0, x, x * _LEAK)


@triton.jit
def _tanh(x):
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def _sin(x):
    """To 2e-7, up to some thousand turns: Taylor's series from the nearest multiple of pi, whose
    two parts have few enough bits that the first is subtracted exactly."""
    n = tl.floor(x * 0.3183098861837907 + 0.5)
    x = (x - n * 3.140625) - n * 0.0009676535897932385
    q = x * x
    high = 1 - q * (1 / 42) * (1 - q * (1 / 72) * (1 - q * (1 / 110)))
    size = x * (1 - q * (1 / 6) * (1 - q * (1 / 20) * high))
    return tl.where(n.to(tl.int32) % 2 == 0, size, -size)


@triton.jit
def _dot(x, weight, bias):
    return tl.dot(x, weight, input_precision="ieee") + bias[None, :]


@triton.jit
def _between(node, right, down, fx, fy, index, valid):
    """Parameters `index` of the map, bilinear between four nodes."""
    upper, lower = node + index, node + down + index
    a, b = tl.load(upper, valid, 0.0), tl.load(upper + right, valid, 0.0)
    c, d = tl.load(lower, valid, 0.0), tl.load(lower + right, valid, 0.0)
    top, bottom = a + fx * (b - a), c + fx * (d - c)
    return top + fy * (bottom - top)


@triton.jit
def _rows(
    node, right, down, fx, fy, basic, row, some, FAN_IN: tl.constexpr, W: tl.constexpr,
    RANK: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """Weights (rows, WP) of a layer's inputs `row`, where `some`: tanh(A B) * basic."""
    column = tl.arange(0, WP)
    inside = column < W
    product = tl.zeros((row.shape[0], WP), tl.float32)
    for r in range(RANK):
        a = _between(node, right, down, fx, fy, row * RANK + r, some)
        b = _between(node, right, down, fx, fy, FAN_IN * RANK + r * W + column, inside)
        product += a[:, None] * b[None, :]
    learnt = basic + row[:, None] * W + column[None, :]
    return _tanh(product) * tl.load(learnt, some[:, None] & inside[None, :], 0.0)


@triton.jit
def _bias(
    node, right, down, fx, fy, FAN_IN: tl.constexpr, W: tl.constexpr, RANK: tl.constexpr,
    WP: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, WP)
    return _between(node, right, down, fx, fy, (FAN_IN + W) * RANK + column, column < W)


@triton.jit
def _row(matrix, n: tl.constexpr):
    """Row n, (1, columns): numbers of pixels are weighted without a matrix product."""
    at = tl.arange(0, matrix.shape[0])[:, None] == n
    return tl.sum(tl.where(at, matrix, 0.0), 0)[None, :]


@triton.jit
def _source(at, n, SHIFT: tl.constexpr, pixels):
    """Full-size index of the n-th of the pixels that a level's pixel is a mean of. Where an odd
    end has but one, it is taken twice."""
    if SHIFT == 2:
        at = tl.minimum(2 * at + n // 2, (pixels - 1) // 2)
    if SHIFT > 0:
        at = tl.minimum(2 * at + n % 2, pixels - 1)
    return at


@triton.jit
def _place(position, nodes):
    """The index before a fractional one, ends held, the one after, and the share of that."""
    position = tl.minimum(tl.maximum(position, 0.0), nodes - 1.0)
    low = position.to(tl.int32)
    return low, tl.minimum(low + 1, nodes - 1), position - low


@triton.jit
def _corners(values, y0, y1, x0, x1, fy, fx, columns, EACH: tl.constexpr, valid):
    """Bilinear between rows y0 and y1, columns x0 and x1, of pixels of EACH values."""
    a = tl.load(values + ((y0 * columns + x0) * EACH)[:, None], valid, 0.0)
    b = tl.load(values + ((y0 * columns + x1) * EACH)[:, None], valid, 0.0)
    c = tl.load(values + ((y1 * columns + x0) * EACH)[:, None], valid, 0.0)
    d = tl.load(values + ((y1 * columns + x1) * EACH)[:, None], valid, 0.0)
    a += fx[:, None] * (b - a)
    c += fx[:, None] * (d - c)
    return a + fy[:, None] * (c - a)


@triton.jit
def _tone(lut, r, g, b, NODES: tl.constexpr):
    """One channel of a trilinear table indexed [r][g][b][channel]."""
    r0, r1, fr = _place(r * (NODES - 1), NODES)
    g0, g1, fg = _place(g * (NODES - 1), NODES)
    b0, b1, fb = _place(b * (NODES - 1), NODES)
    found = tl.zeros_like(fr)
    for i in tl.static_range(4):
        line = ((r0 if i < 2 else r1) * NODES + (g0 if i % 2 == 0 else g1)) * NODES
        low, high = tl.load(lut + 3 * (line + b0)), tl.load(lut + 3 * (line + b1))
        share = (1 - fr if i < 2 else fr) * (1 - fg if i % 2 == 0 else fg)
        found += share * (low + fb * (high - low))
    return found


@triton.jit(
    do_not_specialize=[
        "height", "width", "tall", "wide", "top", "left", "y0", "y1", "x0", "x1", "row", "column",
        "edge_y", "edge_x", "size_y", "size_x", "step_y", "step_x", "nodes_y", "nodes_x",
    ]
)  # fmt: skip
def decode(
    rgb, mask, prior, out, wanted, nodes, basic, shared, waves, phases, table, lut,
    height, width, tall, wide, top, left, y0, y1, x0, x1, row, column,
    edge_y, edge_x, size_y, size_x, step_y, step_x, nodes_y, nodes_x,
    SHIFT: tl.constexpr, HIDDEN: tl.constexpr, RANK: tl.constexpr, W: tl.constexpr,
    LENGTH: tl.constexpr, WAVES: tl.constexpr, TABLE: tl.constexpr, TABLE_Y: tl.constexpr,
    TABLE_X: tl.constexpr, LUT: tl.constexpr, RESIDUAL: tl.constexpr, WP: tl.constexpr,
    POSITION: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Decode block (row + program 1, column + program 0) of a level; see local_card.py.

    rgb (3, height, width), mask (height, width): of the window at full size. prior: features of
    the next coarser level, (pixels, W). out: this level's, or, at the last, colours like rgb.
    wanted: (programs 1, programs 0), 0 where a block is not.
    """
    if tl.load(wanted + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) == 0:
        return
    row += tl.program_id(1)
    column += tl.program_id(0)
    PRIOR: tl.constexpr = 0 if SHIFT == 2 else W
    POSED: tl.constexpr = 2 + WAVES + TABLE
    FAN_IN: tl.constexpr = POSED + 4 + PRIOR
    feature, posing = tl.arange(0, WP), tl.arange(0, POSITION)
    inside, posed = feature < W, posing < WAVES + TABLE

    # The block's weights; of the first layer by inputs: positions; y, x, colour, mask; the prior.
    ny, ny1, fy = _place((row + 0.5) * edge_y / size_y * nodes_y - 0.5, nodes_y)
    nx, nx1, fx = _place((column + 0.5) * edge_x / size_x * nodes_x - 0.5, nodes_x)
    right, down = (nx1 - nx) * LENGTH, (ny1 - ny) * nodes_x * LENGTH
    node = nodes + (ny * nodes_x + nx) * LENGTH
    by_position = _rows(node, right, down, fx, fy, basic, 2 + posing, posed, FAN_IN, W, RANK, WP)
    one = tl.arange(0, 8)
    of = tl.where(one < 2, one, one + WAVES + TABLE)
    single = _rows(node, right, down, fx, fy, basic, of, one < 6, FAN_IN, W, RANK, WP)
    by_y, by_x, by_mask = _row(single, 0), _row(single, 1), _row(single, 5)
    by_red, by_green, by_blue = _row(single, 2), _row(single, 3), _row(single, 4)
    if PRIOR > 0:
        handed = POSED + 4 + feature
        by_prior = _rows(node, right, down, fx, fy, basic, handed, inside, FAN_IN, W, RANK, WP)
    bias = _bias(node, right, down, fx, fy, FAN_IN, W, RANK, WP)
    node += (FAN_IN + W) * RANK + W
    basic += FAN_IN * W
    if HIDDEN > 0:
        weight1 = _rows(node, right, down, fx, fy, basic, feature, inside, W, W, RANK, WP)
        bias1 = _bias(node, right, down, fx, fy, W, W, RANK, WP)
    if HIDDEN > 1:
        node += 2 * W * RANK + W
        basic += W * W
        weight2 = _rows(node, right, down, fx, fy, basic, feature, inside, W, W, RANK, WP)
        bias2 = _bias(node, right, down, fx, fy, W, W, RANK, WP)
    if HIDDEN > 2:
        node += 2 * W * RANK + W
        basic += W * W
        weight3 = _rows(node, right, down, fx, fy, basic, feature, inside, W, W, RANK, WP)
        bias3 = _bias(node, right, down, fx, fy, W, W, RANK, WP)
    is_wave = posing < WAVES
    wave_y = tl.load(waves + posing, is_wave, 0.0)
    wave_x = tl.load(waves + WAVES + posing, is_wave, 0.0)
    phase = tl.load(phases + posing, is_wave, 0.0)
    is_table = (posed & (posing >= WAVES))[None, :]

    # The block's pixels, as far as they are asked for.
    first_y, first_x = tl.maximum(row * edge_y, y0), tl.maximum(column * edge_x, x0)
    across = tl.minimum(column * edge_x + edge_x, x1) - first_x
    count = (tl.minimum(row * edge_y + edge_y, y1) - first_y) * across
    for begin in range(0, count, PIXELS):
        # At the end the last pixel again: it is written again as it is.
        at = tl.minimum(begin + tl.arange(0, PIXELS), count - 1)
        y, x = first_y + at // across, first_x + at % across
        py, px = (y + 0.5) * step_y - 1, (x + 0.5) * step_x - 1
        y, x = y - top, x - left
        # Position features.
        angle = py[:, None] * wave_y[None, :] + px[:, None] * wave_x[None, :] + phase[None, :]
        ty, ty1, sy = _place((py + 1) * 0.5 * TABLE_Y - 0.5, TABLE_Y)
        tx, tx1, sx = _place((px + 1) * 0.5 * TABLE_X - 0.5, TABLE_X)
        own = table + (posing - WAVES)[None, :]
        learnt = _corners(own, ty, ty1, tx, tx1, sy, sx, TABLE_X, TABLE, is_table)
        z = _dot(tl.where(is_wave[None, :], _sin(angle), learnt), by_position, bias)
        z += py[:, None] * by_y + px[:, None] * by_x
        # Colours, means of the full size's.
        r, g, b, m = py * 0, py * 0, py * 0, py * 0
        for i in range(1 << SHIFT):
            for j in range(1 << SHIFT):
                from_y, from_x = _source(y, i, SHIFT, height), _source(x, j, SHIFT, width)
                pixel = from_y * width + from_x
                r += tl.load(rgb + pixel)
                g += tl.load(rgb + height * width + pixel)
                b += tl.load(rgb + 2 * height * width + pixel)
                m += tl.load(mask + pixel)
        MEAN: tl.constexpr = 1 / (1 << 2 * SHIFT)
        z += (r * (2 * MEAN) - 1)[:, None] * by_red + (g * (2 * MEAN) - 1)[:, None] * by_green
        z += (b * (2 * MEAN) - 1)[:, None] * by_blue + (m * MEAN)[:, None] * by_mask
        if PRIOR > 0:
            vy, vy1, hy = _place(y * 0.5 - 0.25, (tall + 1) // 2)
            vx, vx1, hx = _place(x * 0.5 - 0.25, (wide + 1) // 2)
            given, half = prior + feature[None, :], (wide + 1) // 2
            coarse = _corners(given, vy, vy1, vx, vx1, hy, hx, half, W, inside[None, :])
            z += tl.dot(coarse, by_prior, input_precision="ieee")
        z = _leaky(z)
        if HIDDEN > 0:
            z = _leaky(_dot(z, weight1, bias1))
        if HIDDEN > 1:
            z = _leaky(_dot(z, weight2, bias2))
        if HIDDEN > 2:
            z = _leaky(_dot(z, weight3, bias3))
        if SHIFT > 0:
            tl.store(out + (y * wide + x)[:, None] * W + feature[None, :], z, inside[None, :])
        else:  # the global MLP: three layers (1 + WP, WP) and one (3, 1 + WP), the bias first
            layer = shared
            for _ in range(3):
                square = tl.load(layer + (1 + feature)[:, None] * WP + feature[None, :])
                z = _leaky(_dot(z, square, tl.load(layer + feature)))
                layer += (1 + WP) * WP
            for channel in range(3):
                last = tl.load(layer + 1 + feature)
                colour = tl.sum(z * last[None, :], 1) + tl.load(layer)
                layer += 1 + WP
                if RESIDUAL:
                    colour = _tone(lut + channel, r, g, b, LUT) + _tanh(colour * 0.5)
                else:
                    colour = _tanh(colour) * 0.5 + 0.5
                tl.store(out + channel * height * width + y * width + x, colour)
