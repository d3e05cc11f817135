"""What `vp norms`, `vp finetune` and `vp snip` do; their options are in `app.cli.trainings.identity_options`."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import function_norms, identity, spectral
from app.cli.options import check_new_file, count, listed, main_process, number, open_from, print_json, say, whole, write_chart
from app.cli.progress import Progress
from app.cli.trainings.identity_options import PAPER
from app.cli.trainings.lessons import lessons_from, schedule_from
from vp_core.asking.evaluate import score
from vp_core.ground.chosen import check_epsilon, check_theta
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import ALPHA, PAPER_TRAINING, READINGS, TEMPERATURE
from vp_core.ground.store import check_new_folder, new_folder
from vp_core.identity import snip
from vp_core.identity.readings import PAPER as AS_PAPER
from vp_core.identity.readings import Readings
from vp_core.identity.settings import SnipSettings
from vp_core.identity.spectral import LAMBDA, check_lambda, rescaled
from vp_core.identity.threshold import Threshold, model_under
from vp_core.loading.load import load_model
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.running.finetune import Tuned, about_training, check_normalisable, fine_tune, study_of
from vp_core.running.keeping import write_plain
from vp_core.squeezing.folder import about_of, save_pruned
from vp_core.study import Study
from vp_core.training.held import check_whole
from vp_core.training.run_folder import check_run_folder, read_log
from vp_core.training.schedule import Schedule

TRAINING = "training.json"
"""What a fine-tuned folder keeps of its training."""
TWIN = "trained with SN towards the demo's hidden states and outputs"
"""How `demo-sn` was made (`vp_core.demo.making.twin`)."""


def _norms(options: argparse.Namespace) -> None:
    scale, schedule, start = _scale(options), schedule_from(options), _start(options)
    if options.rescaled and scale is None:
        raise VPError("Rescaling needs to know the spectral norm to rescale to: add --sn 5, or leave --rescaled out.")
    threshold = _threshold(options)
    check_new_file(options.out)
    check_new_file(options.plot)
    if scale == LAMBDA and options.model == "demo" and not options.rescaled and options.start is None:
        options.model = "demo-sn"
        say(f"measuring the demo's twin instead, {TWIN}: its norms are near the demo's by that, whatever normalisation does")
    study = open_from(options)
    study.projections()
    weights = "as given"
    if options.model == "demo-sn" and scale == LAMBDA and not options.rescaled:
        weights = TWIN
    elif scale is not None and options.rescaled:
        study, weights = study_of(study, rescaled(study.model, scale), study.loaded.name), "rescaled only"
        say("the weights are rescaled only, nothing is trained: this is no model that anybody would use")
    elif scale is not None:
        study, weights = _normalised(study, options, schedule, scale, start), "fine-tuned with SN"
    say(f"measuring function norms over {len(study.calibration):,} {study.measured_on} …")
    norms = study.measured().norms()
    if options.out:
        norms.save(options.out)
        say(f"written to {options.out}")
    table = function_norms.norm_table(norms)
    facts: dict[str, Any] = {
        "model": study.loaded.name, "weights": weights, "sn": scale, "texts": len(study.calibration),
        "tokens": study.calibration.tokens, "out": options.out,
    }  # fmt: skip
    if threshold is not None:
        facts |= _under(study, norms, threshold)
        table["identity"] = norms.identity_share(threshold.epsilon).numpy()
    if options.plot:
        shown = f"{study.loaded.name}, {weights}" + ("" if scale is None else f", λ = {scale:g}")
        limits = None if threshold is None else threshold.epsilon
        write_chart(function_norms.draw({shown: norms}, ("head", "attention", "ffn"), limits), options.plot)
    if options.json:
        print_json({**facts, "blocks": _records(table)})
        return
    print(f"{facts['model']} ({weights}{'' if scale is None else f', λ = {scale:g}'}): {facts['tokens']:,} tokens")
    print(table.astype({"head": object}).fillna({"head": ""}).to_string(index=False, float_format="%.4g"))
    if threshold is not None:
        print(f"off: {', '.join(facts['off']) or 'none'}; {facts['metric']} {facts['value']:.4f}, nothing trained")


def _normalised(study: Study, options: argparse.Namespace, schedule: Schedule, scale: float, start: str) -> Study:
    """The study of the model after fine-tuning under spectral normalisation."""
    progress = Progress()
    lessons = lessons_from(study, options)
    tuned = fine_tune(study, lessons, schedule, scale, progress.tell, progress.watch, start=start)
    say(f"{tuned.after.metric} {tuned.before.value:.4f} before, {tuned.after.value:.4f} under spectral normalisation")
    return study_of(study, tuned.model, study.loaded.name)


def _threshold(options: argparse.Namespace) -> Threshold | None:
    theta = check_theta(options.theta)
    if options.epsilon is None:
        return None
    parts = [check_epsilon(part) for part in listed(options.epsilon)]
    if len(parts) not in (1, 2):
        raise VPError(f"The thresholds {options.epsilon!r} are not understood: give one ε, or two as in 0.5,0.8.")
    return Threshold(parts[0], parts[-1], theta)


def _under(study: Study, norms: FunctionNorms, threshold: Threshold) -> dict[str, Any]:
    """Which blocks are off at these thresholds, and the score without them."""
    found = score(model_under(study, threshold), study.question)
    off = [block.name for block in threshold.off(norms)]
    facts = {"epsilon": threshold.epsilon, "theta": threshold.theta, "off": off}
    return facts | {"metric": found.metric, "value": found.value, "low": found.low, "high": found.high}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON: what is missing (the head of an FFN) is null."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _finetune(options: argparse.Namespace) -> None:
    scale, schedule, folder, start = _scale(options), schedule_from(options), Path(options.out), _start(options)
    check_new_folder(folder)
    check_new_file(options.plot)
    taught = _taught(options)
    study, progress = open_from(options), Progress()
    check_normalisable(study.model, scale)
    if options.plot and hasattr(study.model, "squeezed"):
        raise VPError("A squeezed model has no whole matrices whose spectral norms could be drawn: leave --plot out.")
    teacher = load_model(options.teacher, study.question.task.kind) if options.teacher else None
    lessons = lessons_from(study, options)
    tuned = fine_tune(study, lessons, schedule, scale, progress.tell, progress.watch, teacher, **taught, start=start)
    about = about_training(study, lessons, scale, tuned, start)
    if not main_process():
        return
    with new_folder(folder) as place:
        _save(study, tuned, about, place)
        (place / TRAINING).write_text(json.dumps(about, indent=1), encoding="utf-8")
    if options.plot:
        write_chart(spectral.draw_training(spectral.training_table(tuned.sigmas)), options.plot)
    if options.json:
        print_json({"out": str(folder), **{key: value for key, value in about.items() if key != "sigmas"}})
    else:
        before, after = about["before"], about["after"]
        print(
            f"{folder}: {before['metric']} {before['value']:.4f} before, {after['value']:.4f} after "
            f"({after['low']:.4f} to {after['high']:.4f}, n = {after['n']:,}), mean loss {tuned.loss:.4f}"
        )


def _taught(options: argparse.Namespace) -> dict[str, float]:
    """What is said of how a teacher teaches; VPError where there is none."""
    known = {
        "alpha": ("weight α", ALPHA),
        "temperature": ("temperature", TEMPERATURE),
        "hidden": ("weight of hidden states", 0.0),
    }
    found = {name: number(what, getattr(options, name)) for name, (what, _) in known.items()}
    said = [name for name, (_, usual) in known.items() if found[name] != usual]
    if said and not options.teacher:
        raise VPError(f"--{said[0]} says how to learn from a teacher: name one with --teacher, or leave it out.")
    return found


def _save(study: Study, tuned: Tuned, about: Mapping[str, Any], place: Path) -> None:
    """As `save_pretrained` does, a squeezed model in its own form, with what is known of where it comes from."""
    if hasattr(tuned.model, "squeezed"):
        trained = {name: about[name] for name in ("task", "rows", "schedule", "before", "after", "teacher") if name in about}
        save_pruned(tuned.model, place, study.loaded.reader, about_of(study.loaded.name) | {"trained": trained})
        return
    write_plain(tuned.model, place, study.loaded.reader)


def _snip(options: argparse.Namespace) -> None:
    settings, folder = _settings(options), Path(options.out)
    check_run_folder(folder, settings.settled(folder).as_json())  # before the model: a bad place should be told at once
    check_new_file(options.plot)
    study, progress = open_from(options), Progress()
    check_whole(study.model)
    material = snip.Material(
        study.model, lessons_from(study, options), study.calibration, study.question, study.loaded.fingerprint,
        study.loaded.reader,
    )  # fmt: skip
    for row in snip.run_snip(material, settings, folder, progress.tell, progress.watch):
        progress.close()
        say(
            f"{row['iteration']}/{settings.iterations}  {row['share_pruned']:.1%} pruned: {row['metric']} {row['value']:.4f} "
            f"({row['low']:.4f} to {row['high']:.4f}), {_left(row)} left, {row['seconds']:.0f} s"
        )
    if not main_process():
        return
    log = read_log(folder)
    if options.plot:
        write_chart(identity.draw_score(identity.named([log])), options.plot)
    if options.json:
        print_json(log["rows"])
    else:
        columns = ("iteration", "share pruned", "score", "blocks left", "gone in it")
        rows = [
            (r["iteration"], f"{r['share_pruned']:.1%}", f"{r['value']:.4f}", _left(r), " ".join(r["went"]))
            for r in log["rows"]
        ]
        print(pd.DataFrame(rows, columns=list(columns)).to_string(index=False))


def _left(row: Mapping[str, Any]) -> str:
    """The blocks that are left, in words."""
    left = row["left"]
    return f"{left['head']} heads, {left['attention']} attention blocks, {left['ffn']} FFNs"


def _settings(options: argparse.Namespace) -> SnipSettings:
    ranks = [count("rank k", part) for part in listed(options.k)]
    if len(ranks) not in (1, 2):
        raise VPError(f"The ranks {options.k!r} are not understood: give one k, or two as in 1,1.")
    readings, schedule, said = _readings(options), schedule_from(options), dict[str, Any]()
    if options.begin_epochs is not None:
        said["epochs"] = count("number of epochs", options.begin_epochs)
    if options.begin_examples is not None:
        said["examples"] = count("number of examples", options.begin_examples)
    if options.begin_lr is not None:
        said["lr"] = number("learning rate", options.begin_lr)
    return SnipSettings(
        mode=options.mode, iterations=count("number of iterations", options.iterations), theta=check_theta(options.theta),
        k=(ranks[0], ranks[-1]), l1=number("L1 factor", options.l1), sn=_scale(options),
        at_least=whole("least number of blocks", options.at_least), least_share=number("least share", options.least_share),
        schedule=schedule, begin=replace(schedule, **said) if said else None, readings=readings,
    )  # fmt: skip


def _readings(options: argparse.Namespace) -> Readings:
    """How the paper is read; with `--readings paper` as it has it, and its table 3 wherever nothing else is said."""
    if options.readings is not None:
        one_of("readings", options.readings, (PAPER,))
        for name, value in PAPER_TRAINING.items():
            option = "adam_epsilon" if name == "epsilon" else name
            if getattr(options, option) is None:
                setattr(options, option, str(value))
    base = Readings() if options.readings is None else AS_PAPER
    if options.sn is None and options.start is not None:
        _start(options)
    said = {name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in READINGS}
    return replace(base, **{name: word for name, word in said.items() if word is not None})


def _start(options: argparse.Namespace) -> str:
    """What spectral normalisation begins with; VPError where there is none."""
    if options.start is not None and options.sn is None:
        raise VPError("--start says what spectral normalisation begins with: name λ with --sn 5, or leave it out.")
    return one_of("start", options.start or next(iter(READINGS["start"])), tuple(READINGS["start"]))


def _scale(options: argparse.Namespace) -> float | None:
    return None if options.sn is None else check_lambda(options.sn)


IDENTITY_COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "norms": _norms, "finetune": _finetune, "snip": _snip,
}  # fmt: skip
