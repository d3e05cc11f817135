"""Pictures that people bring: where they are, what they are called, and each of them as red, green and blue.

rgb      one picture from its bytes, as 8 bits of red, green and blue, upright
stored   where pictures are: files, a column of a table, rows of a data set; read when they are wanted
folders  a folder of folders, a class each
tables   Parquet files, and data sets of the Hub
inputs   pictures through a model's image processor, as it is given them
album    pictures with classes that fit a model: those that are scored, and those that statistics are taken on
"""
