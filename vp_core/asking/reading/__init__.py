"""What stands in the files that people bring, in bounded time and memory.

files      the lines of a text file, packed or not, UTF-8, of no more than a size
separated  cells of TSV and CSV, and whether a TSV's quotes are its own
records    objects of JSON, JSONL and Parquet, and paths into them
tables     the asked columns of any of them
squad      questions about paragraphs, in SQuAD's JSON
pairs      two columns of texts: what is read, and what is to be written about it
columns    sentences whose words have tags, in CoNLL's columns or JSONL
"""
