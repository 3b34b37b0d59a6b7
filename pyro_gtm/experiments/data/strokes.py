"""Handwritten characters of an alphabet that does not end: an Omniglot that needs no file.

A character is two to four pen strokes between the nine nodes of a small lattice, which its class
bends, stretches and rounds in its own way. Each drawing of it shakes the strokes and slants,
stretches and moves the whole. Everything follows from (seed, class), so that there are as many
classes as one asks for, and those of training and test never meet.

Made up here: one-shot recall needs characters never seen in training, for which the paper (figures
7, 8 and 25) has Omniglot; see :func:`load_omniglot`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyro_gtm.experiments.data.images import ImageSet, ImageSplits, prepare
from pyro_gtm.internals.checks import check_positive

SIDE = 28  # pixels
FloatArray = npt.NDArray[np.float64]

# A class. The lattice is 3 x 3 nodes; an edge is a step to one of the up to eight nodes next to it.
NODES = np.array([(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)])
MAX_NODES = 5  # of a stroke
STROKE_COUNTS = np.array([2, 2, 2, 3, 3, 4])  # equally likely
MAX_STROKES = 4
MAX_EDGES = 8  # of a character: more are hard to tell apart on 28 pixels
SHARES = {"short line": 0.1, "long line": 0.3, "ring": 0.08, "curve": 0.52}  # of the strokes
BEND = 0.22  # the most that a node moves each way, in edges

# A drawing: standard deviations, in pixels where not said otherwise.
SLANT = 0.1  # of each entry of the linear map; around the identity
MOVE = 0.8  # of the whole
STROKE_SHAKE = 0.5
NODE_SHAKE = 0.5
PRESSURE = 0.1  # of the logarithm of the ink

# The pen.
SAMPLES = 33  # points along a stroke
INK = 1.8  # 9 / 5: an upright line in the middle of its pixels is just white
NIB = np.array([2.0, 5.0, 2.0]) / 9  # spreads the ink along either axis

CHARACTERS_AT_ONCE = 32  # keeps the working arrays small


def load_strokes(
    binarise: str = "threshold",
    seed: int = 0,
    train_classes: int = 964,
    test_classes: int = 240,
    drawings: int = 20,
) -> ImageSplits:
    """Characters to learn from and other characters to be judged on, each ``(1, 28, 28)``.

    Labels are class numbers: 0 to train_classes - 1 train, the next ``test_classes`` test.  The
    drawings of a class follow one another.  As many training classes and drawings as Omniglot has
    by default; 11 % of the pixels are ink with the threshold of :func:`prepare`, level 128.

    Args:
        binarise: see :func:`prepare`.
        seed: fixes the characters, their drawings and the draws of ``binarise="sampled"``.
        train_classes: the number of characters to learn from.
        test_classes: the number of characters to be judged on.
        drawings: the number of images of each.

    Raises:
        ValueError: a number is not positive, the seed negative or ``binarise`` unknown.
    """
    check_positive("load_strokes", train_classes=train_classes, test_classes=test_classes)
    classes = np.arange(train_classes + test_classes)
    levels = draw_characters(classes, drawings, seed).reshape(-1, SIDE, SIDE)
    images, labels = prepare(levels, classes.repeat(drawings), binarise, seed)
    n = train_classes * drawings
    return ImageSplits(ImageSet(images[:n], labels[:n]), ImageSet(images[n:], labels[n:]))


def draw_characters(
    classes: npt.ArrayLike, drawings: int = 20, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Grey pictures of characters.

    Drawing d of class c is the same picture whatever other classes and however many drawings are
    asked for.

    Args:
        classes: non-negative integers in any order, a range, a list or an array: ``(C,)``.
        drawings: the number of pictures of each class.
        seed: another seed, other characters.

    Returns:
        ``(C, drawings, 28, 28)`` of uint8, 255 being ink.

    Raises:
        ValueError: there is no class, classes are not such numbers, there is no drawing, or the
            seed is negative.
    """
    numbers = np.asarray(classes)
    is_list = numbers.ndim == 1 and numbers.size > 0 and numbers.dtype.kind in "iu"
    if not is_list or numbers.min() < 0:
        raise ValueError(
            f"classes: got {classes!r}, must be a collection of non-negative integers, and not "
            "empty"
        )
    check_positive("draw_characters", drawings=drawings)
    if seed < 0:
        raise ValueError(f"seed: got {seed}, must be a non-negative integer")
    groups = np.split(numbers, range(CHARACTERS_AT_ONCE, len(numbers), CHARACTERS_AT_ONCE))
    return np.concatenate([_draw(group, drawings, seed) for group in groups])


def _draw(classes: npt.NDArray[Any], drawings: int, seed: int) -> npt.NDArray[np.uint8]:
    # A generator for each class, so that no class depends on the others.
    generators = [np.random.default_rng((seed, int(number))) for number in classes]
    strokes = _design(np.stack([generator.random(NUM_TRAITS) for generator in generators]))
    # Drawings lead, so that the first are the same however many follow.
    shake = [generator.standard_normal((drawings, NUM_SHAKES)) for generator in generators]
    return _ink(*_write(strokes, np.stack(shake)), strokes.owner)


class _Paths(NamedTuple):
    """Every stroke there is, P in all."""

    nodes: npt.NDArray[np.int64]  # (P, MAX_NODES), the last node repeated
    num_nodes: npt.NDArray[np.int64]  # (P,)
    edges: FloatArray  # (P, 20): 1 where the stroke goes along that edge
    visits: FloatArray  # (P, 9): 1 where it passes that node
    weight: FloatArray  # (P,): how likely it is


@cache
def _paths() -> _Paths:
    paths = [path for start in range(len(NODES)) for path in _extensions((start,))]
    edges = {edge: k for k, edge in enumerate(sorted({e for path in paths for e in _edges(path)}))}
    along, visits = np.zeros((len(paths), len(edges))), np.zeros((len(paths), len(NODES)))
    for p, path in enumerate(paths):
        along[p, [edges[edge] for edge in _edges(path)]] = 1
        visits[p, list(path)] = 1
    kinds = [_kind(path) for path in paths]
    return _Paths(
        nodes=np.array([path + path[-1:] * (MAX_NODES - len(path)) for path in paths]),
        num_nodes=np.array([len(path) for path in paths]),
        edges=along,
        visits=visits,
        weight=np.array([SHARES[kind] / kinds.count(kind) for kind in kinds]),
    )


def _extensions(path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """``path`` and every stroke that begins with it, each in one direction only.

    A stroke turns by a right angle at most, and passes a node once; but four edges may close.
    """
    ring = len(path) > 1 and path[0] == path[-1]
    if len(path) > 1 and (path[1] < path[-2] if ring else path[0] < path[-1]):
        yield path
    if ring or len(path) == MAX_NODES:
        return
    for node in range(len(NODES)):
        closes = node == path[0] and len(path) == MAX_NODES - 1
        if (node in path and not closes) or np.abs(NODES[node] - NODES[path[-1]]).max() != 1:
            continue
        longer = (*path, node)
        corners = (*longer, path[1]) if closes else longer
        steps = np.diff(NODES[list(corners)], axis=0)
        if (steps[1:] * steps[:-1]).sum(-1).min(initial=0) >= 0:
            yield from _extensions(longer)


def _edges(path: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(min(edge), max(edge)) for edge in pairwise(path)]


def _kind(path: tuple[int, ...]) -> str:
    if path[0] == path[-1]:
        return "ring"
    if len(path) == 2:
        return "short line"
    steps = np.diff(NODES[list(path)], axis=0)
    return "long line" if (steps == steps[0]).all() else "curve"


class _Strokes(NamedTuple):
    """The strokes of C characters one after the other, K in all."""

    owner: npt.NDArray[np.int64]  # (K,): which character, 0 to C - 1
    place: npt.NDArray[np.int64]  # (K,): which of its strokes
    points: FloatArray  # (K, MAX_NODES, 2): the nodes on the way, in pixels from the middle
    basis: FloatArray  # (K, SAMPLES, MAX_NODES): from the nodes to the curve


NUM_TRAITS = 5 + MAX_STROKES + NODES.size  # of a class, each uniform in [0, 1)


def _design(traits: FloatArray) -> _Strokes:
    """The strokes of C characters from their traits, ``(C, NUM_TRAITS)``."""
    count, width, height, roundness, size = traits[:, :5].T
    choices, bends = np.split(traits[:, 5:], [MAX_STROKES], axis=1)
    limit = STROKE_COUNTS[(count * len(STROKE_COUNTS)).astype(int)]
    path, written = _choose(choices, limit)  # (C, MAX_STROKES)
    owner, place = written.nonzero()  # (K,)

    paths = _paths()
    stretch = np.stack([0.55 + 0.45 * width, 0.8 + 0.2 * height], axis=-1)  # (C, 2)
    bent = NODES * stretch[:, None] + BEND * (2 * bends.reshape(-1, *NODES.shape) - 1)
    points = bent[owner[:, None], paths.nodes[path[written]]]  # (K, MAX_NODES, 2)

    polygon, spline = (basis[paths.num_nodes[path[written]]] for basis in _bases())
    round_ = np.minimum(2 * roundness, 1)[owner, None, None]  # half of the characters wholly
    basis = (1 - round_) * polygon + round_ * spline

    # The character fills its part of the picture, whichever nodes it happens to use.
    curves = basis @ points  # (K, SAMPLES, 2)
    low, high = np.full((len(traits), 2), np.inf), np.full((len(traits), 2), -np.inf)
    np.minimum.at(low, owner, curves.min(1))
    np.maximum.at(high, owner, curves.max(1))
    middle, extent = (low + high) / 2, (high - low).max(-1)  # (C, 2), (C,)
    scale = (16 + 3 * size) / extent  # to 16 to 19 pixels
    points = (points - middle[owner, None]) * scale[owner, None, None]
    return _Strokes(owner, place, points, basis)


def _choose(
    choices: FloatArray, limit: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The path of each stroke, and whether it is written: ``(C, MAX_STROKES)`` each.

    No two strokes of a character share an edge, and each shares at most two nodes with the others.
    """
    paths = _paths()
    chosen = np.zeros(choices.shape, dtype=np.int64)
    written = np.arange(MAX_STROKES) < limit[:, None]
    edges = np.zeros((len(choices), paths.edges.shape[1]))
    visits: FloatArray = np.zeros((len(choices), len(NODES)))
    for place in range(MAX_STROKES):
        fits = edges @ paths.edges.T == 0  # (C, P)
        fits &= visits @ paths.visits.T <= 2
        fits &= edges.sum(1, keepdims=True) + paths.edges.sum(1) <= MAX_EDGES
        if place == 0:
            fits &= paths.num_nodes > 2  # not a short line: a character has a body
        total = (fits * paths.weight).cumsum(1)
        written[:, place] &= total[:, -1] > 0
        chosen[:, place] = (total > choices[:, place, None] * total[:, -1:]).argmax(1)
        new = written[:, place, None]
        edges += new * paths.edges[chosen[:, place]]
        visits = np.maximum(visits, new * paths.visits[chosen[:, place]])
    return chosen, written


@cache
def _bases() -> tuple[FloatArray, FloatArray]:
    """From the nodes of a stroke to SAMPLES points of the polygon and of the smooth curve.

    Both are ``(MAX_NODES + 1, SAMPLES, MAX_NODES)``, by the number of nodes.  The curve
    is the Catmull-Rom spline: cubic pieces through all nodes, along the chord of the nodes beside.
    """
    polygons = np.zeros((MAX_NODES + 1, SAMPLES, MAX_NODES))
    splines = polygons.copy()
    for num_nodes in range(2, MAX_NODES + 1):
        at = np.linspace(0, num_nodes - 1, SAMPLES)
        left = np.minimum(at.astype(int), num_nodes - 2)
        u = (at - left)[:, None]
        nodes = np.eye(MAX_NODES)[:num_nodes]
        slopes = np.gradient(nodes, axis=0)
        polygons[num_nodes] = (1 - u) * nodes[left] + u * nodes[left + 1]
        start = (1 + 2 * u) * nodes[left] + u * slopes[left]
        end = (3 - 2 * u) * nodes[left + 1] + (u - 1) * slopes[left + 1]
        splines[num_nodes] = (1 - u) ** 2 * start + u**2 * end  # cubic, in Hermite's form
    return polygons, splines


NUM_SHAKES = 7 + MAX_STROKES * (1 + MAX_NODES) * 2  # of a drawing, each standard normal


def _write(strokes: _Strokes, shakes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Curves in pixels from the corner, and the ink of each drawing.

    Args:
        strokes: of C characters, K in all.
        shakes: ``(C, D, NUM_SHAKES)``.

    Returns:
        ``(K, D, SAMPLES, 2)`` and ``(C, D)``.
    """
    slant, move, pressure, rest = np.split(shakes, [4, 6, 7], axis=-1)
    num_classes, drawings = shakes.shape[:2]
    linear = np.eye(2) + SLANT * slant.reshape(num_classes, drawings, 2, 2)
    shake = rest.reshape(num_classes, drawings, MAX_STROKES, 1 + MAX_NODES, 2)
    shake = shake[strokes.owner, :, strokes.place]  # (K, D, 1 + MAX_NODES, 2)

    points = strokes.points[:, None] + STROKE_SHAKE * shake[:, :, :1] + NODE_SHAKE * shake[:, :, 1:]
    points = points @ linear[strokes.owner]  # (K, D, MAX_NODES, 2)
    points += (SIDE - 1) / 2 + MOVE * move[strokes.owner, :, None]
    # One product for all drawings of a stroke, as it is much faster than one for each.
    points = points.swapaxes(1, 2).reshape(len(points), MAX_NODES, -1)
    curves = (strokes.basis @ points).reshape(len(points), SAMPLES, drawings, 2).swapaxes(1, 2)
    return curves, INK * np.exp(PRESSURE * pressure[..., 0])


def _ink(
    curves: FloatArray, ink: FloatArray, owner: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """The grey levels of curves as written: ``(C, D, 28, 28)`` of uint8.

    Each piece of a curve leaves its length in pixels, shared by the four pixels around its middle;
    the nib then spreads it.

    Args:
        curves: K strokes in D drawings each, ``(K, D, SAMPLES, 2)``.
        ink: of each drawing of C characters, ``(C, D)``.
        owner: the character of each stroke, ``(K,)``.
    """
    num_classes, drawings = ink.shape
    length = np.hypot(*np.moveaxis(np.diff(curves, axis=2), -1, 0))  # (K, D, SAMPLES - 1)
    middle = (curves[:, :, 1:] + curves[:, :, :-1]) / 2
    # What would leave the picture, one piece in some 3,000, stops at its edge.
    corner = np.clip(middle, 0.5, SIDE - 1.5)
    x, y = np.moveaxis(corner, -1, 0)
    column, row = x.astype(np.int64), y.astype(np.int64)
    right, down = x - column, y - row
    image = owner[:, None] * drawings + np.arange(drawings)  # (K, D)
    pixel = (image[..., None] * SIDE + row) * SIDE + column

    paper: FloatArray = np.zeros(num_classes * drawings * SIDE * SIDE)
    for i, j in product((0, 1), repeat=2):
        share = length * np.abs(1 - i - down) * np.abs(1 - j - right)
        target = pixel + (i * SIDE + j)
        paper += np.bincount(target.ravel(), share.ravel(), minlength=paper.size)
    paper = paper.reshape(num_classes, drawings, SIDE, SIDE)

    wide = np.pad(paper, ((0, 0), (0, 0), (1, 1), (1, 1)))
    tall = sum(NIB[k] * wide[..., k : k + SIDE] for k in range(3))  # (C, D, SIDE + 2, SIDE)
    paper = sum(NIB[k] * tall[..., k : k + SIDE, :] for k in range(3))
    return np.rint(255 * np.minimum(ink[..., None, None] * paper, 1)).astype(np.uint8)
