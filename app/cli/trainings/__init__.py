"""The commands that train: train, finetune, snip, and norms, which may.

train_options      the options of train, and what all trainings have in common
identity_options   the options of norms, finetune and snip
lessons            how to train, and on what, as options say
train_command      what train does
identity_commands  what norms, finetune and snip do
"""
