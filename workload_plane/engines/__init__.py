"""Renderers: from the typed engine configuration to what each engine is started with.

Pure, one module per engine, behind `port.EngineRenderer`; `catalogue` picks by name. The replica
host renders what it starts; whoever applies a deployment asks for the refusals first.
"""
