"""From what was measured to exactly which rows go: score, order, masks.

evidence     what a criterion may look at
readings     what criteria read off it for one group of units
elimination  orders that look at all units together
criteria     a score for every unit, by name
plan         from scores to an order (`rank`), from an order and a share to masks (`Plan`)
allocation   how much each layer gives, by what its pruning does to the outputs
estimated    the same of a language model in closed form, with one measurement in each layer
"""
