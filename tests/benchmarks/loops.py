"""The other ways to train one recipe: what a user would pick instead.

All train the network of the spec on its data with its batch size, number of steps, optimiser,
schedule and evaluations, and end with per-class figures on test. None of them logs anything or
writes a file. Each is named for what it is:

``tutorial`` is `tests.benchmarks.tutorial`, the snippets as written. ``tuned`` is that loop as a
careful user would tune it: batches gathered at once, channels last, nothing read back per step, and
on a GPU persistent workers, pinned memory, bf16 and ``torch.compile`` with CUDA graphs. ``timm`` is
timm's loader and `Mixup`, ``lightning`` Lightning's Trainer on the tutorial's loader.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.metrics import classification_report
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler

from harness.experiment.spec import RunSpec
from harness.training import models
from tests.benchmarks import tutorial

MIXES = ("mixup", "cutmix")


class Task:
    """A spec as the loops need it.

    Attributes:
        names: Strategies of the recipe.
        images: ``uint8[N, H, W, C]``, resampled where the recipe says so.
        labels: ``int64[N]``.
        steps: Length of the budget.
        every: Steps between evaluations.
    """

    def __init__(self, spec: RunSpec, device: str) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.names = {strategy.name for strategy in spec.strategies}
        self.data = spec.dataset.load(spec.seed)
        self.images, self.labels = tutorial.resampled(self.names, self.data)
        self.steps = spec.training.steps(len(self.data.rows.train))
        self.every = max(1, round(self.steps * spec.training.eval_every))

    def model(self) -> nn.Module:
        built = models.build(
            self.spec.model,
            self.data.shape,
            len(self.data.class_names),
            "linear",
            self.spec.seed,
        )
        return built.to(self.device)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        training = self.spec.training
        return torch.optim.SGD(
            model.parameters(), training.lr, training.momentum, weight_decay=training.weight_decay
        )

    def sampler(self) -> Any:
        if "weighted_sampler" not in self.names:
            return RandomSampler(range(len(self.labels)))
        weights = 1.0 / np.bincount(self.labels)
        return WeightedRandomSampler(weights[self.labels].tolist(), len(self.labels))

    def report(self, predict: Callable[[np.ndarray], np.ndarray]) -> None:
        test = self.data.rows.test
        classification_report(self.data.labels[test], predict(test), zero_division=0)


class Batched(Dataset[Any]):
    """Gathers a whole batch at once, as ``__getitems__`` allows; images stay uint8."""

    def __init__(self, task: Task) -> None:
        self._images, self._labels = task.images, task.labels
        self._transform = tutorial.transform_of(task.names, task.data)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        images = self._images[rows]
        if self._transform is not None:
            images = np.stack([self._transform(image=image)["image"] for image in images])
        return torch.from_numpy(images), torch.from_numpy(self._labels[rows])


def tuned(task: Task) -> None:
    """Train as a careful user would."""
    cuda = task.device.type == "cuda"
    workers: dict[str, Any] = {"num_workers": 4, "persistent_workers": True} if cuda else {}
    loader = DataLoader(
        Batched(task),
        batch_size=task.spec.training.batch_size,
        sampler=task.sampler(),
        drop_last=True,
        pin_memory=cuda,
        collate_fn=lambda batch: batch,
        **workers,
    )
    model = task.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward: Any = torch.compile(model, mode="reduce-overhead") if cuda else model
    optimizer = task.optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)
    mean = torch.tensor(task.data.mean, device=task.device)
    std = torch.tensor(task.data.std, device=task.device)

    def inputs(images: Tensor) -> Tensor:
        images = images.to(task.device, non_blocking=True).float()
        return ((images / 255.0 - mean) / std).permute(0, 3, 1, 2)

    def predict(rows: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.inference_mode(), _autocast(task.device):
            parts = torch.from_numpy(task.data.features[rows]).split(1024)
            found = torch.cat([model(inputs(part)).argmax(1) for part in parts])
        model.train()
        return found.cpu().numpy()

    model.train()
    for done, (images, labels) in enumerate(_endless(loader, task.steps), start=1):
        x, y = inputs(images), labels.to(task.device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with _autocast(task.device):
            loss = _mixed_loss(forward, x, y, task.names)
        loss.backward()
        optimizer.step()
        schedule.step()
        if done % task.every == 0:
            predict(task.data.rows.val)
    task.report(predict)


def _autocast(device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _endless(loader: Any, steps: int) -> Iterator[Any]:
    done = 0
    while True:
        for batch in loader:
            yield batch
            done += 1
            if done == steps:
                return


def _mixed_loss(forward: Any, x: Tensor, y: Tensor, names: set[str]) -> Tensor:
    mixes = [name for name in MIXES if name in names]
    if not mixes:
        return functional.cross_entropy(forward(x), y)
    mix = tutorial.mixup if mixes[np.random.randint(len(mixes))] == "mixup" else tutorial.cutmix
    x, a, b, lam = mix(x, y)
    outputs = forward(x)
    one, other = functional.cross_entropy(outputs, a), functional.cross_entropy(outputs, b)
    return lam * one + (1 - lam) * other


class Pictures(Dataset[Any]):
    """PIL images, as timm's loader wants them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images, self._labels = images, labels
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        image = Image.fromarray(self._images[i].squeeze())
        return self.transform(image), int(self._labels[i])


def timm(task: Task) -> None:
    """Train with timm's loader and `Mixup`."""
    from timm.data import Mixup, create_loader
    from timm.loss import SoftTargetCrossEntropy

    height, width, channels = task.data.shape
    options: dict[str, Any] = {
        "input_size": (channels, height, width),
        "mean": tuple(task.data.mean.tolist()),
        "std": tuple(task.data.std.tolist()),
        "use_prefetcher": task.device.type == "cuda",
        "device": task.device,
        "num_workers": 4 if task.device.type == "cuda" else 0,
        "persistent_workers": task.device.type == "cuda",
        "interpolation": "bilinear",
    }
    size = task.spec.training.batch_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = create_loader(
            Pictures(task.images, task.labels), batch_size=size, is_training=True,
            no_aug="augment" not in task.names, **options,
        )  # fmt: skip
    tests = {
        name: create_loader(
            Pictures(task.data.features[rows], task.data.labels[rows]), batch_size=256, **options
        )
        for name, rows in (("val", task.data.rows.val), ("test", task.data.rows.test))
        if len(rows)
    }
    alphas = [1.0 if name in task.names else 0.0 for name in MIXES]
    mixer = Mixup(*alphas, num_classes=len(task.data.class_names)) if any(alphas) else None
    model = task.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    soft = SoftTargetCrossEntropy()
    optimizer = task.optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)

    def predict(name: str) -> np.ndarray:
        model.eval()
        with torch.inference_mode(), _autocast(task.device):
            found = [model(x.to(task.device)).argmax(1) for x, _ in tests[name]]
        model.train()
        return torch.cat(found).cpu().numpy()

    model.train()
    for done, (x, y) in enumerate(_endless(loader, task.steps), start=1):
        x, y = x.to(task.device), y.to(task.device)
        if mixer is not None:
            x, y = mixer(x, y)
        with _autocast(task.device):
            outputs = model(x)
            loss = soft(outputs, y) if mixer is not None else functional.cross_entropy(outputs, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss.item()  # as its train.py does
        if done % task.every == 0 and "val" in tests:
            predict("val")
    task.report(lambda rows: predict("test"))


def lightning(task: Task) -> None:
    """Train with Lightning's Trainer on the tutorial's loader."""
    import logging

    import lightning as L
    from torchmetrics.classification import MulticlassRecall

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Module(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model()
            self.recall = MulticlassRecall(len(task.data.class_names), average="macro")

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = _mixed_loss(self.model, *batch, task.names)
            self.log("train/loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.recall.update(self.model(batch[0]), batch[1])

        def on_validation_epoch_end(self) -> None:
            self.log("val/recall", self.recall.compute())
            self.recall.reset()

        def predict_step(self, batch: Any, index: int) -> Tensor:
            return self.model(batch[0]).argmax(1)  # type: ignore[no-any-return]

        def configure_optimizers(self) -> Any:
            optimizer = task.optimizer(self.model)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def loader(rows: np.ndarray) -> Any:
        return DataLoader(tutorial.stored(task.data, rows), batch_size=256)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_steps=task.steps,
            val_check_interval=task.every,
            check_val_every_n_epoch=None,
            accelerator="gpu" if task.device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if task.device.type == "cuda" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        module = Module()
        trainer.fit(module, tutorial.loader_of(task), loader(task.data.rows.val))
        predicted = trainer.predict(module, loader(task.data.rows.test))
    task.report(lambda rows: torch.cat(predicted).cpu().numpy())


LOOPS: dict[str, Callable[[Task], None]] = {
    "tutorial": tutorial.train,
    "tuned": tuned,
    "timm": timm,
    "lightning": lightning,
}
