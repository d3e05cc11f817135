"""The embedded default: a small sentiment model and the sentences it was tuned and judged on."""

from vp_core.demo.load import load_demo

__all__ = ["load_demo"]
