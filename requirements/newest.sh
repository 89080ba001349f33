#!/usr/bin/env bash
# The default tests with the newest releases that the ranges admit: newest.sh FOLDER MINUTES TESTED [KEPT...]
#
# FOLDER is a virtual environment, made anew. It sees the libraries of TESTED, the environment that the tests have passed
# in, so that only what is newer is installed, and nothing is tested again where nothing is. Packages named as KEPT stay
# as requirements/tested.txt has them. FOLDER/outcome.txt says in one line what came of it and with which versions;
# FOLDER/newest.log has the whole output. Ends with 0 where the tests passed within the minutes, or none had to run.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
folder=$(cd "$1" && pwd) minutes=$2 tested=$(cd "$3" && pwd)
log=$folder/newest.log
shift 3
for name; do grep "^$name==" requirements/tested.txt; done >"$folder/kept.txt"
rm -rf "$folder"/{bin,include,lib,lib64,pyvenv.cfg}

libraries() {
    "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# Names and versions of what was installed here, besides pip and semcore themselves.
newer() {
    "$folder/bin/python" -m pip list --path "$(libraries "$folder")" --format freeze | grep -vE '^(pip|semcore)=='
}

prepare_and_test() {
    "$tested/bin/python" -m venv "$folder" && libraries "$tested" >"$(libraries "$folder")/tested.pth" &&
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
            --constraint "$folder/kept.txt" --editable '.[all]' || return
    newer || { echo "nothing is newer than what was tested" && return; }
    TORCH_EXTENSIONS_DIR=$folder/torch_extensions "$folder/bin/python" -m pytest -p no:cacheprovider \
        --numprocesses auto --dist worksteal
}

versions() {
    "$folder/bin/python" - <<'PYTHON' 2>/dev/null || echo "no versions"
import tomllib
from importlib.metadata import version
from packaging.requirements import Requirement
with open("pyproject.toml", "rb") as file:
    needs = [Requirement(line).name for line in tomllib.load(file)["project"]["dependencies"]]
print(", ".join(f"{name} {version(name)}" for name in needs))
PYTHON
}

export -f prepare_and_test libraries newer
export folder tested
timeout "$((minutes * 60))" bash -c prepare_and_test >"$log" 2>&1
status=$?
case $status in
    0) said="passed" ;;
    124) said="FAILED: not done within $minutes minutes" ;;
    *) said="FAILED" ;;
esac
echo "newest releases: $said ($(tail -n 1 "$log")); with $(versions)" | tee "$folder/outcome.txt"
[ "$status" -eq 0 ] || echo "the whole output: $log" >&2
exit "$status"
