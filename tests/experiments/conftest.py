"""What tests of experiments share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from pyro_gtm.experiments import metrics
from pyro_gtm.experiments.classifier import train_classifier


@pytest.fixture(scope="session", autouse=True)
def one_classifier_of_the_same_images() -> Iterator[None]:
    """The classifier that judges classes is trained once for the same images, not for each run."""
    trained: dict[str, Any] = {}

    def of(images: Tensor, labels: Tensor) -> Any:
        digest = hashlib.sha1(str((images.shape, images.dtype)).encode())
        for part in (images, labels):
            digest.update(part.cpu().numpy().tobytes())
        key = digest.hexdigest()
        if key not in trained:
            trained[key] = train_classifier(images, labels)
        return trained[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "train_classifier", of)
        yield
