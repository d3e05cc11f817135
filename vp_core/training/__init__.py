"""Training goes on from here: one loop, open at the right places.

schedule    how to train, and on what
teacher     a model whose answers another one learns
words       what is minimised of next or masked words, or of their tags, with a teacher
objectives  what is minimised: the task, with a teacher, words, or answers
groups      which parameters are trained how
held        what was pruned stays pruned
callbacks   what may act on a model while it trains
checkpoint  stopped and gone on with, to the bit
loop        every step
run_folder  what a run keeps on disk
"""
