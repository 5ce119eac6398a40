"""Objects of a user's own: a callable, `path/to/file.py:Name`, or `package.module:Name`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from ppo_and_friends.errors import UserError


def load_custom(reference: Any) -> Any:
    """The object behind a reference; anything that is not text is returned as it is.

    Raises:
        UserError: the file or module does not exist, does not run, or has no such name (the nearest is given).
    """
    if not isinstance(reference, str):
        return reference
    source, colon, name = reference.rpartition(":")
    if not colon or not name:
        raise UserError(f"'{reference}' names no object: write path/to/file.py:Name or package.module:Name.")
    module = load_module(source)
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        near = difflib.get_close_matches(name, public, 1, 0.4)
        hint = f"did you mean {source}:{near[0]}?" if near else "write the name of a function or class in it."
        raise UserError(f"{source} has no '{name}': {hint}")
    return getattr(module, name)


def load_module(source: str) -> ModuleType:
    """Import a module by path (`*.py`) or by dotted name.

    Raises:
        UserError: it does not exist, or raised while being imported.
    """
    path = Path(source)
    try:
        if path.suffix != ".py":
            return importlib.import_module(source)
        if not path.is_file():
            raise UserError(f"There is no file '{source}': check the path before ':'.")
        name = f"_custom_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):x}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None  # a file that ends in .py always has a loader
        module = importlib.util.module_from_spec(spec)
        if (folder := str(path.resolve().parent)) not in sys.path:
            sys.path.append(folder)  # a launcher may import the files beside it
        sys.modules[name] = module  # dataclasses and pickling look the module up while it runs
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}. Mend the file and run again.") from error
    except Exception as error:
        raise UserError(f"Importing '{source}' failed with {type(error).__name__}: {error}") from error
