"""JSON files that carry a checksum of what they say.

The checksum is one more key, ``"checksum"``, of the object in the file: SHA-256 of the rest as
Python's ``json`` writes it.  It is of the values, so that a file that was only laid out anew is
whole; one whose values were changed on purpose is read when its ``"checksum"`` is taken out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pyro_gtm.internals.files import write_atomically

__all__ = ["DamagedFileError", "SealedContent", "read_sealed", "sealed_text", "write_sealed"]

KEY = "checksum"
ALGORITHM = "sha256:"


class DamagedFileError(ValueError):
    """A file of a run is not as it was written: the sentence names it and says why."""


class SealedContent(NamedTuple):
    """What a file holds."""

    content: dict[str, Any]
    sealed: bool
    """Whether it was checked: those of earlier versions have no checksum."""


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object with its checksum, whole or not at all."""
    write_atomically(path, sealed_text(content).encode())


def sealed_text(content: Mapping[str, Any]) -> str:
    """An object with its checksum, one key a line."""
    return json.dumps({**content, KEY: _checksum(content)}, indent=2) + "\n"


def read_sealed(path: Path, what: str) -> SealedContent:
    """Read what :func:`write_sealed` wrote, or an object without a checksum.

    Args:
        path: of the file.
        what: the file holds, for the error.

    Raises:
        DamagedFileError: the file is missing, no JSON object, or fails its checksum.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise DamagedFileError(f"{path} is damaged: it is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} is damaged: it holds no {what}")
    checksum = content.pop(KEY, None)
    if checksum is None:
        # Not a file of an earlier version, but one whose key is damaged.
        if any(isinstance(v, str) and v.startswith(ALGORITHM) for v in content.values()):
            raise DamagedFileError(f"{path} is damaged: its checksum has another name")
        return SealedContent(content, False)
    if checksum != _checksum(content):
        raise DamagedFileError(
            f"{path} is damaged: its content fails its checksum (if it was changed on purpose, "
            f'take out the line "{KEY}")'
        )
    return SealedContent(content, True)


def _checksum(content: Mapping[str, Any]) -> str:
    return ALGORITHM + hashlib.sha256(json.dumps(content).encode()).hexdigest()
