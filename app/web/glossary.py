"""One or two sentences for every term on the page, shown on hover."""

TERMS = {
    "model": "`demo`, a folder written by `save_pretrained`, or the id of a model on the Hugging Face Hub (safetensors only).",
    "task": "A task of the GLUE benchmark by name, or the path of a TSV, CSV or JSONL file with named columns.",
    "data": "The folder that holds the task in GLUE's TSV layout (`sst2/dev.tsv`). Empty: the Hub, or the demo's sentences.",
    "text": "For a file of your own: the name of its text column, or of two, separated by a comma.",
    "label": "For a file of your own: the name of its label column.",
    "recipe": "A named way to prune; it sets everything below. **Paper**: single rows by variance, means in their place. "
    "**Best**: what loses least without fine-tuning. The others change one thing at a time; any choice below makes a recipe "
    "of your own.",
    "units": "What goes as one. **single rows** of any of the six matrices, as in the paper; or rows together with the columns "
    "that read them, so that a matrix shrinks on both sides: **ffn neurons**, **values** (a value's coordinate), **pairs** "
    "(a coordinate of query and key), **heads**, **sublayers**, **layers**.",
    "basis": "**neurons**: units as they are. **principal**: value and query/key coordinates are turned within each head to "
    "their principal axes first, which changes nothing the dense model says.",
    "criterion": "What decides which units go first. **variance**: those whose output varies least over real tokens (the "
    "paper). **magnitude**: those whose weights have the smallest L2 norm. **random**: any, but as many in each layer as "
    "variance takes. **weighted variance**: variance times the weights that read it. **conditional variance**: what the "
    "others cannot predict. **surgeon**: the error that going adds when the rest is solved again. **wanda**: weights times "
    "inputs. **function norm**: how large what a whole block adds is, at its largest coordinate. **fisher**: the effect on the "
    "model's outputs, to first order.",
    "scope": "Who competes with whom. **per type**: all layers of one type or kind (the paper). **per layer**: each layer by "
    "itself, so all are cut alike. **global**: all by their scores. **scaled**: all, each layer's scores divided by their "
    "sum. **measured**: all, by what each layer really loses, which takes a moment to measure.",
    "replacement": "What takes the place of what goes, each better informed. **zero**: nothing. **mean**: its mean output, as "
    "a constant in the bias (the paper). **least squares**: the matrix that read it is solved again. **refit**: every matrix "
    "is solved again against the dense model, from the bottom up; seconds for every sparsity. No labels, no gradient steps.",
    "calibration": "Training sentences on which everything is measured. Their labels are never looked at.",
    "lines": "What the lines stand for. **criteria**: the chosen one, variance, magnitude and random. **replacement**: all "
    "that can take the place of what goes, and random units.",
    "recipes": "Which recipes to compare. *my recipe* is the one set on the left; *random units* is the mean of three seeds.",
    "compare": "Points that are missing are computed in the background, the shape of all lines first; every one is kept.",
    "area": "Mean score over the measured shares, as a part of the dense score: 100 % would be nothing lost anywhere.",
    "within a point": "How much of the encoder's linear parameters can go until the line is one point below dense.",
    "measured to": "The largest share of linear parameters at which this recipe was measured so far.",
    "types": "The six linear projections of a layer: query, key, value and output of the attention, and the two of the "
    "feed-forward network.",
    "precision": "Arithmetic of the evaluation. bfloat16 is several times faster on recent processors and may cost a few "
    "predictions; int8 keeps the linear layers' weights in 8 bits and quantises what they read as it comes.",
    "show": "Which projection type or kind of unit the two figures show.",
    "score": "Measured on all evaluation sentences with the pruned model, without any fine-tuning.",
    "interval": "95 % interval: where the score would lie on the population the sentences were drawn from. The difference "
    "to dense is paired: both models were asked the same sentences.",
    "would go": "What goes when the removed rows are squeezed out exactly: a row of query, key, value or the first "
    "feed-forward matrix takes a part of its partner matrix along. Shares are of all six projections of all layers; "
    "embeddings and the products of attention are not counted. The page Speed measures it.",
    "heat": "How many percent of each cell's rows or units go at this sparsity (fig. 3 of the paper).",
    "sorted": "Each line is a layer, its neurons sorted by score. Grey neurons are removed at the slider's sparsity.",
    "distribution": "How the scores of a layer's neurons are spread. What lies left of the line is removed; where layers do "
    "not compete by these scores, each has a line of its own.",
    "curve": "Score against sparsity without fine-tuning; the bands are 95 % intervals.",
    "sentence": "Ask the dense and the pruned model about a text of your own.",
    "measure": "Dense, masked and squeezed model take turns on random tokens, after a warm-up; background work waits. Only "
    "what is missing is measured, or all of it again.",
    "batch": "How many texts the model reads at once.",
    "length": "Tokens of each text; all texts have the same length.",
    "repeats": "How often each form takes its turn. More repeats give steadier medians.",
    "sparsities": "At these sparsities speed is measured, and at the slider's.",
    "form": "**dense**: the model as it came. **masked**: removed rows are zero, with their constant in the bias; the matrices "
    "are as large as before. **squeezed**: the removed rows are cut out; the answers are the same, up to rounding.",
    "latency": "Time of one batch: the median of the repeats.",
    "quartiles": "A quarter of the repeats were faster than the first number, a quarter slower than the second. They are the "
    "error bars of the figures.",
    "texts/s": "Texts in a second: batch divided by latency.",
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
    "squeezed model": "A zip file: safetensors, JSON and the tokeniser; nothing of the original model is needed to load it.",
    "mode": "Which blocks may go: attention **heads**, **FFNs** (feed-forward networks), both (*joint* in the paper), **whole "
    "attention** blocks, **whole layers** (both sub-layers of a layer at once), or attention blocks and FFNs each by itself.",
    "eps_attention": "A head or attention block is the identity in a mini-batch where no token's function norm is above ε. "
    "At the left end nothing is, at the right end everything.",
    "eps_ffn": "The same for feed-forward networks, whose norms are on another scale.",
    "theta": "A block is off if it is the identity in at least this share of the mini-batches (32 texts each). The paper takes "
    "0.95.",
    "gate": "Blocks that stay are shut token by token wherever their function norm is below ε (S_ε of the paper). Without it "
    "they run as they are.",
    "off": "One square a block: its colour is the share of mini-batches in which it is the identity; what is crossed out is "
    "off. Grey blocks are of a kind that may not go. Hover for identity share and mean norm.",
    "norms": "The function norm of a block F at a token is max |F(x)|: by how much it changes the token's vector at most. "
    "Every line is a block, its colour the layer; rows and columns share their axes (fig. 2 of the paper). Dotted: ε.",
    "beside": "The **twin** was fine-tuned under spectral normalisation (λ = 5), from the same start on the same texts. *Only "
    "rescaled* divides the weights of the model in hand by σ/λ and trains nothing: for comparison, no substitute.",
    "sigma": "The largest singular value σ(W) of each projection's matrix: the most it can stretch its input. Spectral "
    "normalisation holds it at λ.",
    "runs": "One iteration: ε is estimated, the model is trained towards the identity with the gate and an L1 term, blocks "
    "that are the identity leave for good, what is left is trained again.",
    "run": "The folder that `vp snip --out` wrote, also while it runs; several: separated by semicolons. Empty: the runs of "
    "the demo that come with it.",
    "run_shown": "Each row is an iteration, from the top down; what is blank has left the model.",
    "pruned within a point": "The largest share of the linear parameters that had left when the score was at most one point "
    "below that of the given model.",
}
