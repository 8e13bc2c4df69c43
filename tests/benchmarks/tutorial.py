"""The loop a user would write: the tutorial's five techniques, a DataLoader and one thread.

Same model, data, batch size, number of steps, schedule and evaluations as ours; the tutorial's
snippets as written but for what would keep them from running at all (`np.int`, `.cuda()`).
"""

from typing import Any

import albumentations
import numpy as np
import torch
from imblearn.over_sampling import SMOTE
from sklearn.metrics import balanced_accuracy_score, classification_report
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from harness.experiment.spec import RunSpec
from harness.training import models


class CustomDataset(Dataset[Any]):
    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any, mean: Any, std: Any):
        self.images, self.labels, self.transform = images, labels, transform
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image = self.images[i]
        if self.transform:
            image = self.transform(image=image)["image"]
        tensor = torch.from_numpy((image / 255.0 - self.mean) / self.std).float().permute(2, 0, 1)
        return tensor, int(self.labels[i])


def mixup(x: torch.Tensor, y: torch.Tensor, alpha: float = 1.0) -> Any:
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[index], y, y[index], lam


def cutmix(x: torch.Tensor, y: torch.Tensor, alpha: float = 1.0) -> Any:
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    _, _, height, width = x.size()
    cut = np.sqrt(1.0 - lam)
    cut_w, cut_h = int(width * cut), int(height * cut)
    cx, cy = np.random.randint(width), np.random.randint(height)
    x1, x2 = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, width)
    y1, y2 = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, height)
    x[:, :, y1:y2, x1:x2] = x[index, :, y1:y2, x1:x2]
    return x, y, y[index], lam


def train(spec: RunSpec) -> float:
    """Train one recipe as the tutorial would; return balanced accuracy on test."""
    torch.manual_seed(spec.seed)
    np.random.seed(spec.seed)
    names = {strategy.name for strategy in spec.strategies}
    data = spec.dataset.load(spec.seed)
    images, labels = data.features[data.rows.train], data.labels[data.rows.train]
    steps = spec.training.steps(len(labels))
    if "smote" in names:
        fewest = int(np.bincount(labels).min())
        flat, labels = SMOTE(k_neighbors=min(5, fewest - 1)).fit_resample(
            images.reshape(len(images), -1).astype(np.float32), labels
        )
        images = flat.reshape(-1, *images.shape[1:]).round().astype(np.uint8)
    loader = _loader(spec, names, data, images, labels)
    model = models.build(spec.model, data.shape, len(data.class_names), "linear", spec.seed)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=spec.training.lr,
        momentum=0.9,
        weight_decay=spec.training.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    every = max(1, round(steps * spec.training.eval_every))
    done = 0
    while done < steps:
        model.train()
        for x, y in loader:
            if done == steps:
                break
            _step(model, optimizer, names, x, y)
            schedule.step()
            done += 1
            if done % every == 0:
                evaluate(model, data, data.rows.val)
                model.train()
    true, predicted = evaluate(model, data, data.rows.test)
    classification_report(true, predicted, zero_division=0)
    return float(balanced_accuracy_score(true, predicted))


def _loader(spec: RunSpec, names: set[str], data: Any, images: Any, labels: Any) -> DataLoader[Any]:
    transform = None
    if "augment" in names:
        # what policy `standard` does to an 8x8 digit, written as a user would
        transform = albumentations.Compose(
            [
                albumentations.Pad(1),
                albumentations.RandomCrop(*data.shape[:2]),
                albumentations.Affine(rotate=(-15, 15), scale=(0.85, 1.15), p=0.5),
                albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            ]
        )
    dataset = CustomDataset(images, labels, transform, data.mean, data.std)
    size = spec.training.batch_size
    if "weighted_sampler" not in names:
        return DataLoader(dataset, batch_size=size, shuffle=True, drop_last=True)
    weights = 1.0 / np.bincount(labels)
    sampler = WeightedRandomSampler(weights[labels].tolist(), len(labels), replacement=True)
    return DataLoader(dataset, batch_size=size, sampler=sampler, drop_last=True)


def _step(model: Any, optimizer: Any, names: set[str], x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    mixes = [mix for name, mix in (("mixup", mixup), ("cutmix", cutmix)) if name in names]
    if mixes:
        x, a, b, lam = mixes[np.random.randint(len(mixes))](x, y)
        outputs = model(x)
        loss = lam * functional.cross_entropy(outputs, a) + (1 - lam) * functional.cross_entropy(
            outputs, b
        )
    else:
        loss = functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    loss.item()


def evaluate(model: Any, data: Any, rows: np.ndarray) -> tuple[list[int], list[int]]:
    dataset = CustomDataset(data.features[rows], data.labels[rows], None, data.mean, data.std)
    model.eval()
    true, predicted = [], []
    with torch.no_grad():
        for x, y in DataLoader(dataset, batch_size=64):
            predicted += model(x).argmax(1).tolist()
            true += y.tolist()
    return true, predicted
