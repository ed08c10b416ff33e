"""Chaos: many runs in several processes, while those are killed and frozen and the database fails; then a verdict.

`python -m bench.chaos` carries out a plan that follows from a seed (`plan`), has everybody write down what they do in
one file (`notes`), and judges that by rules (`verdict`). `docs/durability.md` says what is promised.
"""
