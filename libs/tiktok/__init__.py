"""What several services know of TikTok's API for Business."""

from libs.tiktok.return_codes import Action, ReturnCode, Scope, Source, return_code

__all__ = ["Action", "ReturnCode", "Scope", "Source", "return_code"]
