"""What a metric of one's own is about: batches as they are given, what it returns, and whether it leaves the model alone.

dicts     batches of tensors as examples of a model
returned  what a metric returned, and what it is known by
watched   a copy of the model for it, and whether it changed that
"""
