"""`tidewire demo`: the whole suite through a storm, and the proof that nothing was lost."""

from __future__ import annotations

from cli.demo.run import run_demo

__all__ = ["run_demo"]
