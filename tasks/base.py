"""The interface of all tasks: how they are sampled, what they return, how they are named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.registry import Registry


class Sequences(NamedTuple):
    """A batch of B sequences of T frames, time first."""

    frames: Tensor
    """Intensities in [0, 1]: ``(T, B, C, H, W)`` of float."""

    controls: Tensor | None
    """Input of the model at each step that is not modelled, such as an action:
    ``(T, B, control_dim)`` of float; None where the task has none."""

    labels: Tensor
    """The class of each frame: ``(T, B)`` of int64."""

    predictable: Tensor
    """The recall phase, frames whose KL counts as recall KL: ``(T, B)`` of bool.
    :meth:`Task.recall_oracle_kl` says how far that can fall."""

    repeats: Tensor
    """The earlier step whose frame is shown again or, where none is just the same, the one most
    like it; -1 where the task draws a new one (which may by chance equal another): ``(T, B)`` of
    int64."""

    def first(self, num_sequences: int) -> Sequences:
        """The first ``num_sequences`` sequences of the batch."""
        return Sequences(
            self.frames[:, :num_sequences],
            None if self.controls is None else self.controls[:, :num_sequences],
            self.labels[:, :num_sequences],
            self.predictable[:, :num_sequences],
            self.repeats[:, :num_sequences],
        )


class NewFrameKL(NamedTuple):
    """KL of new frames, of which the past tells nothing, in nats."""

    mean: float
    """Over all such frames."""

    by_class: Mapping[int, float] = {}
    """For each class seen among them, the mean over its frames."""


class Task(ABC):
    """A distribution over sequences of frames, sampled on one device.

    A subclass takes where its frames come from as its first argument and its options as keyword
    arguments with defaults, which it checks in its constructor.  Nothing loops over a batch: a
    million updates are cheap only if no frame passes through Python.
    """

    name: ClassVar[str]
    """Name on the command line; set by :func:`register_task`."""
    sources: ClassVar[tuple[str, ...]] = ("digits", "mnist", "strokes", "omniglot")
    """Data that the task can be made of, by the names of :func:`load_data`, the default first."""
    settings: ClassVar[dict[str, Any]] = {}
    """Settings of a run that the task wants other than they are for images."""
    debug_options: ClassVar[dict[str, Any]] = {}
    """Options that make the task as small as it can be and still be itself."""
    target_classes: ClassVar[tuple[int, ...]] = ()
    """The classes to be told apart, where a generated frame is right that shows any image of the
    right class; none where it must show the right image again."""
    control_dim: ClassVar[int] = 0
    """Size of a step's control; 0 where there is none."""

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """T, the number of frames of every sequence."""

    @property
    @abstractmethod
    def num_given(self) -> int:
        """The number of frames given to a model before it generates the rest, from 1 to T."""

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, int, int]:
        """The shape ``(C, H, W)`` of a frame."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device that sequences are drawn on."""

    @abstractmethod
    def oracle_kl(self, new_frame: NewFrameKL) -> Tensor:
        """KL of each frame for a model with a perfect memory: the least that is possible.

        Args:
            new_frame: KL of frames of which the past tells nothing.

        Returns:
            The mean over sequences, in nats: ``(T,)``.
        """

    def recall_oracle_kl(self, new_frame: NewFrameKL) -> float:
        """Mean oracle KL of predictable frames alone, in nats; 0 if all can be foretold.

        Args:
            new_frame: KL of frames of which the past tells nothing.
        """
        return 0.0

    def new_frames(self, batch: Sequences) -> Tensor:
        """Frames of which the past tells nothing at all: ``(T, B)`` of bool."""
        return ~batch.predictable

    def curriculum(self) -> Sequence[Mapping[str, Any]]:
        """Options in which smaller forms of this task differ from it, the smallest first.

        Training may begin with them.  Their frames and controls must be as large as the task's own.
        By default there are none.
        """
        return ()

    @property
    def published_as(self) -> Mapping[str, int] | None:
        """This very size in the table of the paper's results, columns and their values; None for a
        size that the paper does not have."""
        return None

    @property
    def figure_names(self) -> tuple[str, ...]:
        """The names of :meth:`figures`, known before any is drawn.

        A figure that is not named is drawn with all, and cannot be asked for alone.
        """
        return ()

    def figures(self, batch: Sequences, generated: Tensor, num_given: int) -> dict[str, Figure]:
        """Figures of the task's own, by name: the batch as a model goes on with it.

        Args:
            batch: B sequences of T frames.
            generated: the same, but for the first frames as the model generates them:
                ``(T, B, C, H, W)``.
            num_given: the number of frames it was given.
        """
        return {}

    def notes(self, batch: Sequences) -> list[list[str]] | None:
        """A word on each frame for the reader of a figure, T lists of B; None for none."""
        return None

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Sequences:
        """Draw ``batch_size`` independent sequences.

        Args:
            batch_size: B, at least 1.
            generator: of random numbers, on the device of the task; the global one of that device
                if None.

        Raises:
            ValueError: ``batch_size`` is below 1, or the generator is of another kind of device.
        """
        check_positive(type(self).__name__, batch_size=batch_size)
        if generator is not None and generator.device.type != self.device.type:
            raise ValueError(
                f"generator: got one on {generator.device}, must be on {self.device}, where "
                "sequences are drawn"
            )
        return self._sample(batch_size, generator)

    @abstractmethod
    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences: ...


class ImageTask(Task):
    """A task that shows images of one set, each any number of times.

    Args:
        images: the N images that frames are drawn from, already on their device: ``(N, C, H, W)``.

    Raises:
        ValueError: there is no image.
    """

    def __init__(self, images: ImageSet) -> None:
        if len(images.labels) == 0:
            raise ValueError("images: got an empty set, must hold at least one image")
        self.images = images

    @property
    def event_shape(self) -> tuple[int, int, int]:
        return self.images.event_shape

    @property
    def device(self) -> torch.device:
        return self.images.images.device

    def _draw(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Indices of iid images, uniform with replacement: ``shape`` of int64."""
        num_images = len(self.images.labels)
        return torch.randint(num_images, shape, generator=generator, device=self.device)

    def _show(
        self,
        index: Tensor,
        predictable: Tensor,
        repeats: Tensor,
        controls: Tensor | None = None,
    ) -> Sequences:
        """Sequences that show image ``index[t, b]`` at step t of sequence b.

        Equal indices give bit-identical frames.

        Args:
            index: ``(T, B)`` of int64.
            predictable: ``(T, B)`` of bool.
            repeats: ``(T, B)`` of int64.
            controls: ``(T, B, control_dim)``.
        """
        images, labels = self.images
        return Sequences(images[index], controls, labels[index], predictable, repeats)


TASKS: Registry[Task] = Registry("task")

AnyTask = TypeVar("AnyTask", bound=type[Task])


def register_task(name: str) -> Callable[[AnyTask], AnyTask]:
    """Class decorator that makes a task known under ``name``, on the command line too.

    The same class defined again, as when a notebook cell is rerun, replaces itself.

    Raises:
        ValueError: another task already has that name.
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
    """The class registered as ``name``.

    Raises:
        ValueError: there is none.
    """
    return TASKS.find(name)


def make_task(name: str, source: Any, **options: Any) -> Task:
    """The task registered as ``name``, made of the data in ``source``.

    Args:
        name: one of :func:`task_names`.
        source: one split of what :func:`load_data` gives, already on its device: for most tasks an
            :class:`ImageSet`.
        options: keyword arguments of the task's constructor, such as ``list_length=20``.

    Raises:
        ValueError: the name is unknown, the task does not take such an option, or an option has an
            impossible value.
    """
    return TASKS.make(name, source, **options)
