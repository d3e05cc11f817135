"""Training goes on from here: fine-tuning, and pruning of whole blocks towards the identity (SNIP).

gate            shut where no coordinate of a block exceeds ε
held            what was pruned stays pruned
loop            one training loop for all
spectral        weights of a given spectral norm
spectral_start  where to begin with it
finetune        a study's model on its training set, from data to scores
leaving         which blocks leave in an iteration
run_folder      what a run keeps on disk
snip            the iterations, as a run that can be stopped
threshold       what ε and θ take out, nothing trained
"""
