"""Skerry: accelerators in many clouds and regions as one pool for LLM inference."""
