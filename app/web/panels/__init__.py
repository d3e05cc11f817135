"""The parts of the pages, from top to bottom of each: they lay out what others compute.

score_view     how a score is shown, on whatever page
explore        the page Explore: score and curve (what can be tried there: the room `trying`)
weights        the page Weights: masks, one matrix, two masks
weight_figures its figures of weights
units          its panels that wait for the order of removal
compare        the page Compare
speed_tables   the two tables of the page Speed
speed          the page Speed
sublayer_runs  finished runs of identity pruning
sublayers      the page Sub-layers
"""
