"""Pruning little by little while a model trains.

cuts      when how much goes
meters    mean and variance of every neuron, step by step
gone      what is gone stays gone
narrow    removed rows are not multiplied any more
rows      whole rows go, by their variance or at random
weights   single weights go, by their size or at random
"""
