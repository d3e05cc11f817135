"""What `vp weights` does; its options are in `app.cli.weight_options`."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis.weights import features, heads, heat, losses, movement, removed, spread
from analysis.weights.tables import SPARSITIES, sparsities_of
from app.cli.options import check_new_file, listed, open_from, print_json, recipe_from, say, sparsity_from, write_charts
from vp_core.asking.batches import Encoded
from vp_core.comparing.movement import by_magnitude, check_fitting, movements, views
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import WORD_EMBEDDINGS
from vp_core.loading.load import EMBEDDED
from vp_core.loading.weights import load_bare, load_tokeniser, load_weights, types_of
from vp_core.measuring.measured import Measured
from vp_core.recipes import Recipe
from vp_core.study import Study
from vp_core.weights.matrices import Matrix, find_matrices, view
from vp_core.weights.order import WeightRanking
from vp_core.weights.stage import WeightStage

TEXTS = 128
"""Texts whose features are compared."""
WITHOUT_TEXTS = ("magnitude", "random", "coreset")
"""Criteria that look at weights only."""

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is looked at: a model, ranked, with a study where there is a task."""

    model: PreTrainedModel
    ranking: WeightRanking
    weights: Mapping[str, Tensor]
    study: Study | None


def weights(options: argparse.Namespace) -> None:
    """`vp weights`: the tables, as text or JSON, and with --plot the figures."""
    recipe = _recipe(options)
    sparsity = sparsity_from(options, recipe, "0.5")
    check_new_file(options.plot)
    subject = _subject(options, recipe)
    ranking, mapped = subject.ranking, _mapped(options.map, subject.ranking.matrices)
    grid = sparsities_of(ranking, sorted({*SPARSITIES, sparsity}))
    say("counting what goes of each head and of Σ|w| …")
    tables: Tables = {"matrices": spread.table(ranking.matrices, subject.weights)}
    tables["removed"] = removed.table(ranking, subject.weights, grid)
    if any(matrix.head_width for matrix in ranking.matrices):
        tables["heads"] = heads.table(ranking, grid)
    if options.beside:
        tables |= _beside(options.beside, subject, recipe, grid)
    if subject.study:
        tables |= _asked(subject.study, recipe, grid)
    if options.plot:
        write_charts(_figures(tables, subject, options.model, mapped), options.plot, f"vp weights {options.model}")
    about = {
        "model": options.model, "beside": options.beside, "units": ",".join(recipe.units), "criterion": recipe.criterion,
        "scope": recipe.scope, "types": ",".join(recipe.types), "sparsity": sparsity,
        "weights": sum(matrix.size for matrix in ranking.matrices),
    }  # fmt: skip
    if options.json:
        print_json(about | {name: _records(table) for name, table in _reported(tables, sparsity).items()})
    else:
        _print(about, tables, sparsity)


def _recipe(options: argparse.Namespace) -> Recipe:
    """A recipe of single weights: `weights` unless the options say otherwise."""
    if not options.recipe and not options.units:
        options.units = "blocks" if options.block else "weights"
    recipe = recipe_from(options, options.criterion)
    if not recipe.pattern:
        raise VPError(f"This command looks at single weights, not at {', '.join(recipe.units)}: choose --units weights.")
    return recipe


def _subject(options: argparse.Namespace, recipe: Recipe) -> _Subject:
    """The model with its task, or its weights alone where no task is named."""
    study = None
    if options.task or options.model in EMBEDDED:
        study = open_from(options)
        model, stage, notes = study.model, study.weights(), study.warnings(recipe)
    else:
        if recipe.criterion not in WITHOUT_TEXTS:
            raise VPError(f"The criterion {recipe.criterion!r} needs texts: name a task (--task), or take magnitude.")
        model = load_bare(options.model)
        stage = WeightStage(Measured(model, Encoded([], None, 0, 0, 0), "", ""))
        say("no task: only the weights are looked at, not what they do")
        notes = stage.notes(recipe)
    for note in notes:
        say(note)
    ranking = stage.ranking(recipe)
    return _Subject(model, ranking, views(model, ranking.matrices), study)


def _beside(name: str, subject: _Subject, recipe: Recipe, grid: tuple[float, ...]) -> Tables:
    """How far two checkpoints are apart; the other one is where weights start from."""
    before, matrices = load_weights(name), subject.ranking.matrices
    check_fitting(matrices, before)
    if recipe.criterion != "magnitude":
        say("the two checkpoints are compared by magnitude: of the other one only the weights are known")
    say("sorting both checkpoints …")
    moved = movements(matrices, before, subject.weights)
    pattern, scope = recipe.pattern, recipe.scope
    one, other = (by_magnitude(matrices, weights, pattern, scope) for weights in (before, subject.weights))
    return {
        "difference": movement.difference_table(one, other, grid),
        "movement": movement.movement_table(matrices, moved),
        "start": movement.start_table(matrices, moved),
    }


def _asked(study: Study, recipe: Recipe, grid: tuple[float, ...]) -> Tables:
    """What the model still does as weights go."""
    say(f"comparing features and scoring at {len(grid)} sparsities …")
    batches = study.measured().some_batches(TEXTS)
    return {
        "features": features.table(study.model, lambda s: study.pruned(recipe, s), batches, grid),
        "losses": losses.table(lambda s: study.pruned(recipe, s), study.question, grid),
    }


def _mapped(names: str | None, matrices: Sequence[Matrix]) -> list[Matrix]:
    """The matrices to draw: those that are named, or the keys of layer 1 (Compressing BERT, fig. 7), or the first there is."""
    maps = {matrix.name: matrix for matrix in matrices if matrix.type != WORD_EMBEDDINGS}  # they have a map of their own
    if names is None:
        return [maps[name] for name in [*(name for name in ("1.key", "0.key") if name in maps), *maps][:1]]
    return [maps[one_of("matrix", name, tuple(maps))] for name in listed(names)]


def _figures(tables: Tables, subject: _Subject, name: str, mapped: Sequence[Matrix]) -> list[go.Figure]:
    found = [spread.draw(tables["matrices"]), removed.draw(tables["removed"])]
    found += [heads.draw(tables["heads"])] if "heads" in tables else []
    found += [heat.draw_matrix(heat.matrix_table(subject.weights[one.name], one), one) for one in mapped]
    if WORD_EMBEDDINGS in types_of(subject.model, (WORD_EMBEDDINGS,)):
        tokenizer = subject.study.loaded.tokenizer if subject.study else _tokeniser(name)
        if tokenizer is not None:
            (words,) = find_matrices(subject.model, (WORD_EMBEDDINGS,))
            found.append(heat.draw_embeddings(heat.embedding_table(view(subject.model, words), tokenizer)))
    if "movement" in tables:
        found += [movement.draw_difference(tables["difference"]), movement.draw_start(tables["start"])]
    if "losses" in tables:
        found += [features.draw(tables["features"]), losses.draw(tables["losses"])]
    return found


def _tokeniser(name: str) -> PreTrainedTokenizerBase | None:
    """The tokeniser beside weights, if there is one: without it there is no map of the word embeddings."""
    try:
        return load_tokeniser(name)
    except VPError as error:
        say(f"no map of the word embeddings: {error}")
        return None


def _reported(tables: Tables, sparsity: float) -> Tables:
    """What JSON has: of tables by sparsity and matrix the rows at the chosen one, and their summaries at all."""
    here = {
        name: table[table["sparsity"] == sparsity]
        for name, table in tables.items()
        if "matrix" in table and "sparsity" in table
    }
    found = tables | here | {"sums": removed.total(tables["removed"])}
    if "heads" in tables:
        found["head_summary"] = heads.summary(tables["heads"])
    if "movement" in tables:
        found["mask_difference"] = movement.total_difference(tables["difference"])
        found["moved"] = movement.pooled(tables["movement"])
    return found


def _print(about: Mapping[str, Any], tables: Tables, sparsity: float) -> None:
    reported = _reported(tables, sparsity)
    table = tables["matrices"].drop(columns=["layer", "type"])
    table = table.merge(_here(reported["removed"], {"share": "of Σ|w|"}), on="matrix")
    if "heads" in tables:
        by_head = reported["heads"].groupby("matrix")["pruned"].agg(["min", "max"]).reset_index()
        table = table.merge(by_head.rename(columns={"min": "head min", "max": "head max"}), on="matrix", how="left")
    if "movement" in tables:
        table = table.merge(_here(reported["difference"], {"differ": "differ"}), on="matrix")
        table = table.merge(_here(tables["movement"], {"mean": "moved", "std": "moved std"}), on="matrix")
    print(f"{about['weights']:,} weights of {about['model']}, {about['units']} by {about['criterion']}, {about['scope']}")
    print(f"\nby matrix, what goes at a sparsity of {sparsity:g}:")
    for name in ("head min", "head max"):
        if name in table:
            table[name] = table[name].map(lambda share: "" if pd.isna(share) else f"{share:.4g}")
    print(table.to_string(index=False, float_format="{:.4g}".format))
    print("\nby sparsity:")
    print(_by_sparsity(reported).to_string(index=False, float_format="%.4f"))
    if "features" in tables:
        print("\ncosine similarity of features after each layer:")
        print(tables["features"].pivot(index="sparsity", columns="layer", values="cosine").to_string(float_format="%.4f"))
    if "movement" in tables:
        (all_of_them,) = reported["moved"].itertuples()
        print(
            f"\nsince {about['beside']} weights have moved by {all_of_them.mean:.2%} of a matrix (standard deviation "
            f"{all_of_them.std:.2%}) in the order of magnitudes"
        )


def _here(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    return table[["matrix", *columns]].rename(columns=dict(columns))


def _by_sparsity(reported: Tables) -> pd.DataFrame:
    """One row a sparsity: what goes of Σ|w| and of heads, how far masks differ, loss and score."""
    made = reported["sums"][["sparsity", "share"]].rename(columns={"share": "of Σ|w|"})
    if "head_summary" in reported:
        made = made.merge(
            reported["head_summary"].rename(columns={n: f"head {n}" for n in ("min", "mean", "max")}), on="sparsity"
        )
    if "mask_difference" in reported:
        made = made.merge(reported["mask_difference"][["sparsity", "differ", "chance"]], on="sparsity")
    if "losses" in reported:
        metric = reported["losses"]["metric"].iloc[0]
        made = made.merge(reported["losses"][["sparsity", "loss", "value"]].rename(columns={"value": metric}), on="sparsity")
    return made


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row each, what is missing as null."""
    found = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]
