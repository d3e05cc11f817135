"""What a model is asked, and how good its answers are.

tasks     name, columns, labels and metrics of every task
tables    the asked columns of a file: TSV, CSV, JSON, JSONL, Parquet (`reading`: what stands in such files)
examples  texts and labels, from such a table or the Hub
batches   tokens, in batches with little padding
forward   a model's answer to a batch, or one sentence that names the text
metrics   accuracy, F1, Matthews, correlations, each with its interval
evaluate  a score that gets better while it runs, exact at the end
labels    which output of a model means which label of the data
"""
