"""A TikTok Business that refuses what the real one refuses, and remembers what it was sent.

It is an oracle: nothing here is shared with the code that it judges. Start at `app.py`.
"""
