"""Which files a path means: one file, a folder with all below it, or a pattern."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sabotd.formats.decode import format_name

_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "raw",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was seen. `name` is its path below the root: what splits, offsets and errors call it."""

    name: str
    path: str
    size: int
    inode: int
    mtime: float


def is_pattern(path: str) -> bool:
    """Whether `path` has wildcards (``*``, ``?``, ``[``) and is not itself a file."""
    return glob.has_magic(path) and not os.path.exists(path)  # noqa: PTH110 - a str that need not be a path


def is_watched(options: Mapping[str, str]) -> bool:
    """Whether new files and growth are waited for: as `mode` says, else for folders and patterns."""
    mode = options.get("mode", "").lower()
    if mode:
        return mode == "watch"
    path = options.get("path", "")
    return is_pattern(path) or path.endswith(os.sep) or os.path.isdir(path)  # noqa: PTH112 - as above


def file_format(format: str | None, path: str) -> str:
    """Return the format of FORMAT/ENCODE, or else of the path's ending; JSON if neither tells."""
    if format:
        return format_name(format)
    base = path.removesuffix(".gz")
    return _EXTENSIONS.get(os.path.splitext(base)[1].lower(), "json")  # noqa: PTH122 - as above


def _hidden(name: str) -> bool:
    """Whether a name is left out: what is still being written has one of these by custom."""
    return name.startswith((".", "_")) or name.endswith(".tmp")


def _walk(root: str) -> Iterator[tuple[str, str]]:
    """Give (name below the root, path) of every file below a folder, in the order of names."""
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        folders[:] = sorted(f for f in folders if not _hidden(f))
        for name in sorted(names):
            if not _hidden(name):
                path = os.path.join(folder, name)  # noqa: PTH118 - os.walk's strings, a million of them
                yield os.path.relpath(path, root), path


def _raise(problem: OSError) -> None:
    raise problem


def list_files(path: str, pattern: str | None) -> list[Found]:
    """Return the files that `path` means now, in the order of their names.

    Parameters
    ----------
    pattern : str or None
        Of the files of a folder or a pattern only those whose name (without folders) matches.

    Raises
    ------
    OSError
        The path is gone, or not readable. A file that vanishes meanwhile is left out.
    """
    if is_pattern(path):
        pairs = [(p, p) for p in sorted(glob.glob(path, recursive=True)) if not _hidden(os.path.basename(p))]  # noqa: PTH119, PTH207
    elif os.path.isdir(path):  # noqa: PTH112
        pairs = list(_walk(path))
    else:
        pairs = [(os.path.basename(path), path)]  # noqa: PTH119
        pattern = None
        os.stat(path)  # noqa: PTH116
    found = []
    for name, full in pairs:
        if pattern is not None and not fnmatch.fnmatch(os.path.basename(name), pattern):  # noqa: PTH119
            continue
        try:
            info = os.stat(full)  # noqa: PTH116
        except FileNotFoundError:
            continue
        if not os.path.isdir(full):  # noqa: PTH112
            found.append(Found(name, full, info.st_size, info.st_ino, info.st_mtime))
    return found
