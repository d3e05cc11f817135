"""Pruning little by little while a model trains.

cuts      when how much goes
"""
