"""What Compressing BERT shows of single weights, figure by figure, of any model: each module makes tidy tables and draws them.

tables    what every table says of a matrix, and the colours of types
heads     the share of each attention head that is pruned (fig. 4 left)
removed   how much of the sum of |w| goes (fig. 5)
heat      where large weights are: in a matrix, and in word embeddings by the length of words (fig. 7)
spread    mean and standard deviation of each matrix, and how normal it is (table 3)
movement  masks and order of two checkpoints beside each other (figs 3, 4 right and 6, table 2)
features  cosine similarity of features with the dense model's (fig. 2 right)
losses    loss against score as weights go (fig. 2 left)
"""
