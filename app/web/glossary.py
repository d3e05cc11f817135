"""One or two sentences for every term on the page, shown on hover."""

TERMS = {
    "recipe": "A named way to prune; it sets everything below. **Paper**: single rows by variance, means in their place. "
    "**Best**: what loses least without fine-tuning. The others change one thing at a time; any choice below makes a recipe "
    "of your own.",
    "compare": "Points that are missing are computed in the background, the shape of all lines first; every one is kept.",
    "area": "Mean score over the measured shares, as a part of the dense score: 100 % would be nothing lost anywhere.",
    "times dense": "Perplexity as a multiple of dense, the geometric mean over the measured shares: 1 would be nothing lost "
    "anywhere.",
    "within a tenth": "How much of the encoder's linear parameters can go until perplexity is a tenth above dense.",
    "within a point": "How much of the encoder's linear parameters can go until the line is one point below dense.",
    "measured to": "The largest share of linear parameters at which this recipe was measured so far.",
    "score": "Measured on all that is asked with the pruned model, without any fine-tuning.",
    "interval": "95 % interval: where the score would lie on the population the examples were drawn from. The difference "
    "to dense is paired: both models were asked the same examples.",
    "perplexity": "exp of the mean loss of a token of the text, with the pruned model, without any fine-tuning: as if the "
    "model hesitated between so many tokens that are equally likely. Lower is better; 1 would be to know every token.",
    "masked_loss": "Mean loss in nats of the tokens that are masked, 15 % of the text, always the same ones, with the pruned "
    "model, without any fine-tuning. Lower is better.",
    "answer_f1": "F1 of the words of the answer that the pruned model marks and of the best of the answers that count, without "
    "articles and punctuation; the mean over all questions, without any fine-tuning.",
    "exact_match": "Share of questions whose marked answer is one of those that count, but for case, articles and "
    "punctuation, with the pruned model, without any fine-tuning.",
    "entity_f1": "F1 of whole entities: one counts where its words and its kind are exactly right, with the pruned model, "
    "without any fine-tuning.",
    "rougeL": "F1 of the longest common subsequence of words of what the pruned model writes and of what it should have "
    "written, without any fine-tuning.",
    "interval of tokens": "95 % interval: where the score would lie on other text of the same kind (a bootstrap over windows, "
    "whose tokens belong together).",
    "would go": "What goes when the removed rows are squeezed out exactly: a row of query, key, value or the first "
    "feed-forward matrix takes a part of its partner matrix along. Shares are of all six projections of all layers; "
    "embeddings and the products of attention are not counted. The page Speed measures it.",
    "heat": "How many percent of each cell's rows or units go at this sparsity (fig. 3 of the paper).",
    "row masks": "Every row of every matrix is one bar: a neuron of the projection. Of single weights, its shade is the share "
    "of the row's weights that goes. Drag to zoom in, double-click to see all of it again.",
    "pattern": "Every weight of the matrix where it stands: a row puts out one coordinate, a column reads one. Lines part "
    "heads. A matrix with more than 400 rows or columns is drawn by the share that survives in each cell. Beside it, how large "
    "the weights are.",
    "overlay": "Both masks at the slider's sparsity. By chance: what two masks that take as many of each matrix would have in "
    "common if one knew nothing of the other.",
    "weights alone": "As weights go, how much of the sum of all magnitudes goes with them, and how unevenly heads are hit; the "
    "spread of every matrix, and how far it is from a normal distribution (figures 4, 5, 7 and table 3 of *Compressing BERT*). "
    "With another model above: how far the two masks differ, and how far weights moved in the order of magnitudes (3 and 6).",
    "answers": "How alike each layer's features stay to the dense model's, and score against loss, as weights go (figure 2 of "
    "*Compressing BERT*).",
    "no time": "A product with zeros in a matrix takes as long as without: only rows and columns that are wholly gone can "
    "leave it. What is saved is room on disk, a bit for each weight and the weights that stay. The page Speed measures both.",
    "sorted": "Each line is a layer, its neurons sorted by score. Grey neurons are removed at the slider's sparsity.",
    "distribution": "How the scores of a layer's neurons are spread. What lies left of the line is removed; where layers do "
    "not compete by these scores, each has a line of its own.",
    "curve": "Score against sparsity without fine-tuning; the bands are 95 % intervals.",
    "sentence": "Ask the dense and the pruned model about a text of your own.",
    "paragraph": "The dense and the pruned model mark the words of the paragraph that answer the question below it.",
    "image": "The dense and the pruned model say what they see in an image of your own, or in one of those that are scored. It "
    "stays on the machine where this program runs.",
    "written": "The dense and the pruned model write about a text of your own. The stronger a token's colour, the less sure "
    "the model was of it: its loss is −log of its probability, in nats.",
    "tagged": "The dense and the pruned model say of every word whether it belongs to an entity, and of which kind: B-PER "
    "begins a person, I-PER goes on with it. What both say differently is underlined.",
    "text": "The dense and the pruned model read a text of your own. The stronger a token's colour, the less they expected it: "
    "its loss is −log of its probability, in nats. In italics: how each goes on, always with the likeliest token.",
    "masked text": "The dense and the pruned model guess the words in the mask's place in a text of your own.",
    "likeliest": "What each model holds likeliest at a place of the text, after what stands before it.",
    "measure": "Dense, masked and squeezed model take turns on random tokens, after a warm-up; background work waits. Only "
    "what is missing is measured, or all of it again.",
    "form": "**dense**: the model as it came. **masked**: removed rows are zero, with their constant in the bias; the matrices "
    "are as large as before. **squeezed**: the removed rows are cut out; the answers are the same, up to rounding.",
    "latency": "Time of one batch: the median of the repeats.",
    "quartiles": "A quarter of the repeats were faster than the first number, a quarter slower than the second. They are the "
    "error bars of the figures.",
    "texts/s": "Texts, or images, in a second: batch divided by latency.",
    "speed-up": "How many times as fast as the dense model, which took turns with it.",
    "bits speed-up": "How many times as fast as the dense model in float32, which took turns with it.",
    "FLOP limit": "How many times as fast the squeezed model would be if time followed its floating-point operations. Small "
    "matrices, norms and softmax keep a real machine below it; a disturbed measurement may lie above.",
    "parameters": "All of the model's weights, embeddings and biases included.",
    "megabytes": "What the weights need in memory, in this precision.",
    "FLOPs per token": "Floating-point operations by formula: two for each weight of the six projections, and the products of "
    "attention at this length.",
    "precisions": "float32, 16 bits (bfloat16) and 8 bits (int8), without fine-tuning. In float32 the squeezed model's answers "
    "are those of the masked one; in fewer bits it is asked itself.",
    "single zeros": "A matrix product takes as long with zeros in it as without. A sparse kernel skips them, but has to look "
    "up where the others are: it overtakes the dense one only when few are left. Whole rows, columns and heads leave the "
    "matrices, and then time follows.",
    "time zeros": "The linear maps of one layer take turns on random tokens in each form, at the sparsities chosen above. "
    "Nothing is asked of the texts.",
    "on disk": "What the weights need in the folder that is saved: one bit a weight, and those that are not zero, where that "
    "is smaller.",
    "squeezed model": "A zip file: safetensors, JSON and the tokeniser; nothing of the original model is needed to load it.",
    "off": "One square a block: its colour is the share of mini-batches in which it is the identity; what is crossed out is "
    "off. Grey blocks are of a kind that may not go. Hover for identity share and mean norm.",
    "norms": "The function norm of a block F at a token is max |F(x)|: by how much it changes the token's vector at most. "
    "Every line is a block, its colour the layer; rows and columns share their axes (fig. 2 of the paper). Dotted: ε.",
    "twin": "The demo's spectrally normalised twin was trained towards the demo's hidden states and outputs, so that its norms "
    "are much the same by construction: they do not show what normalisation does to norms.",
    "sigma": "The largest singular value σ(W) of each projection's matrix: the most it can stretch its input. Spectral "
    "normalisation holds it at λ: in the demo's twin at 5.",
    "training": "A copy of the model in hand is trained on the task's training set, and pruned meanwhile. It goes on when this "
    "page is closed, and lets whatever a visitor waits for on another page go first. What is set here counts for the next run.",
    "start": "One training at a time. Its record and its model are kept in the cache folder of this machine.",
    "film": "The heat map of the paper's figure 3, after each cut. ▶ runs through it; the slider goes to any of them. Learned "
    "scores make no cuts: there it is what they would remove at that step.",
    "training runs": "All runs of this task on this machine. The score is measured on all that is asked, at the beginning, "
    "now and then, and of the squeezed model at the end.",
    "open result": "The smaller model becomes the model in hand, on every page that takes one.",
    "remove": "Removes the run from the disk, with its model.",
    "runs": "One iteration: ε is estimated, the model is trained towards the identity with the gate and an L1 term, blocks "
    "that are the identity leave for good, what is left is trained again.",
    "pruned within a point": "The largest share of the linear parameters that had left when the score was at most one point "
    "below that of the given model.",
}
