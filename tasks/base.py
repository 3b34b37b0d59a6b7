"""What every task shares: how it is sampled, what it returns, how it is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from pyro_gtm.checks import check_positive
from pyro_gtm.data.images import ImageSet
from pyro_gtm.registry import Registry


class Sequences(NamedTuple):
    """A batch of B sequences of T frames, time first.

    Attributes:
        frames: float, (T, B, C, H, W), intensities in [0, 1].
        controls: float, (T, B, control_dim), what is told to the model at each step and not
            modelled (an action); None where the task has none.
        labels: int64, (T, B), the class of each frame.
        predictable: bool, (T, B), the frames that a model with a perfect memory can predict from
            those before. There the KL divergence, in nats, can fall to zero; elsewhere it cannot.
    """

    frames: Tensor
    controls: Tensor | None
    labels: Tensor
    predictable: Tensor


class Task(ABC):
    """A distribution over sequences of images, sampled on the device where the images lie.

    A subclass takes its options as keyword arguments with defaults, checks them in its
    constructor, and defines `num_steps` and `_sample`. Nothing loops over a batch: a million
    updates are cheap only if no frame passes through Python.

    Args:
        images: the set that frames are drawn from, already on its device.
    """

    name: ClassVar[str]
    """What the command line calls the task; set by `register_task`."""
    debug_options: ClassVar[dict[str, Any]] = {}
    """Options that make the task as small as it can be and still be itself."""
    control_dim: ClassVar[int] = 0
    """Size of a step's control; 0 where there is none."""

    def __init__(self, images: ImageSet) -> None:
        if len(images.labels) == 0:
            raise ValueError("images holds no image, and a task needs at least one.")
        self.images = images

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """T, the number of frames of every sequence."""

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of a frame."""
        return self.images.event_shape

    @property
    def device(self) -> torch.device:
        """Where the images lie, and so where sequences are drawn."""
        return self.images.images.device

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Sequences:
        """Draw `batch_size` independent sequences.

        Args:
            batch_size: B, at least 1.
            generator: the source of randomness, on the device of the task; the global one of that
                device if None.

        Raises:
            ValueError: a `batch_size` below 1, or a generator of another kind of device.
        """
        check_positive(type(self).__name__, batch_size=batch_size)
        if generator is not None and generator.device.type != self.device.type:
            raise ValueError(
                f"generator is on {generator.device}, and must be on {self.device}, "
                "where the images are."
            )
        return self._sample(batch_size, generator)

    @abstractmethod
    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences: ...

    def _draw(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Indices of iid images, int64 of the given shape: uniform, with replacement."""
        num_images = len(self.images.labels)
        return torch.randint(num_images, shape, generator=generator, device=self.device)

    def _show(
        self, index: Tensor, predictable: Tensor, controls: Tensor | None = None
    ) -> Sequences:
        """The sequences that show image `index[t, b]` at step t; both tensors are (T, B).

        Equal indices give bit-identical frames.
        """
        images, labels = self.images
        return Sequences(images[index], controls, labels[index], predictable)


TASKS: Registry[Task] = Registry("task")

AnyTask = TypeVar("AnyTask", bound=type[Task])


def register_task(name: str) -> Callable[[AnyTask], AnyTask]:
    """Class decorator: let `make_task`, and with it the command line, know a task as `name`.

    Raises:
        ValueError: another task already has that name. The same class defined again, as when a
            notebook cell is rerun, replaces itself.
    """

    def register(task: AnyTask) -> AnyTask:
        TASKS.register(name)(task)
        task.name = name
        return task

    return register


def task_names() -> tuple[str, ...]:
    """The names of all registered tasks, in alphabetical order."""
    return tuple(TASKS.names())


def task_class(name: str) -> type[Task]:
    """The class registered as `name`; ValueError if there is none."""
    return TASKS.find(name)


def make_task(name: str, images: ImageSet, **options: Any) -> Task:
    """The task registered as `name`, over `images`.

    Args:
        name: one of `task_names()`.
        images: the set that frames are drawn from, already on its device.
        options: keyword arguments of the task's constructor, such as `list_length=20`.

    Raises:
        ValueError: an unknown name, an option that the task does not take, or an impossible value
            of one that it takes.
    """
    return TASKS.make(name, images, **options)
