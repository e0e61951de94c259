"""Prepares a data set for `load`: `python -m experiments.data.prepare NAME`. Needs TensorFlow; reading does not."""

import dataclasses
import importlib.util
import os
import pathlib
import socket
import time
import urllib.parse
import urllib.request

import tyro

from experiments.data.prepared import (
    FORMAT,
    PUBLISHED,
    REGENERATED,
    PreparedName,
    data_directory,
    is_prepared,
    open_builder,
)
from experiments.run.runtime import command


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Downloads a data set, checks it and writes it where training finds it."""

    name: tyro.conf.Positional[PreparedName]
    """Which set."""
    directory: pathlib.Path | None = None
    """Folder of prepared sets. Default: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    downloads: pathlib.Path | None = None
    """Folder which already holds the published files, for want of a network; checksums are verified all the same."""


def main(arguments: Arguments) -> None:
    """Prepares the set and says where it is."""
    directory = data_directory(arguments.directory)
    started = time.perf_counter()
    fresh = prepare_set(arguments.name, directory, arguments.downloads)
    builder = open_builder(arguments.name, directory)
    sizes = ", ".join(f"{split.num_examples} {name}" for name, split in builder.info.splits.items())
    how = f"prepared in {time.perf_counter() - started:.0f} s" if fresh else "was prepared already, nothing done"
    print(f"{arguments.name} {builder.version} {how}: {builder.data_path} ({sizes})")


def prepare_set(name: str, directory: pathlib.Path, downloads: pathlib.Path | None = None) -> bool:
    """Prepares a set in a format that is read without TensorFlow; those regenerated from MNIST prepare `mnist` first.

    Every set downloads into a folder of its own, since some publish other files by the same names. Returns whether
    there was anything to do.

    Args:
      name: one of `PREPARED_NAMES`.
      directory: TFDS' folder of prepared sets.
      downloads: a folder which holds the published files by their published names, and is only read; None: they are
        downloaded, save the archive of `rot_mnist/original`, which must lie in `directory/downloads/manual`.
    """
    builder = open_builder(name, directory)
    if is_prepared(builder):
        return False
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError("preparing a data set needs TensorFlow, which is not installed: uv sync --extra prepare")
    # It greets at length otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    folder = downloads or _manual_folder(name, directory)
    if downloads or name == "rot_mnist/original":
        _check_files(name, folder)
    if name in REGENERATED:
        prepare_set("mnist", directory, downloads)
    _download_and_prepare(name, open_builder(name, directory, FORMAT), folder)
    return True


def _manual_folder(name, directory):
    own = "" if name == "rot_mnist/original" else name
    return directory / "downloads" / own / "manual"


def _download_and_prepare(name, builder, folder):
    import tensorflow_datasets as tfds  # noqa: PLC0415

    downloads = _manual_folder(name, pathlib.Path(builder.data_dir_root)).parent
    config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
    try:
        if "/" not in name and not any(next(at.rglob("*.gz"), None) for at in (folder, downloads)):
            _check_network(PUBLISHED[name].url or builder.URL)
        builder.download_and_prepare(download_dir=downloads, download_config=config)
    except tfds.core.download.download_manager.NonMatchingChecksumError as error:
        raise ValueError(f"{name}: a file is not the published one: {error}") from error
    except (tfds.core.download.util.DownloadError, OSError) as error:
        raise ValueError(
            f"{name} could not be downloaded or written ({error}); without a network, name a folder which holds "
            f"{', '.join(PUBLISHED[name].files)} with --downloads"
        ) from error


def _check_network(url):
    """TFDS tries an unknown host again for minutes; behind a proxy only the proxy knows which hosts there are."""
    if not urllib.request.getproxies():
        socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, None)


def _check_files(name, folder):
    missing = [file for file in PUBLISHED[name].files if not (folder / file).is_file()]
    if missing:
        raise ValueError(
            f"{name} needs {', '.join(missing)} in {folder}; put the published files there, or name the folder which "
            "holds them with --downloads"
        )


cli = command(main, Arguments)
