"""Evaluation and report are read where there is no torch."""

import subprocess
import sys


def test_no_module_of_evaluation_and_report_imports_torch() -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "import semcore.evaluation, semcore.report\n"
        "for package in (semcore.evaluation, semcore.report):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print(len([name for name in sys.modules if name.startswith(('semcore.evaluation.', 'semcore.report.'))]))\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 14
