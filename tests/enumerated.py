"""The Fisher information of what a model tells, by loops over examples, places and all that could be told there."""

import torch

from vp_core.measuring.gradients import coordinates_of


def fisher(one, names, examples):
    """Name → (effect (n,), weights of all examples' tokens (tokens,)): of every place by itself, of a `Measured` model.

    `examples` are (inputs, places): of these positions of its logits, None for all. A coordinate's layer is the number before
    its name.
    """
    watched = [coordinates_of(one.layers[int(n[0])], one.statistics(), one.covariances())[n] for n in names]
    effects, weights = [torch.zeros(len(w.mean), dtype=torch.float64) for w in watched], [[] for _ in watched]
    for inputs, places in examples:
        told, seen = _told(one.model, inputs, watched)
        own = [torch.zeros(values.shape[1], dtype=torch.float64) for values in seen]
        changes = [w.site.part(values.detach())[0] - w.mean for w, values in zip(watched, seen, strict=True)]
        for place in range(len(told)) if places is None else places:
            for outcome, p in enumerate(told[place].exp().tolist()):
                gradients = torch.autograd.grad(told[place, outcome], seen, retain_graph=True)
                for i, where in enumerate(watched):
                    gradient = where.site.part(gradients[i])[0]
                    effects[i] += p * (gradient * changes[i]).square().sum(0)
                    own[i] += p * gradient.square().sum(1)
        for i, values in enumerate(own):
            weights[i].append(values)
    return {name: (effects[i] / len(one.texts), torch.cat(weights[i])) for i, name in enumerate(names)}


def _told(model, inputs, watched):
    """(log-probabilities (places, outcomes) of one example, what passed at each of the coordinates, asking for gradients)."""
    seen, handles = {}, []
    for number, where in enumerate(watched):

        def see(values, number=number):
            seen[number] = values if values.requires_grad else values.requires_grad_(True)

        module = model.get_submodule(where.site.path)
        if where.site.inputs:
            handles.append(module.register_forward_pre_hook(lambda _m, args, see=see: see(args[0])))
        else:
            handles.append(module.register_forward_hook(lambda _m, _a, output, see=see: see(output)))
    told = model(**inputs).logits[0].log_softmax(-1)
    for handle in handles:
        handle.remove()
    return told, [seen[i] for i in range(len(watched))]
