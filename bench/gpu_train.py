"""Training at one GPU's limit, in ten minutes: what tokens a second it takes, and beside peft + Trainer.

python gpu_train.py [--device cuda] [--size full] [--parts 124M,1B,8B-dense,8B-skewed] [--minutes 9.5] [--out FILE]

Stands alone: needs PyTorch, transformers, peft and accelerate, and uses what else it finds (flash-attn for packed sequences,
liger-kernel for the peer). Weights are random and made on the device, data are random tokens, so nothing is
downloaded: throughput does not depend on what is learned. A JSON row is printed as soon as a part is done; a part that fails
prints its error and the next goes on. `--size tiny --device cpu` runs the same code in a minute: a test of it, not a measurement.

Model FLOPs a token: 6 x weights that multiply (4 x where they are frozen) + 6 x layers x width x length for causal attention.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

DENSE_TFLOPS = 989.0
"""Peak of an H100 SXM in bf16 without sparsity (NVIDIA H100 data sheet)."""
IGNORED = -100
ROWS_PER_CHUNK = {"cuda": 4096, "cpu": 64}
"""Positions whose logits exist at a time."""
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Shape:
    """A Llama and how it is trained."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value: int
    vocabulary: int
    length: int
    batch: int
    steps: int
    tied: bool = True
    target: float = 0.0
    """Tokens per second on one H100."""


SHAPES = {
    "124M": Shape(768, 2048, 12, 12, 12, 50_304, 1024, 32, 30, target=520_000),
    "1B": Shape(2048, 8192, 16, 32, 8, 128_256, 4096, 4, 15, target=60_000),
    "8B": Shape(4096, 14_336, 32, 32, 8, 128_256, 4096, 1, 12, tied=False, target=15_000),
}
TINY = {name: Shape(32, 64, 2, 4, 2, 300, 64, 2, 4, tied=shape.tied) for name, shape in SHAPES.items()}
WARMUP_STEPS = 3
PEER_STEPS, PEER_BATCH = 8, 4


@dataclass(frozen=True)
class Setting:
    """What the command line chose, and what was measured first."""

    device: str
    shapes: dict[str, Shape]
    compiles: bool
    deadline: float
    out: Path | None
    matmul_tflops: float = 0.0

    def say(self, **row: Any) -> None:
        """Print a row at once, and append it to the file."""
        line = json.dumps(row)
        print(line, flush=True)
        if self.out:
            with self.out.open("a") as file:
                file.write(line + "\n")


def build_model(shape: Shape, setting: Setting, dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """Return a Llama with random weights, made on the device."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.key_value, vocab_size=shape.vocabulary,
        max_position_embeddings=shape.length, tie_word_embeddings=shape.tied, use_cache=False, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(17)
    with torch.device(setting.device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention).train()


def add_adapter(model: Any) -> Any:
    """Return the model frozen, with LoRA of rank 16 on every linear layer but the head, in the model's own precision."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=16, lora_alpha=32, target_modules=ALL_LINEAR, task_type="CAUSAL_LM")
    return get_peft_model(model, lora, autocast_adapter_dtype=False)


def chunked_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, sum_losses: Callable[..., Any]) -> Any:
    """Return the mean loss; logits are made, used and dropped a chunk at a time, and made again in the backward pass."""
    rows = ROWS_PER_CHUNK[hidden.device.type]
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    total = torch.stack([checkpoint(sum_losses, part, weight, wanted, use_reentrant=False) for part, wanted in parts]).sum()
    return total / (targets != IGNORED).sum()


def sum_of_losses(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of a chunk."""
    logits = functional.linear(hidden, weight.to(hidden.dtype)).float()  # (rows, vocabulary)
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def train(model: Any, batches: Iterator[dict[str, Any]], steps: int, setting: Setting) -> dict[str, float]:
    """Train; return real tokens per second after the warm-up, peak memory in GiB, first and last loss."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    sum_losses: Callable[..., Any] = sum_of_losses
    if setting.compiles:
        sum_losses = torch.compile(sum_of_losses, dynamic=False)
        for layer in core.model.layers:  # alike, so compiled once
            layer.compile(dynamic=False)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=True)
    mixed = learning[0].dtype == torch.float32
    tokens, losses, started = 0, [], 0.0
    for step in range(WARMUP_STEPS + steps):
        if step == WARMUP_STEPS:
            started = now(setting.device)
        batch = next(batches)
        with torch.autocast(setting.device, torch.bfloat16) if mixed else nullcontext():
            hidden = core.model(input_ids=batch["input_ids"], position_ids=batch.get("position_ids")).last_hidden_state
            loss = chunked_loss(hidden.flatten(0, 1), core.lm_head.weight, batch["targets"].flatten(), sum_losses)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        tokens += batch["tokens"] if step >= WARMUP_STEPS else 0
    seconds = now(setting.device) - started
    return {
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "peak_memory_gib": peak_memory(setting.device),
        "loss_first": float(losses[0]),
        "loss_last": float(losses[-1]),
    }


def now(device: str) -> float:
    """Seconds, when the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(device: str) -> float:
    """GiB since the last part; 0 where the device does not count."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0


def dense_batches(shape: Shape, device: str) -> Iterator[dict[str, Any]]:
    """Full sequences of random tokens."""
    while True:
        ids = torch.randint(3, shape.vocabulary, (shape.batch, shape.length), device=device)  # (batch, sequence)
        yield {"input_ids": ids, "targets": next_tokens(ids), "tokens": ids.numel()}


def next_tokens(ids: torch.Tensor) -> torch.Tensor:
    """What each position is to predict; nothing at the end."""
    return functional.pad(ids[:, 1:], (0, 1), value=IGNORED)


def skewed_lengths(shape: Shape, count: int) -> list[int]:
    """Lengths of conversations: log-normal, the median a sixteenth of the longest sequence, sigma 1.2."""
    chance = random.Random(17)
    return [min(max(int(chance.lognormvariate(0, 1.2) * shape.length / 16), 8), shape.length) for _ in range(count)]


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing."""
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in rows if sum(row) + length <= capacity]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            rows.append([length])
    random.Random(17).shuffle(rows)
    return rows


def packed_batches(shape: Shape, rows: list[list[int]], device: str) -> Iterator[dict[str, Any]]:
    """One full sequence of whole conversations; positions restart at each, by which transformers keeps them apart."""
    while True:
        for row in rows:
            filled = [*row, shape.length - sum(row)] if sum(row) < shape.length else row
            ids = torch.randint(3, shape.vocabulary, (1, shape.length), device=device)
            positions = torch.cat([torch.arange(length, device=device) for length in filled])[None]  # (1, sequence)
            targets = next_tokens(ids)
            targets[:, sum(row) :] = IGNORED
            ends = torch.tensor(row, device=device).cumsum(0) - 1
            targets[:, ends] = IGNORED
            yield {"input_ids": ids, "position_ids": positions, "targets": targets, "tokens": sum(row)}


def multiply_rate(setting: Setting) -> float:
    """TFLOP/s of a large bf16 matrix product here."""
    size, times = (8192, 40) if setting.device == "cuda" else (256, 4)
    left, right = (torch.randn(size, size, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        left @ right
    started = now(setting.device)
    for _ in range(times):
        left @ right
    return 2 * size**3 * times / (now(setting.device) - started) / 1e12


def flops_per_token(shape: Shape, *, is_frozen: bool = False) -> float:
    """Model FLOPs of a training token; recomputation does not count."""
    key_value = shape.hidden // shape.heads * shape.key_value
    layer = 2 * shape.hidden * (shape.hidden + key_value) + 3 * shape.hidden * shape.intermediate
    weights = shape.layers * layer + shape.hidden * shape.vocabulary
    return (4 if is_frozen else 6) * weights + 6 * shape.layers * shape.hidden * shape.length


def report(setting: Setting, part: str, shape: Shape, found: dict[str, Any], *, is_frozen: bool = False, **more: Any) -> None:
    """Say what a part came to, in tokens and as a share of what the device can do."""
    tflops = found["tokens_per_second"] * flops_per_token(shape, is_frozen=is_frozen) / 1e12
    mfu = tflops / DENSE_TFLOPS if setting.device == "cuda" else None
    share = tflops / setting.matmul_tflops if setting.matmul_tflops else None
    target = shape.target if setting.device == "cuda" else None
    setting.say(
        part=part, **found, tflops=tflops, mfu_of_989=mfu, share_of_measured_matmul=share, target_tokens_per_second=target,
        shape=asdict(shape), **more,
    )  # fmt: skip


def pretrain(setting: Setting, name: str) -> None:
    """Full training in bf16 over fp32 weights, at full sequences."""
    shape = setting.shapes[name]
    model = build_model(shape, setting, torch.float32)
    report(setting, name, shape, train(model, dense_batches(shape, setting.device), shape.steps, setting))


def tune_dense(setting: Setting) -> None:
    """LoRA at full sequences, beside peft + Trainer."""
    shape = setting.shapes["8B"]
    model = add_adapter(build_model(shape, setting, torch.bfloat16))
    found = train(model, dense_batches(shape, setting.device), shape.steps, setting)
    report(setting, "8B-dense", shape, found, is_frozen=True)
    del model
    clear(setting)
    lengths = [shape.length] * PEER_STEPS
    run_peer(setting, "8B-dense: peft + Trainer", shape, lengths, 1, found["tokens_per_second"])


def tune_skewed(setting: Setting) -> None:
    """LoRA on conversations of skewed lengths, packed, beside peft + Trainer with padding (and Liger's kernels, if there)."""
    shape = setting.shapes["8B"]
    lengths = skewed_lengths(shape, 40 * PEER_BATCH)
    found, attention = first_that_works(setting, shape, pack(lengths, shape.length))
    report(
        setting, "8B-skewed", shape, found, is_frozen=True, attention=attention, median_length=sorted(lengths)[len(lengths) // 2]
    )
    clear(setting)
    ours = found["tokens_per_second"]
    run_peer(setting, "8B-skewed: peft + Trainer", shape, lengths, PEER_BATCH, ours)
    if has("liger_kernel") and setting.device == "cuda":
        clear(setting)
        run_peer(setting, "8B-skewed: peft + Trainer + Liger", shape, lengths, PEER_BATCH, ours, use_liger_kernel=True)


def first_that_works(setting: Setting, shape: Shape, rows: list[list[int]]) -> tuple[dict[str, float], str]:
    """Train on packed rows with the fastest attention that runs here, and name it."""
    choices = (["flash_attention_2"] if has("flash_attn") else []) + ["flex_attention"] if setting.device == "cuda" else []
    for attention in [*choices, "sdpa"]:
        try:
            model = add_adapter(build_model(shape, setting, torch.bfloat16, attention))
            check_apart(model, next(packed_batches(shape, [max(rows, key=len)], setting.device)))
            return train(model, packed_batches(shape, rows, setting.device), shape.steps, setting), attention
        except Exception as error:
            setting.say(part="8B-skewed", attention=attention, error=f"{type(error).__name__}: {error}"[:500])
            if attention == "sdpa":
                raise
        clear(setting)
    raise AssertionError("sdpa either works or raises")


@torch.no_grad()
def check_apart(model: Any, batch: dict[str, Any]) -> None:
    """Raise where a conversation sees the one before it: another first one must not change the last one's hidden states."""
    ids, positions = batch["input_ids"], batch["position_ids"]
    starts = (positions[0] == 0).nonzero().flatten().tolist()
    if len(starts) == 1:
        raise ValueError("the packed row has a single conversation, which shows nothing")
    other = ids.clone()
    other[:, : starts[-1]] = other[:, : starts[-1]].roll(1)
    core = model.get_base_model().model
    first, second = (core(input_ids=tokens, position_ids=positions).last_hidden_state[:, starts[-1] :] for tokens in (ids, other))
    difference = (first.float() - second.float()).abs().max().item()
    if difference > 1e-3:  # what is masked adds zeros, so the same kernel gives the same bits
        raise ValueError(f"conversations in a packed row see each other: hidden states differ by {difference:.3g}")


def run_peer(setting: Setting, part: str, shape: Shape, lengths: list[int], batch: int, ours: float, **options: Any) -> None:
    """Train the same model on the same lengths with transformers' Trainer: padded batches, and activation
    checkpointing where several sequences would not fit otherwise.
    """
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    if time.monotonic() > setting.deadline:
        setting.say(part=part, skipped="no time left")
        return
    stamps: list[float] = []

    class Watch(TrainerCallback):
        """Stamps the end of each step."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(now(setting.device))

    model = add_adapter(build_model(shape, setting, torch.bfloat16))
    shuffled = random.Random(18).sample(lengths, min(len(lengths), PEER_STEPS * batch))
    rows = [
        {"input_ids": [random.Random(number).randrange(3, shape.vocabulary)] * length} for number, length in enumerate(shuffled)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, use_cpu=setting.device == "cpu", bf16=setting.device == "cuda", max_steps=PEER_STEPS,
            per_device_train_batch_size=batch, gradient_checkpointing=batch > 1, save_strategy="no", report_to="none",
            disable_tqdm=True, logging_steps=100, remove_unused_columns=False, **options,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=pad, callbacks=[Watch()])
        trainer.remove_callback(PrinterCallback)  # standard output is for rows
        model.enable_input_require_grads()
        trainer.train()
    skipped = 2
    # The mean step, since batches are drawn in the trainer's own order.
    tokens = sum(shuffled) / PEER_STEPS * (PEER_STEPS - skipped)
    rate = tokens / (stamps[-1] - stamps[skipped - 1])
    found = {"tokens_per_second": rate, "peak_memory_gib": peak_memory(setting.device)}
    report(setting, part, shape, found, is_frozen=True, ours_over_this=ours / rate)


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad to the longest of the batch, as `DataCollatorForLanguageModeling` does."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}


def has(module: str) -> bool:
    """Whether a library is installed."""
    return importlib.util.find_spec(module) is not None


def clear(setting: Setting) -> None:
    """Give back what the part before held."""
    import gc

    gc.collect()
    torch.compiler.reset()
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


PARTS: dict[str, Callable[[Setting], None]] = {
    "124M": lambda setting: pretrain(setting, "124M"),
    "1B": lambda setting: pretrain(setting, "1B"),
    "8B-dense": tune_dense,
    "8B-skewed": tune_skewed,
}


def describe(setting: Setting) -> dict[str, Any]:
    """Date, hardware and versions."""
    found = {}
    for name in ("torch", "transformers", "peft", "accelerate", "liger-kernel", "flash-attn", "deepspeed", "trl"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    hardware = torch.cuda.get_device_name() if setting.device == "cuda" else "cpu: a test of this script, not a measurement"
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "hardware": hardware, "versions": found}


def main() -> None:
    """Measure what was asked for, until the time is up."""
    setting, names = read_arguments()
    torch.set_float32_matmul_precision("high")
    rate = multiply_rate(setting)
    setting = Setting(**{**vars(setting), "matmul_tflops": rate})
    setting.say(part="matmul", tflops=rate, **describe(setting))
    for name in names:
        if time.monotonic() > setting.deadline:
            setting.say(part=name, skipped="no time left")
            continue
        try:
            PARTS[name](setting)
        except Exception as error:  # the next part may still be measured
            setting.say(part=name, error=f"{type(error).__name__}: {error}"[:500])
        clear(setting)


def read_arguments() -> tuple[Setting, list[str]]:
    """Return the setting and the parts to measure. Leaves where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=9.5, help="no part begins later")
    parser.add_argument("--out", type=Path, help="append the rows to this file too")
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    names = given.parts.split(",")
    if unknown := sorted(set(names) - set(PARTS)):
        parser.error(f"--parts: {', '.join(unknown)} unknown; choose from {', '.join(PARTS)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU was available, so nothing was measured; --size tiny --device cpu tests the script")
    shapes = TINY if given.size == "tiny" else SHAPES
    compiles = given.device == "cuda" and not given.no_compile
    return Setting(given.device, shapes, compiles, time.monotonic() + 60 * given.minutes, given.out), names


if __name__ == "__main__":
    main()
