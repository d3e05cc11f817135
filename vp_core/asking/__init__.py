"""What a model is asked, and how good its answers are.

tasks     name, columns, labels and metrics of every task
outputs   what a model's outputs stand for, and what their names match
several   any number of labels for each text, as files write them
targets   from a label column to classes, values or several labels
examples  texts and labels, from a table (`reading`: TSV, CSV, JSON, JSONL, Parquet) or the Hub
batches   tokens, in batches with little padding
forward   a model's answer to a batch, or one sentence that names the text
metrics   accuracy, F1, Matthews, correlations, each with its interval
evaluate  a score that gets better while it runs, exact at the end
labels    which output of a model means which label of the data
"""
