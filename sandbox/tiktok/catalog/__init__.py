"""Catalogs of the TikTok Business sandbox: `service.py` serves them, `judge.py` shows what came.

Contract: tiktok-catalog-and-oauth.md, sections 1, 3 and 4.
"""
