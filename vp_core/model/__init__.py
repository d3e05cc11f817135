"""What a model is made of, whatever its family calls it; a model that came in is never changed.

families     what the parts are called in every family (`family`): no other files know
projections  the six linear maps of every layer, and what belongs together in a layer
blocks       heads, attention blocks and feed-forward networks as a whole
units        what is removed together: a row, or rows with the columns that read them
sharing      a copy of the structure over the same tensors
products     float32 products by the library that is faster at them here
sites        where to look in a model, and the one who places hooks there and takes them off
scatter      the smaller linear map that a squeezed model has
attending    attention that a squeezed model has and a dense one has not
precision    float32, bfloat16, int8
"""
