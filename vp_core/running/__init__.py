"""Trainings from data to a model that can be opened: plain ones, and those that prune.

finetune  a study's model on its training set, from data to scores
"""
