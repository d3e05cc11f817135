"""The command `vp`: results on stdout, progress on stderr. It asks `vp_core` and `analysis` and computes nothing itself.

weight_options   the options of single weights, those of weights among them
options          from options to a study, a recipe, sparsities
progress         the bar of a training
trainings        the commands that train
speed_command    what speed does
weight_commands  what weights does
commands         what the other commands do
main             all options; nothing heavy is imported before a command runs
__main__         `python -m app.cli`
"""
