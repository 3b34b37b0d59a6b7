"""Reads of the associative memory by frame, and the terms of the logits that chose them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import association_over_time

TERMS = ("succession", "content", "lag", "position", "place")


def recorded(num_frames: int, heads: int, slots: int, terms: int = 5) -> dict[str, np.ndarray]:
    """Details of a memory whose slots fill one by one."""
    generator = np.random.default_rng(0)
    details = {
        f"logits_{name}": generator.normal(size=(num_frames, heads, slots))
        for name in TERMS[:terms]
    }
    logits = np.exp(sum(details.values()))
    filled = np.arange(slots) < np.arange(num_frames)[:, None]
    weights = logits * filled[:, None]
    total = weights.sum(-1, keepdims=True)
    return details | {"read_weights": weights / np.where(total > 0, total, 1)}


@pytest.mark.parametrize(
    "num_frames, heads, slots, terms",
    [(1, 1, 3, 1), (7, 1, 3, 5), (8, 5, 12, 4), (25, 4, 25, 5), (55, 2, 55, 2)],
)
def test_reads_and_what_favours_them(
    num_frames: int,
    heads: int,
    slots: int,
    terms: int,
    assert_reads_well: Callable[[Figure], None],
) -> None:
    """The oracle is a loop; more frames than slots, and more slots than frames."""
    details = recorded(num_frames, heads, slots, terms)
    repeats = np.full(num_frames, -1)
    repeats[num_frames // 2 + 1 :] = 0
    figure = association_over_time(details, repeats >= 0, repeats)
    assert_reads_well(figure)
    panels = [axes for axes in figure.axes if axes.images][: 2 * heads]
    reads = details["read_weights"]
    for head in range(heads):
        above, below = panels[2 * head : 2 * head + 2]
        by_frame, favours = above.images[0].get_array().T, below.images[0].get_array().T
        for t in range(num_frames):
            ages = range(min(t, slots))
            wanted = np.zeros(num_frames)
            for age in ages:
                wanted[t - 1 - age] = reads[t, head, age]
            assert np.array_equal(by_frame[t], wanted)
            for term, name in enumerate(TERMS[:terms]):
                logits = [details[f"logits_{name}"][t, head, age] for age in ages]
                chosen = max(ages, key=lambda age: reads[t, head, age], default=0)
                favour = logits[chosen] - sum(logits) / len(logits) if logits else 0.0
                assert favours[t, term] == pytest.approx(favour)
    assert [tick.get_text() for tick in panels[1].get_yticklabels()] == list(TERMS[:terms])


def test_titles_name_the_term_that_decides() -> None:
    details = {
        name: np.zeros((4, 2, 4)) for name in ("read_weights", "logits_lag", "logits_content")
    }
    details["logits_lag"][:, 1, 1] = 9.0
    details["read_weights"][1:, :, 0] = 1.0
    details["read_weights"][2:, 1, :2] = 0.25, 0.75
    repeats = np.array([-1, -1, 0, 1])
    figure = association_over_time(details, repeats >= 0, repeats)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[0] == "head 1: no term stands out\nin recall, at most 0.0 nats"
    # 9 less the mean over two and over three slots that are filled
    assert titles[2] == "head 2: by lag\nin recall, 5.2 nats"
    assert figure.get_suptitle() == (
        "Where a frame is shown again, it is 0.75 of what the best head, head 2, reads"
    )
