"""A LoRA adapter on a base: how it is trained, written, read back and merged."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from examples.intents.errors import IntentsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from examples.intents.base import Base
    from examples.intents.sentences import Sentences

_SEED = 20250101
_LABELS = "labels.json"
_BATCH_SIZE = 16
_RANK = 16
_REPORT_STEPS = 20
# What is trained beside the adapter, how fast, and how often each sentence is seen.
_PRETRAINED: tuple[tuple[str, ...], float, int] = (("score",), 2e-4, 5)
# Random embeddings know no words: they are trained too, from nothing.
_STAND_IN: tuple[tuple[str, ...], float, int] = (("score", "embed_tokens"), 2e-3, 8)


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Says how far the training is."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def on_log(self, _arguments: Any, state: Any, _control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self._report(f"step {state.global_step} of {state.max_steps}: loss {float(logs['loss']):.3f}")


def train(base: Base, sentences: Sentences, folder: Path, report: Callable[[str], None]) -> None:
    """Fine-tune an adapter and write it, always the same from the same base and sentences."""
    also_trained, learning_rate, epochs = _STAND_IN if base.is_stand_in else _PRETRAINED
    set_seed(_SEED)
    labels, tokenizer = sentences.labels, base.tokenizer()
    model = get_peft_model(
        base.classifier(labels),
        LoraConfig(
            task_type="SEQ_CLS",
            r=_RANK,
            lora_alpha=2 * _RANK,
            lora_dropout=0.1,
            target_modules="all-linear",
            modules_to_save=list(also_trained),
        ),
    )
    trained, every = model.get_nb_trainable_parameters()
    report(
        f"fine-tuning {trained:,} of {every:,} parameters on {len(sentences.texts)} sentences"
        f" with {len(labels)} intents, {epochs} times each"
    )
    rows = [
        {**tokenizer(text), "labels": labels.index(intent)}
        for text, intent in zip(sentences.texts, sentences.intents, strict=True)
    ]
    begun = time.monotonic()
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=_BATCH_SIZE,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            num_train_epochs=epochs,
            logging_steps=_REPORT_STEPS,
            save_strategy="no",
            report_to=[],
            seed=_SEED,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[_Progress(report)],
        optimizers=(_optimizer(model, learning_rate), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    _write(model, base, labels, folder)
    report(f"the adapter is in {folder} ({time.monotonic() - begun:.0f} s)")


def _optimizer(model: Any, learning_rate: float) -> torch.optim.Optimizer:
    """Return one under which embeddings, where they are trained, move ten times as fast as the rest."""
    named = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
    embeddings = [weights for name, weights in named if "embed_tokens" in name]
    others = [weights for name, weights in named if "embed_tokens" not in name]
    groups = [{"params": embeddings, "lr": 10 * learning_rate}, {"params": others, "lr": learning_rate}]
    return torch.optim.AdamW(groups)


def _write(model: Any, base: Base, labels: list[str], folder: Path) -> None:
    # PEFT knows the base by the folder that it was read from, which is of this machine.
    model.peft_config["default"].base_model_name_or_path = base.name
    model.peft_config["default"].revision = base.revision
    # Embeddings are written where they are trained; PEFT would ask the hub whether others have to be.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / _LABELS).write_text(json.dumps(labels, indent=1) + "\n")


def origin(folder: Path) -> tuple[str, str]:
    """Return name and revision of the base that an adapter was trained on.

    Raises:
        IntentsError: there is no adapter in the folder.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors", _LABELS):
        if not (folder / name).is_file():
            raise IntentsError(f"{folder}: is no adapter of `finetune`: there is no {name} in it")
    config = PeftConfig.from_pretrained(str(folder))
    return str(config.base_model_name_or_path), str(config.revision)


def load(folder: Path, base: Base) -> tuple[Any, list[str]]:
    """Return a base with an adapter on it, and the labels of its classes.

    Raises:
        IntentsError: there is no adapter, or its weights cannot be read, or they have other shapes than the
            base.
    """
    origin(folder)
    labels = json.loads((folder / _LABELS).read_text())
    config = PeftConfig.from_pretrained(str(folder))
    # Where it is here; PEFT warns of any other name.
    config.base_model_name_or_path = str(base.folder)
    model = get_peft_model(base.classifier(labels), config)
    fits = get_peft_model_state_dict(model, save_embedding_layers=False)
    try:
        given = load_peft_weights(str(folder), device="cpu")
    except SafetensorError as error:
        raise IntentsError(f"{folder}: its weights cannot be read: {error}") from error
    for key in sorted(fits.keys() | given.keys()):
        shapes = [tuple(weights[key].shape) if key in weights else None for weights in (given, fits)]
        if shapes[0] != shapes[1]:
            here = f"{base}, which is a stand-in here," if base.is_stand_in else str(base)
            raise IntentsError(
                f"{folder}: does not fit {here} though it is named as its base: the shape of {key} is"
                f" {shapes[0]} in the adapter and has to be {shapes[1]}"
            )
    set_peft_model_state_dict(model, given)
    return model.eval(), labels
