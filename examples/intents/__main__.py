"""The commands of this example: `berth example intents`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.intents import classifiers, sentences
from examples.intents.errors import IntentsError

if TYPE_CHECKING:
    from examples.intents.evaluation import Evaluation

_HERE = Path(__file__).parent
_BASE = "Qwen/Qwen2.5-0.5B"
_REVISION = "060db6499f32faf8b98477b0a26969ef7d8b9987"

# A file or a pipe has no width: there the rows of a table stay whole.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune a classifier of intents, merge it into its base, measure it.",
)

AdapterFolder = Annotated[Path, typer.Argument(help="The adapter's folder.", show_default=False)]
BaseName = Annotated[str, typer.Option(help="The base model's name on the hub.")]
BaseRevision = Annotated[str, typer.Option(help="Its commit there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]


def _report(line: str) -> None:
    _err.print(line, markup=False)


@app.command()
def finetune(
    adapter: AdapterFolder,
    train: Annotated[Path, typer.Option(help="Sentences with their intents.")] = _HERE / "train.jsonl",
    base: BaseName = _BASE,
    revision: BaseRevision = _REVISION,
) -> None:
    """Fine-tune a LoRA adapter and a head for the intents of the sentences; write both to a folder."""
    rows = sentences.read(train)
    from examples.intents.adapter import train as train_adapter  # noqa: PLC0415  # imports PyTorch
    from examples.intents.base import fetch  # noqa: PLC0415

    train_adapter(fetch(base, revision, _report), rows, adapter, _report)


@app.command()
def merge(
    adapter: AdapterFolder,
    output: Annotated[Path, typer.Argument(help="Where the merged model goes.", show_default=False)],
    base: BaseName = _BASE,
    revision: BaseRevision = _REVISION,
) -> None:
    """Merge an adapter into its base: a model that vLLM serves as it is."""
    from examples.intents.merging import merge as merge_adapter  # noqa: PLC0415  # imports PyTorch

    merge_adapter(adapter, base, revision, output, _report)


@app.command()
def evaluate(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders of adapters and merged models, and URLs that end in /classify or, for RunPod's"
            f" queues, in /runsync; the key of those that want one in {classifiers.KEY_VARIABLE}.",
            show_default=False,
        ),
    ],
    test: Annotated[Path, typer.Option(help="Sentences with their intents.")] = _HERE / "test.jsonl",
    picture: Annotated[
        Path | None, typer.Option(help="Draw the confusion matrices into this .png or .svg.")
    ] = None,
    require_accuracy: Annotated[
        float, typer.Option(min=0, max=1, help="Exit with status 1 if one is less accurate.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Measure one classifier or several on the same sentences: accuracy, precision and recall, confusion."""
    rows = sentences.read(test)
    from examples.intents import evaluation  # noqa: PLC0415  # imports scikit-learn and matplotlib

    results = []
    for source in sources:
        classify = classifiers.open_source(source, rows.labels, _report)
        results.append(evaluation.evaluate(source, classify, rows, _err))
    differences = [result.largest_difference(results[0]) for result in results]
    if picture is not None:
        evaluation.draw(results, picture)
    if as_json:
        _print_json(
            {
                "sentences": len(rows.texts),
                "results": [
                    {**result.as_json(), "largest_difference_from_first": difference}
                    for result, difference in zip(results, differences, strict=True)
                ],
            }
        )
    else:
        for result, difference in zip(results, differences, strict=True):
            _show(result, difference, len(rows.texts))
    for result in results:
        if result.accuracy < require_accuracy:
            raise IntentsError(f"{result.source}: accuracy {result.accuracy:.3f} is below {require_accuracy}")


@app.command()
def bench(
    url: Annotated[
        str,
        typer.Argument(
            help=f"Ends in /classify or /runsync; its key in {classifiers.KEY_VARIABLE}.", show_default=False
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Measure how fast an endpoint classifies 1, 4, 8, 16 and 32 sentences in a request."""
    texts = sentences.read(_HERE / "test.jsonl").texts
    from examples.intents.benchmark import measure  # noqa: PLC0415  # imports NumPy

    figures = list(measure(classifiers.endpoint(url), texts, _err))
    if as_json:
        _print_json([one.as_json() for one in figures])
        return
    table = Table("batch", "sentences/s", "p50 ms", "p95 ms", title=url)
    for one in figures:
        table.add_row(
            str(one.batch_size), f"{one.sentences_per_second:.1f}", f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}"
        )
    _out.print(table)


def _show(result: Evaluation, difference: float, count: int) -> None:
    table = Table("intent", "precision", "recall", title=result.source)
    for label, precision, recall in zip(result.labels, result.precision, result.recall, strict=True):
        table.add_row(label, f"{precision:.2f}", f"{recall:.2f}")
    table.caption = (
        f"accuracy {result.accuracy:.3f} on {count} sentences;"
        f" probabilities differ from the first by {difference:.1e} at most"
    )
    _out.print(table)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def main(arguments: list[str]) -> int:
    """Run a command, and return its exit status."""
    try:
        app(arguments, prog_name="berth example intents")
    except IntentsError as error:
        _err.print("[bold red]error:[/]", Text(str(error)))
        return 1
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
