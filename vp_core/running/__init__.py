"""Trainings from data to a model that can be opened: plain ones, and those that prune.

lessons        what a model is trained on, by the kind of its task
finetune       a study's model on its training set, from data to scores
settings       how a training prunes, in one value
methods        from a method's name to what prunes
keeping        how a trained model is written
run            a whole training that can be stopped
pretrain       on a text, by masked words, and a classifier of it
record         scalars of a training for TensorBoard
trainer_state  what is kept beside a transformers Trainer's checkpoints
trainer        the methods as callbacks of a transformers Trainer
"""
