"""One layer is cut to what is left of it, and its new shapes are noted.

shapes   what a squeezed model has that a dense one has not; a dense model of these shapes
pieces   a linear map cut and put in place
heads    query, key and value in narrower heads
turning  ... under rotary positions
layer    attention and feed-forward network of a layer
"""
