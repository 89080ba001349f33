"""Look-up of the files that a user edits: prompts, recipes and DeepSpeed configurations."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def resource_folder(name: str) -> Path:
    """Return the folder `name` ("prompts", "recipes", "ds_configs").

    A folder of that name where the command is run comes first: it is what `semcore init` copies
    there for editing. Then comes the installed package's own, then the source tree's.
    """
    own = Path.cwd() / name
    return own if own.is_dir() else packaged_folder(name)


def packaged_folder(name: str) -> Path:
    """Return a folder of such files as it comes with the package: inside the wheel, or beside it in the source tree."""
    packaged = _PACKAGE / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def asset_folder(name: str) -> Path:
    """Return a folder of `semcore/assets`, say the base checkpoint of the scenes."""
    return _PACKAGE / "assets" / name


def pinned_versions_file() -> Path:
    """Return the list of tested versions: the installed package's own, or the source tree's."""
    packaged = _PACKAGE / "requirements" / "tested.txt"
    return packaged if packaged.exists() else _PACKAGE.parent / "requirements" / "tested.txt"
