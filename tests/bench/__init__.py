"""`python -m tests.bench`: how fast and how soon, measured beside what it is compared with."""
