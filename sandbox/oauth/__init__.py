"""What the three simulators share of OAuth: registered apps, tokens, faults, the judge's counts.

Start at `desk.py`; each provider's endpoints are in its own package.
"""
