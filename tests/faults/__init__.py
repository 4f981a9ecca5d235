"""The fault matrix: real processes, scripted faults, and the simulator's ledger as the judge.

`python -m tests.faults` runs it; start reading at `matrix.py`, the table of faults.
"""
