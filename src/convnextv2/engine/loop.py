"""The training loop: what all tasks share, implemented once.

Exact resume, kill safety, clean stops, accumulation, several processes, bf16, progress, metrics, report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from convnextv2.atomic import write_atomically
from convnextv2.engine import machine, runfolder, state
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.ema import average_of
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.meters import Meter, Plan
from convnextv2.engine.metrics_file import rewind
from convnextv2.engine.optim import adamw
from convnextv2.engine.precision import autocast
from convnextv2.engine.runlog import RunLog, duration
from convnextv2.engine.schedule import Schedule
from convnextv2.engine.signals import Interrupted, StopRequest, stoppable
from convnextv2.engine.task import Task
from convnextv2.errors import ConvNeXtV2Error, RunFailedError, StoppedError
from convnextv2.records import TaskBatch
from convnextv2.text import one_line
from convnextv2.weights.files import checkpoint_of


def fit(task: Task, settings: LoopSettings, log: RunLog, context: DistributedContext, *, resume: bool = False) -> Path:
    """Train until `total_steps` in the folder of `log`, and return the folder of the last checkpoint.

    Raises StoppedError after a signal (`signals.STOPPING`), when everything is saved, and RunFailedError on a loss or a
    gradient that is not finite. If anything else fails, as reading does when its worker dies, the last whole step is
    saved first. With `resume` the run continues bit for bit from its newest checkpoint, if it has one.
    """
    if context.device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # or a resumed run would not be bit for bit
    with stoppable(at_once=False) as request:
        loop = _Loop(task, settings, log, context)
        if resume:
            loop.go_back_to_checkpoint()
        return loop.train(request)


class _Loop:
    def __init__(self, task: Task, settings: LoopSettings, log: RunLog, context: DistributedContext) -> None:
        self.task, self.settings, self.context, self.log, self.run = task, settings, context, log, log.run
        task.model.to(context.device)
        self.optimizer = adamw(
            task.model,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            betas=settings.betas,
            lr_scales=settings.lr_scales,
        )
        self.schedule = Schedule(
            settings.lr, settings.min_lr, settings.warmup_steps, settings.total_steps, settings.decay
        )
        self.average = None
        if settings.ema_decay is not None:
            self.average = average_of(task.model, settings.ema_decay, warmup=settings.ema_warmup)
        self.model = self._wrap(task.model)
        self.step = 0
        self.looked = True  # whether what is due after this step is done: evaluation and sample images
        self.whole = True  # whether weights, optimiser and average are those after this step
        self.saved_step: int | None = None
        self.buffers: list[Tensor] = []  # as they were before the step that is running; empty between steps
        self.batch: TaskBatch | None = None
        self.unread: ConvNeXtV2Error | None = None  # why this process has no batch for the step that is running
        self.seconds = 0.0
        self.best, self.best_step, self.stale = None, 0, 0
        self.meter = Meter()
        self.plan = Plan(settings.planned_seconds)
        self.last_saved = time.monotonic()
        self.checkpoints = log.run / "checkpoints"
        path = log.run / "config.json"
        self.config = runfolder.read_config(path) if path.is_file() else None

    def _wrap(self, model: nn.Module) -> nn.Module:
        if self.settings.compile:
            model.compile()
        if self.context.world_size == 1:
            return model
        device = [self.context.device] if self.context.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device)

    def go_back_to_checkpoint(self) -> None:
        if self.context.is_main:
            state.repair(self.checkpoints)
        self.context.barrier()
        found, mark = checkpoint_of(self.run), None
        if found is None:
            self.log.say("nothing was saved yet: starting from the first step")
        else:
            average = None if self.average is None else self.average.module
            run = None if self.config is None else self.config.get("run")
            where = state.load(found, self.task.model, self.optimizer, average, run=run)
            self.step, self.seconds, self.looked = where.step, where.seconds, where.looked
            self.saved_step = self.step
            self.best, self.best_step, self.stale = where.best, where.best_step, where.stale
            self.meter, mark = Meter(**where.meter), where.logged
            if self.average is not None:
                self.average.n_averaged.fill_(where.averaged)
            if self.context.is_main:
                state.point_to_best(self.checkpoints, where)
            self.log.say(f"resuming from {found} (step {self.step} of {self.settings.total_steps})")
        if said := self.context.broadcast(lambda: rewind(self.run, self.step, mark)):
            self.log.say(said)

    def train(self, request: StopRequest) -> Path:
        s = self.settings
        with closing(self.task.batches(self.step, s.total_steps, s.accumulate, self.context)) as batches:
            try:
                self._train(batches, request)
            except Interrupted as stop:
                raise self._stopped(stop.signal, request) from None
            except (StoppedError, _NotFiniteError):
                raise
            except Exception as error:
                if (saved := self._rescue()) is None:
                    raise
                if isinstance(error, RunFailedError):
                    failed = RunFailedError(f"{error}; saved {saved}; continue with --resume")
                    failed.everywhere = error.everywhere
                    raise failed from error
                self.log.say(f"saved {saved}; continue with --resume")
                raise
        return self._finish()

    def _train(self, batches: Iterator[TaskBatch], request: StopRequest) -> None:
        s = self.settings
        self.model.train()
        # A run that was stopped in an evaluation begins with it; the step itself is saved.
        if not self.looked and self._look() and self.context.is_main:
            state.point_to_best(self.checkpoints, self._where())
        while self.step < s.total_steps and not self._patience_is_out():
            started = time.perf_counter()
            losses, norm, stop = self._step(batches, request)
            self.step, self.looked, self.whole, self.buffers = self.step + 1, False, True, []
            seconds = time.perf_counter() - started
            self.meter.add(losses, norm, seconds)
            self.seconds += seconds
            if late := self.plan.late(seconds, s.total_steps - self.step, self.seconds):
                self.log.say(late)

            if self.step % s.log_every == 0 or self.step == s.total_steps:
                self._log_training()
            improved = self._look()
            if stop:
                raise self._stopped(stop, request)
            if improved or self._due():
                self._save()

    def _look(self) -> bool:
        """Evaluate and draw if it is time; return whether there is a new best."""
        improved = self._is_time(self.settings.eval_every) and self._evaluate()
        self.looked = True
        if self.step < self.settings.total_steps and self._is_time(self.settings.samples_every):
            self._draw()
        return improved

    def _stopped(self, signal: int, request: StopRequest) -> StoppedError:
        """Save, unless nothing was trained, and return what to raise."""
        request.ending = True
        saved = self._rescue()
        then = "continue with --resume" + ("" if saved else ", which begins there")
        return StoppedError(signal, saved, then)

    def _rescue(self) -> Path | None:
        """Save the last whole step, if it is not yet; return its checkpoint, None if there is none."""
        if self.step == self.saved_step:
            return self.checkpoints / state.name_of(self.step)
        if self.step == 0 or not self.whole:
            return None
        if self.buffers:
            for buffer, before in zip(self.task.model.buffers(), self.buffers, strict=True):
                buffer.copy_(before)
        return self._save()

    def _is_time(self, every: int) -> bool:
        return self.step == self.settings.total_steps or (every > 0 and self.step % every == 0)

    def _patience_is_out(self) -> bool:
        return 0 < self.settings.patience <= self.stale

    def _step(self, batches: Iterator[TaskBatch], request: StopRequest) -> tuple[dict[str, float], float, int]:
        """Run one step; return the loss and its parts, averaged over everything, the gradient's norm, a signal to stop.

        All processes learn of a stop, and of a process that has no batch, in the same step, with the same sum that
        gives them the loss.
        """
        s, lr = self.settings, self.schedule.at(self.step)
        # The model's own randomness (drop path) follows from the step, so resuming needs no state.
        torch.manual_seed(hash((s.seed, self.step, self.context.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        self.buffers = [buffer.clone() for buffer in self.task.model.buffers()]
        sums: dict[str, Tensor] = {}
        names: list[str] = []
        for micro in range(s.accumulate):
            batch = self._next(batches)
            names += batch.names
            last = micro == s.accumulate - 1
            with nullcontext() if last or self.context.world_size == 1 else self.model.no_sync():  # pyright: ignore
                with self._computing(), autocast(s.precision, self.context.device):
                    output = self.task.step(self.model, batch)
                with self._computing():
                    (output.loss / s.accumulate).backward()
            for name, value in {"loss": output.loss, **output.parts}.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / s.accumulate
        norm = nn.utils.get_total_norm([p.grad for p in self.task.model.parameters() if p.grad is not None])
        local = torch.stack([*sums.values(), norm]).tolist()
        flags = [float(request.signal or 0), float(self.unread is not None)]
        *values, norm_value, stop, unread = self.context.mean([*local, *flags])
        if unread:
            self._raise_unread()
        if not math.isfinite(values[0]) or not math.isfinite(norm_value):
            self._fail(lr, values[0], norm_value, names if not all(map(math.isfinite, local)) else [])
        if s.clip_grad is not None:
            nn.utils.clip_grads_with_norm_(self.task.model.parameters(), s.clip_grad, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.whole = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.task.model)
        if stop:
            stop = max(self.context.gather(request.signal or 0))
        return dict(zip(sums, values, strict=True)), norm_value, int(stop)

    def _raise_unread(self) -> None:
        error = next(error for error in self.context.gather(self.unread) if error is not None)
        error.everywhere = True
        raise error

    def _next(self, batches: Iterator[TaskBatch]) -> TaskBatch:
        """Return the next micro-batch on the device. A stop while it is awaited acts at once: the step is done anew.

        A process among others that gets none works on its last one again and keeps the reason in `unread`: it leaves
        together with the others, none of which waits for it, and nothing of the step is used.
        """
        alone = self.context.world_size == 1
        try:
            if self.unread is None:
                with stoppable(at_once=alone):
                    self.batch = next(batches).to(self.context.device)
        except Exception as error:
            if alone or self.batch is None:
                raise
            known = isinstance(error, ConvNeXtV2Error)
            self.unread = error if known else RunFailedError(f"{type(error).__name__}: {one_line(error)}")
        assert self.batch is not None
        return self.batch

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with self.context.awaiting("the gradients of all"), machine.memory_advice():
            yield

    def _fail(self, lr: float, loss: float, norm: float, names: list[str]) -> None:
        everyone = [name for part in self.context.gather(names) for name in part]
        found = checkpoint_of(self.run) if self.context.is_main else None
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise _NotFiniteError(
            f"the {what} is not finite at step {self.step + 1}"
            f" (loss {loss}, gradient norm {norm}, learning rate {lr:.3g})."
            f" Files of that batch: {', '.join(everyone)}."
            f" {f'The last good weights are in {found}.' if found else 'Nothing was saved before.'}"
            " Try a lower --lr, a longer --warmup-epochs, or --precision fp32"
        )

    def _log_training(self) -> None:
        s, meter = self.settings, self.meter
        self.meter = Meter()
        rate = s.batch_size * meter.steps / meter.seconds
        values = meter.means() | {"lr": self.schedule.at(self.step - 1), "images_per_second": float(f"{rate:.4g}")}
        if self.context.device.type == "cuda":
            values["memory_mib"] = round(torch.cuda.max_memory_allocated(self.context.device) / 2**20)
        epoch = self.step / s.steps_per_epoch
        self.log.metrics(self.step, epoch, "train", self.seconds, values)
        self.log.progress(self.step, s.total_steps, epoch, values["loss"], rate)

    def _evaluate(self) -> bool:
        """Evaluate and log the weights and their average; return whether there is a new best."""
        values = self._values(self.task.model)
        scored = values
        if self.average is not None:
            scored = self._values(self.average.module)
            values |= {f"ema_{name}": value for name, value in scored.items()}
        if values:
            self.log.metrics(self.step, self.step / self.settings.steps_per_epoch, "eval", self.seconds, values)
        if self.settings.best is None:
            return False
        value = self.context.broadcast(lambda: scored.get(self.settings.best or ""))
        improved = value is not None and (self.best is None or value > self.best)
        if improved:
            self.best, self.best_step, self.stale = value, self.step, 0
        else:
            self.stale += 1
        self._tell(value, improved)
        return improved

    def _values(self, model: nn.Module) -> dict[str, float]:
        """Evaluate, without an effect on the next step."""
        model.eval()
        self.context.share_buffers(model)
        with (
            stoppable(at_once=self.context.world_size == 1),  # several stop together: `DistributedContext.gather_each`
            torch.no_grad(),
            self._computing(),
            autocast(self.settings.precision, self.context.device),
        ):
            values = dict(self.task.evaluate(model, self.context))
        self.task.model.train()
        return values

    def _tell(self, value: float | None, improved: bool) -> None:
        epoch = self.step / self.settings.steps_per_epoch
        if value is not None:
            against = "the best so far" if improved else f"best {self.best:.4f} at step {self.best_step}"
            self.log.say(f"epoch {epoch:.1f}  {self.settings.best} {value:.4f}, {against}")
        if self._patience_is_out() and self.step < self.settings.total_steps:
            self.log.say(f"no better for {self.stale} evaluations: the run ends here (--patience)")

    def _draw(self) -> None:
        if not self.context.is_main:
            return
        model = self.task.model if self.average is None else self.average.module
        model.eval()
        with torch.no_grad(), autocast(self.settings.precision, self.context.device):
            folder = self.run / "pictures"
            folder.mkdir(exist_ok=True)
            for name, image in self.task.samples(model):
                target = folder / f"{state.name_of(self.step)}-{name}.png"
                write_atomically(target, lambda partial, image=image: image.save(partial, format="PNG"))
        self.task.model.train()

    def _due(self) -> bool:
        s = self.settings
        by_steps = s.checkpoint_every and self.step % s.checkpoint_every == 0
        by_clock = time.monotonic() - self.last_saved > 60 * s.checkpoint_minutes
        last = self.step == s.total_steps or self._patience_is_out()
        return last or bool(by_steps) or (self.context.is_main and by_clock)

    def _save(self) -> Path:
        folder = self.checkpoints / state.name_of(self.step)
        self.whole = False  # what could not be saved is not tried again
        if self.context.is_main:
            average = None if self.average is None else self.average.module
            folder = state.save(
                self.checkpoints, self.task.model, self.optimizer, self._where(), self.task.metadata, average,
                config=self.config, tell=self.log.warn,
            )  # fmt: skip
            self.last_saved = time.monotonic()
        self.whole, self.saved_step = True, self.step
        return folder

    def _where(self) -> state.LoopState:
        averaged = 0 if self.average is None else int(self.average.n_averaged)
        return state.LoopState(
            step=self.step,
            seconds=self.seconds,
            best=self.best,
            best_step=self.best_step,
            stale=self.stale,
            averaged=averaged,
            meter=vars(self.meter),
            logged=self.log.mark(),
            looked=self.looked,
        )

    def _finish(self) -> Path:
        if self.meter.steps:  # patience ended the run between two lines
            self._log_training()
        self._draw()
        s, folder = self.settings, self.checkpoints / state.name_of(self.step)
        rate = s.batch_size * self.step / max(self.seconds, 1e-9)
        end = {"hours": self.seconds / 3600, "images_per_second": float(f"{rate:.4g}")}
        if self.best is not None:
            end |= {f"best_{s.best}": self.best, "best_step": self.best_step}
        self.log.metrics(self.step, self.step / s.steps_per_epoch, "end", self.seconds, end)
        self.log.say(f"finished {self.step} steps in {duration(self.seconds)}; weights in {folder}/model.safetensors")
        return folder


class _NotFiniteError(RunFailedError):
    """A loss or a gradient: the weights that gave it are not worth saving."""
