"""Check of a study's commands before the first one starts: every option must be one that its command takes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from semcore.commands.arguments import parse
from semcore.runtime.errors import UserError
from semcore.study.commands import WorkDir, command_of, own_stages, owners_of, program
from semcore.study.definition import Study


def check_options(study: Study, work: WorkDir) -> None:
    """Parse the arguments of every command in the way the command itself does.

    Raises:
        UserError: an unknown setting or a wrong value; names the variant and the stage.
    """
    types = {stage: settings_type(stage, work) for stage in study.all_stages}
    for here, stages in owners_of(study, work).items():
        if here.seed != study.seeds[0]:  # of another seed nothing but its number differs
            continue
        for stage in own_stages(stages, here):
            words = command_of(study, work, here, stage)
            try:
                parse(types[stage], words[words.index("--config") :], stage)
            except UserError as error:
                raise UserError(f"variant {here.variant}, {stage}: {error}") from None


def settings_type(stage: str, work: WorkDir) -> Any:
    """Return the dataclass of a stage's settings, from the command that a study types.

    The library imports no command (tests/test_architecture.py); a study starts them by name, and looks them up by name.
    """
    name = program(stage, work.launcher)[-1]
    module = _from_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    return next(value for name, value in vars(module).items() if name in ("Settings", "EvaluateSettings"))


def _from_file(path: Path) -> ModuleType:
    name = f"recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their annotations there
    spec.loader.exec_module(module)
    return module
