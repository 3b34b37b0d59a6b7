"""What every task shares: how it is sampled, what it returns, how it is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.registry import Registry


class Sequences(NamedTuple):
    """A batch of B sequences of T frames, time first.

    Attributes:
        frames: float, (T, B, C, H, W), intensities in [0, 1].
        controls: float, (T, B, control_dim), what is told to the model at each step and not
            modelled (an action); None where the task has none.
        labels: int64, (T, B), the class of each frame.
        predictable: bool, (T, B), the recall phase: the frames whose KL counts as recall KL.
            `Task.recall_floor` says how far it can fall.
        repeats: int64, (T, B), the earlier step whose frame is shown again or, where none is just
            the same, the one most like it; -1 where the task draws a new one (which may by chance
            equal another).
    """

    frames: Tensor
    controls: Tensor | None
    labels: Tensor
    predictable: Tensor
    repeats: Tensor

    def first(self, num_sequences: int) -> Sequences:
        """The first sequences of the batch."""
        return Sequences(
            self.frames[:, :num_sequences],
            None if self.controls is None else self.controls[:, :num_sequences],
            self.labels[:, :num_sequences],
            self.predictable[:, :num_sequences],
            self.repeats[:, :num_sequences],
        )


class FrameCost(NamedTuple):
    """KL of a frame of which the past tells nothing, in nats: what a new frame costs.

    Attributes:
        mean: over such frames.
        by_class: for each class seen among them, the mean over its frames.
    """

    mean: float
    by_class: Mapping[int, float] = {}


class Task(ABC):
    """A distribution over sequences of frames, sampled on one device.

    A subclass takes where its frames come from as its first argument and its options as keyword
    arguments with defaults, which it checks in its constructor. Nothing loops over a batch: a
    million updates are cheap only if no frame passes through Python.
    """

    name: ClassVar[str]
    """What the command line calls the task; set by `register_task`."""
    sources: ClassVar[tuple[str, ...]] = ("digits", "mnist", "strokes", "omniglot")
    """The data that the task can be made of, by the names of `load_data`, the default first."""
    settings: ClassVar[dict[str, Any]] = {}
    """Settings of a run that the task wants other than they are for images."""
    debug_options: ClassVar[dict[str, Any]] = {}
    """Options that make the task as small as it can be and still be itself."""
    answers: ClassVar[tuple[int, ...]] = ()
    """Where success is to show any image of the right class: these classes. Where it is to show the
    right image again, none."""
    control_dim: ClassVar[int] = 0
    """Size of a step's control; 0 where there is none."""

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """T, the number of frames of every sequence."""

    @property
    @abstractmethod
    def num_given(self) -> int:
        """How many frames a model is given before it must go on by itself, from 1 to T."""

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of a frame."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where sequences are drawn."""

    @abstractmethod
    def floor(self, cost: FrameCost) -> Tensor:
        """The least KL of each frame that a model with a perfect memory could have.

        Args:
            cost: what a frame costs of which the past tells nothing.

        Returns:
            (T,), nats: the mean over sequences.
        """

    def recall_floor(self, cost: FrameCost) -> float:
        """The least mean KL, in nats, of predictable frames alone: none, if all can be foretold."""
        return 0.0

    def new_frames(self, batch: Sequences) -> Tensor:
        """The frames of which the past tells nothing at all: bool, (T, B)."""
        return ~batch.predictable

    @property
    def published_as(self) -> Mapping[str, int] | None:
        """How the paper's results name this very size: columns of its table and their values; None
        for a size that the paper does not have."""
        return None

    def figures(self, batch: Sequences, generated: Tensor, num_given: int) -> dict[str, Figure]:
        """Figures of the task's own, by name: the batch as a model goes on with it.

        Args:
            batch: sequences of T frames.
            generated: the same, but for the first frames as the model generates them,
                (T, B, C, H, W).
            num_given: how many frames it was given.
        """
        return {}

    def notes(self, batch: Sequences) -> list[list[str]] | None:
        """A word for each frame, T lists of B, that a reader of a figure needs; None for none."""
        return None

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
                "where the sequences are drawn."
            )
        return self._sample(batch_size, generator)

    @abstractmethod
    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences: ...


class ImageTask(Task):
    """A task that shows images of one set, each any number of times.

    Args:
        images: the set that frames are drawn from, already on its device.
    """

    def __init__(self, images: ImageSet) -> None:
        if len(images.labels) == 0:
            raise ValueError("images holds no image, and a task needs at least one.")
        self.images = images

    @property
    def event_shape(self) -> tuple[int, int, int]:
        return self.images.event_shape

    @property
    def device(self) -> torch.device:
        return self.images.images.device

    def _draw(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Indices of iid images, int64 of the given shape: uniform, with replacement."""
        num_images = len(self.images.labels)
        return torch.randint(num_images, shape, generator=generator, device=self.device)

    def _show(
        self,
        index: Tensor,
        predictable: Tensor,
        repeats: Tensor,
        controls: Tensor | None = None,
    ) -> Sequences:
        """The sequences that show image `index[t, b]` at step t; all tensors are (T, B).

        Equal indices give bit-identical frames.
        """
        images, labels = self.images
        return Sequences(images[index], controls, labels[index], predictable, repeats)


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


def make_task(name: str, source: Any, **options: Any) -> Task:
    """The task registered as `name`, made of the data in `source`.

    Args:
        name: one of `task_names()`.
        source: one split of what `load_data` gives, already on its device: for most tasks an
            `ImageSet`.
        options: keyword arguments of the task's constructor, such as `list_length=20`.

    Raises:
        ValueError: an unknown name, an option that the task does not take, or an impossible value
            of one that it takes.
    """
    return TASKS.make(name, source, **options)
