"""A TikTok Shop that refuses what the real one refuses: consent, tokens, shops. Start at `app.py`.

Shares no code with what it judges.
"""
