"""Measure a run in both directions, verify, and write its report (paper, sections 3.3 and 4).

Run as (one process):

    python recipes/evaluate.py --config recipes/configs/scenes.yaml --data DATA --run RUN

or with the queries shared between processes, on CPUs or GPUs:

    accelerate launch --num_processes 2 recipes/evaluate.py --config recipes/configs/scenes.yaml --run RUN
    accelerate launch recipes/evaluate.py --run RUN --verifier all --num-beams 50

`semcore evaluate` runs the same code. Needs RUN/identifiers and RUN/identifier_model, and
RUN/verifier_model for the listwise verifier. Writes into RUN

    t2i/  i2t/                 run.generated.trec, run.verified.trec, qrels.trec, per_query.jsonl
    metrics.json               scores of the chosen verifiers, fused and alone, order bias, ablations, the ceiling
    verification.json          each verifier's shifts, and its fusion with the generator, fitted on val
    report.md  report.html     the same to read, with examples

A killed evaluation goes on where it stopped; `--check` looks whether everything is there.
"""

from semcore.commands.arguments import run_command
from semcore.commands.evaluate import EvaluateSettings, main

if __name__ == "__main__":
    run_command(main, EvaluateSettings, "evaluate")
