"""Fetching published archives, on request only."""

from __future__ import annotations

from pathlib import Path

from pyro_gtm.experiments.data.images import MissingDataError


def fetch(url: str, archive: str, md5: str, folder: Path) -> Path:
    """Download an archive and check it against its MD5.

    Args:
        url: the address that its name follows.
        archive: its name.
        md5: of its content.
        folder: the folder to download it into.

    Returns:
        The path of the archive.

    Raises:
        MissingDataError: ``pooch`` is not installed, or the archive cannot be had as published.
    """
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise MissingDataError(
            f"{archive} cannot be downloaded without the package pooch: "
            "`pip install 'pyro_gtm[download]'` brings it."
        ) from error
    try:
        fetched = pooch.retrieve(url + archive, known_hash=f"md5:{md5}", fname=archive, path=folder)
    except (OSError, ValueError) as error:  # no connection, no room; another content than known
        raise MissingDataError(f"{archive} could not be fetched from {url}: {error}") from error
    return Path(fetched)
