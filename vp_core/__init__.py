"""Variance pruning: watch every output neuron of a Transformer's projections, remove what hardly varies."""
