#!/usr/bin/env bash
# Builds the operator on a bare GPU machine (torch, nvcc, CMake, Ninja; no network), tests and measures it there.
#
#     benchmarks/gpu.sh OUT_DIR
#
# OUT_DIR gets summary.txt (part, exit code, seconds), a log for each part, and ops, rte and suite as JSON and text. No part
# can eat the time of the others, and the whole stays within 8 minutes. Exit code 1 if a required part failed.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p "${1:?usage: benchmarks/gpu.sh OUT_DIR}" && OUT=$(cd "$1" && pwd) || exit 1

PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET:-475}
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda} PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=0
: >"$OUT/summary.txt"

say() { echo "$*" | tee -a "$OUT/summary.txt"; }

# part NAME required|optional SECONDS COMMAND...: stdout to NAME.txt, stderr to NAME.log. `fatal` is the one exit code
# that an optional part must not end with.
part() {
  local name=$1 need=$2 limit=$3 begin=$SECONDS code
  shift 3
  ((limit > BUDGET - SECONDS)) && limit=$((BUDGET - SECONDS))
  if ((limit < 5)); then
    code=124 && echo "no time left" >"$OUT/$name.log"
  else
    timeout --kill-after=5 "$limit" "$@" >"$OUT/$name.txt" 2>"$OUT/$name.log"
    code=$?
  fi
  say "$(printf '%-10s %-8s exit %3d %4d s' "$name" "$need" "$code" $((SECONDS - begin)))"
  ((code == 0)) && return
  tail -n 25 "$OUT/$name.txt" "$OUT/$name.log" 2>/dev/null
  if [[ $need == required ]] || ((code == ${fatal:--1})); then failed=1; fi
}

export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$("$PYTHON" -c \
  'import torch; print("%d.%d" % torch.cuda.get_device_capability())')}
FORCE_CUDA=1 part build required 110 "$PYTHON" setup.py build_ext --inplace
# The folder's own tests only: what the other tests share needs more than this machine has.
TESTS=("$PYTHON" -m pytest tests/gpu -q --confcutdir=tests/gpu -p no:cacheprovider)
part tests required 110 "${TESTS[@]}"
if grep -q ' skipped' "$OUT/tests.txt" && ! grep -q ' passed' "$OUT/tests.txt"; then
  say "tests ran nothing: $(grep -m 1 SKIPPED "$OUT/tests.txt")"
  failed=1
fi
part ops required 190 "$PYTHON" benchmarks/bare.py ops --device cuda --seconds 3 --out "$OUT/ops.json"
part rte required 45 "$PYTHON" benchmarks/bare.py rte --device cuda --out "$OUT/rte.json"

# A sanitizer that cannot run on this machine is a line in the summary; one that finds something is a failure.
sanitizer=$(command -v compute-sanitizer || echo "$CUDA_HOME/bin/compute-sanitizer")
if [[ -x $sanitizer ]]; then
  FOUND=99
  for tool in "memcheck --report-api-errors no" racecheck; do
    # shellcheck disable=SC2086 # the tool and its options
    fatal=$FOUND part "${tool%% *}" optional 60 "$sanitizer" --tool $tool --error-exitcode "$FOUND" --print-limit 20 \
      "${TESTS[@]}" -x -k "parity and small and (fp32 or in_place) and not retain and not ratio"
  done
else
  say "memcheck, racecheck: no compute-sanitizer on PATH or in $CUDA_HOME/bin"
fi

# Last, in the time that is left: our rows of the suite, to compare later commits with.
if "$PYTHON" -c "import pytest_benchmark" 2>"$OUT/suite.log"; then
  part suite optional 90 "$PYTHON" -m pytest benchmarks/test_operator.py --device cuda -k "ours or copy" \
    --benchmark-json "$OUT/suite.json"
else
  say "suite: no pytest-benchmark here, left out"
fi

cat "$OUT/ops.txt" "$OUT/rte.txt" 2>/dev/null
say "$( ((failed)) && echo FAILED || echo ok) in $SECONDS s"
exit "$failed"
