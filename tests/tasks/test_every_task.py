"""What holds for every task: seeds say everything, and impossible arguments are named."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

from pyro_gtm.experiments.data import ImageSet, Rooms
from pyro_gtm.tasks import ImageTask, Task, make_task, task_class, task_names

IMAGE_TASKS = [name for name in task_names() if issubclass(task_class(name), ImageTask)]
COUNTS = [
    (name, option)
    for name in task_names()
    for option, parameter in inspect.signature(task_class(name)).parameters.items()
    if parameter.annotation == "int"
]
"""The options of each task that are positive integers."""


@pytest.fixture
def make(digits: ImageSet) -> Any:
    """Makes a task as small as it can be, but for the options given."""

    def make(name: str, **options: Any) -> Task:
        cls = task_class(name)
        source = Rooms() if "rooms" in cls.sources else digits
        return make_task(name, source, **{**cls.debug_options, **options})

    return make


def test_every_task_has_such_options() -> None:
    assert {name for name, _ in COUNTS} == set(task_names())


@pytest.mark.parametrize("name", task_names())
def test_seeds_reproduce(oracles: ModuleType, make: Any, name: str) -> None:
    oracles.assert_seeded(make(name))


@pytest.mark.parametrize("name", task_names())
def test_curriculum_is_of_smaller_sizes_that_fit_the_same_model(make: Any, name: str) -> None:
    """At the size that training is for; every one of them can be made and recalls something."""
    cls = task_class(name)
    defaults = inspect.signature(cls).parameters
    whole = make(name, **{option: defaults[option].default for option in cls.debug_options})
    sizes = [make(name, **options) for options in whole.curriculum()]
    assert bool(sizes) == (name != "rotation_3d")
    lengths = [task.num_steps for task in [*sizes, whole]]
    assert lengths == sorted(set(lengths))
    for task in sizes:
        assert task.event_shape == whole.event_shape
        assert task.sample(50).predictable.any(0).float().mean() > 0.5
    debug = make(name)
    assert all(make(name, **options).num_steps < debug.num_steps for options in debug.curriculum())


@pytest.mark.parametrize("name", task_names())
def test_a_generator_of_another_device_is_refused(
    oracles: ModuleType, make: Any, name: str
) -> None:
    message = oracles.refusal(lambda: make(name).sample(4, oracles.elsewhere()))
    assert message.startswith("generator: got one on meta, must be on cpu")


@pytest.mark.parametrize("name, option", COUNTS)
def test_an_option_that_is_no_positive_integer_is_refused(
    oracles: ModuleType, make: Any, name: str, option: str, no_count: Any
) -> None:
    message = oracles.refusal(lambda: make(name, **{option: no_count}))
    assert option in message and f"got {no_count!r}" in message


@pytest.mark.parametrize("name", task_names())
def test_impossible_batch_sizes_are_refused(
    oracles: ModuleType, make: Any, name: str, no_count: Any
) -> None:
    message = oracles.refusal(lambda: make(name).sample(no_count))
    assert "batch_size" in message and f"got {no_count!r}" in message


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_an_empty_set_is_refused(oracles: ModuleType, digits: ImageSet, name: str) -> None:
    nothing = ImageSet(digits.images[:0], digits.labels[:0])
    message = oracles.refusal(lambda: make_task(name, nothing))
    assert message == "images: got an empty set, must hold at least one image"
