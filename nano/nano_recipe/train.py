"""Train the base model by phases; can be killed and started again at any moment.

    python -m nano_recipe.train recipes/nano-2m.yaml --build build --out runs/nano-2m

Phases: a copy warm-up whose rows grow as soon as they are learned (without it induction does not appear),
then mixtures of reading, drills and text whose shares move from `start` to `end`. Muon moves the hidden
matrices, AdamW embedding and norms. The learning rate rises over the first steps, stays, and falls in the
phase marked `decay`. Curves go to curves.jsonl, checkpoints to checkpoint.pt (ours alone: never load a foreign one).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import queue
import random
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from .evaluate import build_items, summarise, text_loss
from .model import Nano, Shape, export, load_exported
from .rows import ANSWER, open_maker

_SCORED_MULTIPLE = 512


@dataclass(frozen=True)
class Phase:
    """One part of the training; shares are of rows."""

    name: str
    tokens: float
    step_tokens: int
    lengths: dict[int, float]
    start: dict[str, float]
    end: dict[str, float] = field(default_factory=dict)
    ramp: float = 0.5  # the part of the phase over which the mixture moves
    level: tuple[float, float] = (1.0, 1.0)  # difficulty of the reading rows at the start and at the end
    rate: float = 1.0  # factor on the learning rate
    answers: float = 1.0  # factor on the weight of what the assistant says
    decay: bool = False


@dataclass(frozen=True)
class Plan:
    """A recipe file."""

    name: str
    shape: Shape
    phases: list[Phase]
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warm_up_steps: int = 60
    copy_until: int = 100
    copy_gate: float = 1.5
    copy_step_tokens: int = 2048
    micro_tokens: int = 4096
    preference_beta: float = 0.1
    seed: int = 0


def read_plan(path: Path) -> Plan:
    """Read a recipe; unknown keys stop with their name."""
    raw = yaml.safe_load(path.read_text())
    shape = Shape(**raw.pop("shape"))
    phases = [Phase(**{**p, "tokens": float(p["tokens"])}) for p in raw.pop("phases")]  # YAML reads 6e6 as text
    return Plan(shape=shape, phases=phases, **raw)


# ---------------------------------------------------------------- batches from a process of their own


def _produce(jobs: multiprocessing.Queue, done: multiprocessing.Queue, build: str, forms: str) -> None:
    maker = open_maker(Path(build), Path(forms), "train")
    done.cancel_join_thread()  # rows that a killed parent never fetches must not keep this process
    parent = os.getppid()
    while os.getppid() == parent:  # a killed parent cannot tell its child to stop
        try:
            job = jobs.get(timeout=5)
        except queue.Empty:
            continue
        key, mixture, length, rows, level = job
        seed = int.from_bytes(hashlib.md5(repr(key).encode()).digest()[:8], "big")
        done.put((key, *maker.batch(seed, mixture, length, rows, level)))


class Feed:
    """Asks for batches ahead of time, so that making rows costs the training nothing; a GPU needs several makers."""

    def __init__(self, build: Path, forms: Path, makers: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self.jobs, self.done = context.Queue(), context.Queue()
        told = (self.jobs, self.done, str(build), str(forms))
        self.makers = [context.Process(target=_produce, args=told, daemon=True) for _ in range(makers)]
        for maker in self.makers:
            maker.start()
        self.ahead, self.waiting, self.ready = 4 * makers + 2, [], {}

    def get(self, upcoming: list[tuple]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the first of `upcoming` and order the others."""
        for job in upcoming[: self.ahead]:
            if job[0] not in self.waiting and job[0] not in self.ready:
                self.jobs.put(job)
                self.waiting.append(job[0])
        wanted = upcoming[0][0]
        while wanted not in self.ready:
            try:
                key, ids, weights, kinds = self.done.get(timeout=300)
            except queue.Empty:
                raise SystemExit("the process that makes rows has stopped; see its traceback above") from None
            self.ready[key] = (ids, weights, kinds)
            self.waiting.remove(key)
        return self.ready.pop(wanted)

    def close(self) -> None:
        """End the processes."""
        for maker in self.makers:
            maker.terminate()
            maker.join()


# ---------------------------------------------------------------- one run


def _token_losses(hidden: torch.Tensor, embedding: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every position; compiled, the softmax is fused (3 to 4 times faster on a CPU)."""
    return F.cross_entropy(F.linear(hidden, embedding).float(), targets, reduction="none")


def _filled(chosen: torch.Tensor) -> torch.Tensor:
    """Full multiples of positions: oneDNN keeps a primitive for every shape it has met, gigabytes after a few hours."""
    return torch.cat([chosen, chosen[:1].expand(-len(chosen) % _SCORED_MULTIPLE)])


class Run:
    """Model, optimisers and where the run stands."""

    def __init__(self, plan: Plan, out: Path, device: torch.device, compile_model: bool) -> None:
        self.plan, self.out, self.device = plan, out, device
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(plan.seed)
        self.model = Nano(plan.shape).to(device)
        hidden = [p for n, p in self.model.named_parameters() if p.dim() == 2 and n != "embedding"]
        flat = [p for p in self.model.parameters() if p.dim() == 1]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                hidden, lr=plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(
                [
                    {"params": [self.model.embedding], "weight_decay": plan.weight_decay},
                    {"params": flat, "weight_decay": 0.0},
                ],
                lr=plan.learning_rate,
                betas=(0.9, 0.95),
                fused=True,
            ),
        ]
        self.hidden_states = torch.compile(self.model, dynamic=False) if compile_model else self.model
        self.token_losses = torch.compile(_token_losses, dynamic=True) if compile_model else _token_losses
        self.phase, self.step, self.phase_tokens, self.tokens, self.seconds = -1, 0, 0, 0, 0.0
        self.copy_length, self.copy_loss = 5.0, 9.0
        self.won: list[float] = []
        self._reference: Nano | None = None
        self.restore()

    def go_on_from(self, weights: Path, phase: str) -> None:
        """Begin a new run at a phase of the plan with published weights, whose tokens and minutes are counted on."""
        names = [p.name for p in self.plan.phases]
        if phase not in names:
            raise SystemExit(f"--at {phase}: the recipe has no such phase. It has: {', '.join(names)}")
        self.model.load_state_dict(load_exported(weights).state_dict())
        made = json.loads((weights / "card.json").read_text())["made"]
        self.phase, self.tokens, self.seconds = names.index(phase), made["tokens"], 60 * made["minutes"]
        self.save()

    # -- where we are
    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def restore(self) -> None:
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"], strict=False)
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            for name, value in state["progress"].items():
                setattr(self, name, value)

    def save(self) -> None:
        progress = {
            n: getattr(self, n)
            for n in ("phase", "step", "phase_tokens", "tokens", "seconds", "copy_length", "copy_loss")
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimisers": [o.state_dict() for o in self.optimisers],
                "progress": progress,
            },
            temporary,
        )
        temporary.replace(self.checkpoint)

    def log(self, **row: object) -> None:
        row = {
            "phase": self.phase,
            "step": self.step,
            "tokens": self.tokens,
            "minutes": round(self.seconds / 60, 2),
            **row,
        }
        with (self.out / "curves.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(" ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)

    # -- one step
    def backward(self, ids: np.ndarray, weights: np.ndarray, share: float, *, plain: bool = False) -> torch.Tensor:
        """Add the gradient of one micro-batch; returns the losses of the weighted positions."""
        x, w = torch.from_numpy(ids).to(self.device), torch.from_numpy(weights[:, 1:]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = (self.model if plain else self.hidden_states)(x)[:, :-1].reshape(-1, self.plan.shape.hidden)
            chosen = torch.nonzero(w.reshape(-1) > 0).squeeze(1)
            scored = _filled(chosen)
            losses = self.token_losses(hidden[scored], self.model.embedding, x[:, 1:].reshape(-1)[scored])
            losses = losses[: len(chosen)]
        kept = w.reshape(-1)[chosen]
        ((losses * kept).sum() / kept.sum() * share).backward()
        return losses.detach()

    def backward_pairs(self, ids: np.ndarray, weights: np.ndarray, share: float) -> torch.Tensor:
        """Add the gradient of a micro-batch of pairs, right answers at even rows; returns the losses of the right ones.

        DPO (Rafailov et al. 2023) against the weights the phase began with, plus the likelihood of the right answer,
        without which both may fall (Pang et al. 2024).
        """
        x, said = torch.from_numpy(ids).to(self.device), torch.from_numpy(weights[:, 1:] > 0).to(self.device)
        with torch.no_grad():
            before = self._answer_logprobs(self.reference(), x, said).sum(1)
        each = self._answer_logprobs(self.model, x, said)
        gain = each.sum(1) - before
        margin = gain[0::2] - gain[1::2]
        right = -(each[0::2].sum(1) / said[0::2].sum(1))
        ((-F.logsigmoid(self.plan.preference_beta * margin) + right).mean() * share).backward()
        self.won.append((margin.detach() > 0).float().mean().item())
        return right.detach()

    def _answer_logprobs(self, model: Nano, x: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Log-probability of each token that the assistant says, 0 elsewhere; one row each."""
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = model(x)[:, :-1].reshape(-1, self.plan.shape.hidden)
            chosen = torch.nonzero(said.reshape(-1)).squeeze(1)
            scored = _filled(chosen)
            losses = _token_losses(hidden[scored], model.embedding, x[:, 1:].reshape(-1)[scored])[: len(chosen)]
        flat = torch.zeros(said.numel(), device=self.device).index_put((chosen,), -losses.float())
        return flat.view(said.shape)

    def reference(self) -> Nano:
        """The weights the preference phase began with: the export of the phase before it."""
        if self._reference is None:
            previous = self.plan.phases[self.phase - 1].name
            self._reference = load_exported(self.out / f"after-{previous}").to(self.device)
        return self._reference

    def update(self, factor: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.plan.learning_rate * factor * min(1.0, (self.step + 1) / self.plan.warm_up_steps)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1

    # -- phase minus one: growing copy
    def warm_up(self, vocabulary: int, start: int, end: int, save_every: float) -> None:
        """Rows of random tokens repeated; rows grow whenever the running loss falls below the gate.

        A model that only knows which tokens occur cannot go below ln(length), so the gate forces real
        copying beyond about nine tokens.
        """
        rng = np.random.default_rng(self.plan.seed + self.step)
        began = saved = time.monotonic()
        while self.copy_length < self.plan.copy_until:
            longest = int(self.copy_length)
            length, rows = 2 * longest + 3, max(1, self.plan.copy_step_tokens // (2 * longest + 3))
            ids, weights = np.zeros((rows, length), np.int64), np.zeros((rows, length), np.float32)
            for row in range(rows):
                n = int(rng.integers(max(2, int(longest * 0.4)), longest + 1))
                piece = rng.integers(32, vocabulary, n)
                ids[row, : 2 * n + 3] = np.concatenate([[start], piece, [end], piece, [end]])
                weights[row, n + 2 : 2 * n + 3] = 1
            losses = self.backward(ids, weights, 1.0, plain=True)
            self.update(1.0)
            self.tokens += ids.size
            self.copy_loss = 0.9 * self.copy_loss + 0.1 * losses.mean().item()
            if self.copy_loss < self.plan.copy_gate:
                self.copy_length = 1.2 * self.copy_length + 1
                self.copy_loss = self.plan.copy_gate + 0.3
            now = time.monotonic()
            self.seconds, began = self.seconds + now - began, now
            if self.step % 50 == 0:
                self.log(copy_length=longest, copy_loss=self.copy_loss)
            if now - saved > save_every:
                self.save()
                saved = time.monotonic()
                began = saved


def _mixture(phase: Phase, done: float) -> dict[str, float]:
    moved = min(1.0, done / phase.ramp)
    end = phase.end or phase.start
    return {
        k: round(phase.start.get(k, 0.0) * (1 - moved) + end.get(k, 0.0) * moved, 3)
        for k in sorted({*phase.start, *end})
    }


def _jobs(plan: Plan, index: int, tokens: int, step: int, count: int) -> list[tuple]:
    """The next micro-batches from here on: a function of the position alone, so that a resumed run sees the same rows."""
    phase = plan.phases[index]
    jobs = []
    while len(jobs) < count and tokens < phase.tokens:
        chooser = random.Random(f"{plan.seed}/{index}/{step}")
        length = chooser.choices(list(phase.lengths), list(phase.lengths.values()))[0]
        micro = max(1, phase.step_tokens // plan.micro_tokens)
        done = tokens / phase.tokens
        level = round(phase.level[0] + (phase.level[1] - phase.level[0]) * done, 3)
        jobs += [
            ((plan.seed, index, step, m), _mixture(phase, done), length, plan.micro_tokens // length, level)
            for m in range(micro)
        ]
        tokens += micro * (plan.micro_tokens // length) * length
        step += 1
    return jobs


def _step(run: Run, phase: Phase, feed: Feed, losses_by_kind: dict[str, list[float]]) -> None:
    """Learn from the next rows of a phase, note their losses, and count their tokens."""

    def note(kind: str, value: float) -> None:
        losses_by_kind.setdefault(kind, []).append(value)

    micro = max(1, phase.step_tokens // run.plan.micro_tokens)
    upcoming = _jobs(run.plan, run.phase, run.phase_tokens, run.step, feed.ahead + micro)
    for position in range(micro):
        ids, weights, _ = feed.get(upcoming[position:])
        said = weights[:, 1:] == ANSWER
        marked = torch.from_numpy(said[weights[:, 1:] > 0])
        weights[:, 1:][said] *= phase.answers
        if "preference" in phase.start:
            note("right answers", run.backward_pairs(ids, weights, 1 / micro).mean().item())
            continue
        losses = run.backward(ids, weights, 1 / micro)
        note("loss", losses.mean().item())
        if marked.any():
            note("answers", losses.cpu()[marked].mean().item())
    run.update(phase.rate * (1 - 0.95 * run.phase_tokens / phase.tokens if phase.decay else 1.0))
    if run.won:
        note("won", sum(run.won) / len(run.won))
        run.won.clear()
    used = micro * (run.plan.micro_tokens // ids.shape[1]) * ids.shape[1]
    run.tokens, run.phase_tokens = run.tokens + used, run.phase_tokens + used


def train(
    run: Run,
    build: Path,
    forms: Path,
    *,
    evaluate_every: float,
    save_every: float,
    each: int,
    stop_after: float | None,
    makers: int = 1,
) -> bool:
    """Run every phase that is not done; returns True when all are done."""
    maker = open_maker(build, forms, "test")
    items = build_items(build, forms, each, run.plan.shape.context)
    held = torch.from_numpy(maker.text[:32768].astype("int64"))
    if run.phase < 0:
        run.warm_up(run.plan.shape.vocabulary, maker.special.start, maker.special.end, save_every)
        run.phase = 0
        run.save()
        run.log(event="copy warm-up done")
    with closing(Feed(build, forms, makers)) as feed:
        session = began = time.monotonic()
        evaluated = saved = began
        losses_by_kind: dict[str, list[float]] = {}
        while run.phase < len(run.plan.phases):
            phase = run.plan.phases[run.phase]
            while run.phase_tokens < phase.tokens:
                _step(run, phase, feed, losses_by_kind)
                now = time.monotonic()
                run.seconds, began = run.seconds + now - began, now
                if run.step % 50 == 0:
                    run.log(
                        name=phase.name,
                        **{k: sum(v) / len(v) for k, v in losses_by_kind.items()},
                        rate=run.optimisers[0].param_groups[0]["lr"],
                    )
                    losses_by_kind.clear()
                if now - evaluated > evaluate_every:
                    report(run, items, maker, held)
                    evaluated = began = time.monotonic()
                if now - saved > save_every:
                    run.save()
                    saved = began = time.monotonic()
                if stop_after is not None and now - session > stop_after:
                    run.save()
                    return False
            run.phase, run.phase_tokens = run.phase + 1, 0
            run.save()
            export(run.model, run.out / f"after-{phase.name}", maker.special.pad, maker.special.end)
            report(run, items, maker, held)
            began = time.monotonic()
        return True


def report(run: Run, items: list, maker: object, held: torch.Tensor) -> None:
    """Measure on the held-out items and log the rates in percent."""
    rates = summarise(run.model, items, maker)  # type: ignore[arg-type]
    run.log(event="eval", text=text_loss(run.model, held), **{k: round(100 * r.value) for k, r in rates.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--forms", type=Path, default=Path("forms"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--evaluate-every", type=float, default=600, help="seconds")
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    parser.add_argument("--each", type=int, default=60, help="test items of each kind during training")
    parser.add_argument("--makers", type=int, default=1, help="processes that make rows; a GPU wants about ten")
    parser.add_argument("--go-on-from", type=Path, metavar="WEIGHTS", help="published weights to begin with, at --at")
    parser.add_argument("--at", metavar="PHASE", help="the phase that --go-on-from begins with")
    parser.add_argument("--stop-after", type=float, help="seconds after which to save and stop, for borrowed machines")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plan = read_plan(options.recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(plan, options.out, device, options.compile)
    if options.go_on_from and not run.checkpoint.exists():
        run.go_on_from(options.go_on_from, options.at)
    (options.out / "plan.json").write_text(json.dumps(asdict(plan), indent=1))
    run.log(event="start", parameters=sum(p.numel() for p in run.model.parameters()), device=str(device))
    finished = train(
        run,
        options.build,
        options.forms,
        evaluate_every=options.evaluate_every,
        save_every=options.save_every,
        each=options.each,
        stop_after=options.stop_after,
        makers=options.makers,
    )
    run.log(event="finished" if finished else "stopped; start again to go on")


if __name__ == "__main__":
    main()
