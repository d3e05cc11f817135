"""The removed rows leave the matrices: a smaller dense model with equal outputs, counted, timed and kept.

survivors   what is left of a layer: index arithmetic
cost        parameters and FLOPs, by formula and counted
squeeze     the smaller model: each layer is cut (`cut`)
blocks_off  whole blocks that leave, and what was trained without them, back into the dense shapes
timing      seconds of forward passes, the models in turn
widths      what a layer saves by the widths of its parts, by this machine's clock
budget      from a share of parameters, FLOPs or time to a number of units
folder      saved and loaded again, without the original
dense_form  ... at its old shape, for plain transformers
onnx        ... as ONNX
"""
