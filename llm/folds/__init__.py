"""Folds the events of a streamed answer into the body that a plain call would have been answered with.

So there is one reading of an answer, LiteLLM's own, and an event costs microseconds: its stream wrappers build half a
dozen objects for each.
"""
