"""The command line. Heavy modules are imported by the commands that need them, so that --help is quick."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modalrank import scoring_command
from modalrank.promotion import commands
from modalrank.tuning_job import command as tuning

if TYPE_CHECKING:
    from modalrank.config import Config
    from modalrank.lists import Held

app = typer.Typer(
    help="Ranks items for users from several modalities: train offline, register, score batch files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

commands.register(app)
scoring_command.register(app)
tuning.register(app)

ConfigFile = Annotated[Path, typer.Argument(help="YAML config, such as examples/movies.yaml")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set data.root=/data")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]
MaxBadMedia = Annotated[
    float | None,
    typer.Option("--max-bad-media", min=0, max=1, help="share of a column's files that may be unreadable"),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="log what the libraries decide, too")]


class HeldOut(StrEnum):
    """The splits that nothing is trained on."""

    valid = "valid"
    test = "test"


ModelName = Annotated[
    str, typer.Option("--model", help="models:/NAME@challenger, models:/NAME/2 or a folder")
]


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where the demo data and scores go")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="of the data and the training", min=0)] = 0,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make a data set with a planted truth and run the whole line on it."""
    from modalrank.console import progress, set_up_logging, show_json
    from modalrank.demo import run_demo

    set_up_logging(verbose)
    with progress(as_json) as say:
        summary = run_demo(folder, seed, say)
    if as_json:
        show_json(summary.as_dict())
    else:
        summary.show()


@app.command()
def validate(
    config: ConfigFile,
    overrides: Overrides = None,
    max_bad_media: MaxBadMedia = None,
    as_json: Json = False,
) -> None:
    """Check the tables of a config and print PASS, WARN or FAIL lines with example ids."""
    from features.errors import DataError
    from modalrank.config import load_config
    from modalrank.console import show_checks, show_json
    from modalrank.validation import validate as all_checks

    checks = all_checks(load_config(config, _with_media(overrides, max_bad_media)))
    failed = [check for check in checks if not check.passed and check.level == "fail"]
    if as_json:
        fields = ("name", "passed", "level", "detail", "examples")
        show_json([{field: getattr(check, field) for field in fields} for check in checks])
    else:
        show_checks(checks)
    if failed:
        raise DataError(f"{len(failed)} of {len(checks)} checks failed", fix="see the FAIL lines")


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    max_bad_media: MaxBadMedia = None,
    print_config: Annotated[bool, typer.Option(help="print the full config and stop")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a stack, record the run and register the model with the alias `challenger`."""
    from modalrank.config import dump_config, load_config
    from modalrank.console import progress, set_up_logging, show_json
    from modalrank.jobs import show_training, train_and_record, training_summary

    set_up_logging(verbose)
    checked = load_config(config, _with_media(overrides, max_bad_media))
    if print_config:
        typer.echo(dump_config(checked), nl=False)
        return
    with progress(as_json) as say:
        result, recorded = train_and_record(checked, say)
    if as_json:
        show_json(training_summary(result, recorded))
    else:
        show_training(result, recorded)


@app.command()
def evaluate(
    config: ConfigFile,
    model: ModelName = "",
    split: Annotated[HeldOut, typer.Option(help="which split to score")] = HeldOut.test,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="remove 10 to 90% of every modality and compare the losses")
    ] = False,
    seeds: Annotated[int, typer.Option(help="of --robustness: removals drawn at each rate", min=1)] = 3,
    queries: Annotated[int, typer.Option(help="of --robustness: most queries, at random", min=2)] = 2000,
    overrides: Overrides = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score a held-out split of a config's data with a registered model: metrics, intervals and slices."""
    from modalrank.config import load_config
    from modalrank.console import progress, set_up_logging, show_json
    from modalrank.jobs import evaluate_model, show_evaluation

    set_up_logging(verbose)
    checked = load_config(config, overrides or [])
    name = model or f"models:/{checked.name}@challenger"
    if robustness:
        _evaluate_robustness(checked, name, split.value, seeds, queries, as_json)
        return
    with progress(as_json) as say:
        evaluation = evaluate_model(checked, name, split.value, say)
    if as_json:
        show_json(evaluation.as_dict())
    else:
        show_evaluation(evaluation)


@app.command()
def judge(
    config: ConfigFile,
    scores: Annotated[Path, typer.Option(help="file that modalrank score wrote")],
    out: Annotated[Path, typer.Option(help="folder for judged.parquet")],
    overrides: Overrides = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Let a language model judge the best candidates of a score file; needs the config's section judge."""
    from modalrank.config import load_config
    from modalrank.console import progress, set_up_logging, show_json, show_judged
    from modalrank.judging import judge_scores

    set_up_logging(verbose)
    with progress(as_json) as say:
        judged = judge_scores(load_config(config, overrides or []), scores, out, say)
    if as_json:
        show_json(judged.as_dict())
    else:
        show_judged(judged)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine offers: versions, cores, devices and the tracking store."""
    from modalrank.console import show_json, show_table
    from modalrank.jobs import diagnose

    facts = diagnose()
    if as_json:
        show_json(facts)
    else:
        show_table("modalrank doctor", ["what", "found"], [[key, value] for key, value in facts.items()])


def _evaluate_robustness(
    config: Config, model: str, split: Held, seeds: int, queries: int, as_json: bool
) -> None:
    from modalrank.console import progress, show_json
    from modalrank.robustness.job import Asked, model_robustness
    from modalrank.robustness.report import as_dict, show

    with progress(as_json) as say:
        found, run = model_robustness(config, Asked(model, split, seeds, queries), say)
    if as_json:
        show_json(as_dict(found) | {"run": run})
        return
    show(found)
    where = f"in the run {run}" if run else "nowhere, as a folder has no run"
    typer.echo(f"Tables and figures: {where}")


def _with_media(overrides: list[str] | None, max_bad_media: float | None) -> list[str]:
    """Return the overrides with `--max-bad-media` as one of them."""
    return [*(overrides or []), *([] if max_bad_media is None else [f"media.max_bad={max_bad_media}"])]


def main(arguments: list[str] | None = None) -> Any:  # noqa: ANN401 - never returns in practice
    """Run the command line; a user's mistake is one line on stderr and its exit code."""
    # Threads of gradient boosting that spin while they wait slow each other down on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = sys.argv[1:] if arguments is None else arguments
    try:
        app(words)
    except Exception as error:
        # Looked up late: importing the errors takes numpy, which --help does not need.
        from features.errors import ModalrankError

        if not isinstance(error, ModalrankError):
            raise
        from modalrank.console import show_error

        show_error(error, "--json" in words)
        sys.exit(error.exit_code)
