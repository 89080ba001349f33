#!/usr/bin/env bash
# Every GPU row of the benchmarks, one results file each, in eight minutes at most on one GPU.
#
#   benchmarks/gpu.sh OUT [WHEELS]     from the repository's root, on a machine with Python and torch
#   benchmarks/gpu.sh --wheels WHEELS  where there is a network: fill the folder with what else is needed
#   REHEARSE=1 benchmarks/gpu.sh OUT   the same at toy size on a CPU, in bfloat16 as on the GPU
#
# What is missing is installed from WHEELS, without a network. A results file that is in OUT is not measured again, so
# the same command goes on after a kill. Each measurement has its own limit; one that fails is said, and the others go
# on. Parity is checked in float32; the notes say how far apart bfloat16 is, and the fraction of the roofline, whose
# limits are measured on the spot. 100 million identifiers are not measured: to build them takes minutes.
# PYTHON=python3.12 chooses the interpreter, WHEELS_PYTHON=3.12 that of the wheels.
set -uo pipefail
cd "$(dirname "$0")/.."

NEEDED=(accelerate filelock jinja2 jsonargparse numpy pillow pyyaml rich safetensors scikit-learn scipy threadpoolctl
  tokenizers tqdm transformers)
PYTHON=${PYTHON:-python3}

if [ "${1:-}" = --wheels ]; then
  grep -v '^torch' requirements/tested.txt >"${TMPDIR:-/tmp}/constraints.$$"
  mkdir -p "$2"
  # torch comes with the machine: what needs it is taken without its dependencies.
  "$PYTHON" -m pip download --quiet --dest "$2" --only-binary :all: --python-version "${WHEELS_PYTHON:-3.12}" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --constraint "${TMPDIR:-/tmp}/constraints.$$" \
    "${NEEDED[@]/accelerate/psutil}" &&
    "$PYTHON" -m pip download --quiet --dest "$2" --no-deps --constraint "${TMPDIR:-/tmp}/constraints.$$" accelerate
  status=$?
  rm -f "${TMPDIR:-/tmp}/constraints.$$"
  exit $status
fi
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  sed -n '4,6s/^# *//p' "$0" >&2
  exit 2
fi
OUT=$1
mkdir -p "$OUT"
if [ $# = 2 ]; then
  "$PYTHON" -m pip install --quiet --no-index --find-links "$2" psutil "${NEEDED[@]/accelerate/packaging}" &&
    "$PYTHON" -m pip install --quiet --no-index --find-links "$2" --no-deps accelerate || exit 1
fi
export HF_HUB_OFFLINE=1
failed=()

# measure NAME SECONDS MODULE ARGUMENTS: OUT/NAME.json, unless it is there
measure() {
  local name=$1 seconds=$2 module=$3
  shift 3
  if [ -s "$OUT/$name.json" ]; then
    echo "$name: measured already, see $OUT/$name.json"
    return
  fi
  echo "$name: at most $seconds s"
  if ! timeout "$seconds" "$PYTHON" -W ignore -m "benchmarks.$module" "$@" --json "$OUT/$name.json"; then
    echo "$name: failed, or took longer than $seconds s" >&2
    failed+=("$name")
  fi
}

if [ -n "${REHEARSE:-}" ]; then
  toy=(--device cpu --quick)
  measure generation-text 900 generation "${toy[@]}" --dtype bfloat16 --only 1b-text
  measure generation-image 900 generation "${toy[@]}" --dtype bfloat16 --only tiny-image
  measure constraint 900 index "${toy[@]}" --steps-only --rows '[40]'
  measure verification 900 verification_speed "${toy[@]}" --dtype bfloat16
  measure training 900 training "${toy[@]}"
else
  measure generation-text 150 generation --device cuda --only 1b-text --num-identifiers 1000000 --repeats 3
  measure generation-image 50 generation --device cuda --only tiny-image --repeats 3
  measure constraint 120 index --device cuda --steps-only --sizes '[1000000,10000000]' --rows '[1280]'
  measure verification 80 verification_speed --device cuda --shape 1b --num-queries 8
  measure training 80 training --device cuda --shape 1b --repeats 2
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "not measured: ${failed[*]}; the same command tries these again" >&2
  exit 1
fi
echo "all measured, see $OUT"
