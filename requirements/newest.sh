#!/usr/bin/env bash
# The default tests with the newest releases that the ranges of pyproject.toml admit: newest.sh FOLDER MINUTES
#
# FOLDER is a virtual environment, made or brought up to date. FOLDER/outcome.txt says in one line what came of it and
# with which versions; FOLDER/newest.log has the whole output. Ends with 0 where the tests passed within the minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
folder=$(cd "$1" && pwd) minutes=$2
log=$folder/newest.log

prepare_and_test() {
    { [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"; } &&
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
            --editable '.[all]' &&
        TORCH_EXTENSIONS_DIR=$folder/torch_extensions "$folder/bin/python" -m pytest -p no:cacheprovider
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

export -f prepare_and_test
export folder
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
