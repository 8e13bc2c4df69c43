"""The loop a user would write: the tutorial's five techniques and a `DataLoader`.

Same model, data, batch size, number of steps, schedule and evaluations as ours; the tutorial's
snippets as written but for what would keep them from running at all (`np.int`, `.cuda()`).
"""

from typing import TYPE_CHECKING, Any

import albumentations
import numpy as np
import torch
from imblearn.over_sampling import SMOTE
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from tests.benchmarks.loops import Task


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
    index = torch.randperm(x.size(0), device=x.device)
    return lam * x + (1 - lam) * x[index], y, y[index], lam


def cutmix(x: torch.Tensor, y: torch.Tensor, alpha: float = 1.0) -> Any:
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0), device=x.device)
    _, _, height, width = x.size()
    cut = np.sqrt(1.0 - lam)
    cut_w, cut_h = int(width * cut), int(height * cut)
    cx, cy = np.random.randint(width), np.random.randint(height)
    x1, x2 = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, width)
    y1, y2 = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, height)
    x[:, :, y1:y2, x1:x2] = x[index, :, y1:y2, x1:x2]
    return x, y, y[index], lam


def resampled(names: set[str], data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the training images and labels, after SMOTE where the recipe has it."""
    images, labels = data.features[data.rows.train], data.labels[data.rows.train]
    if "smote" not in names:
        return images, labels
    fewest = int(np.bincount(labels).min())
    flat, labels = SMOTE(k_neighbors=min(5, fewest - 1)).fit_resample(
        images.reshape(len(images), -1).astype(np.float32), labels
    )
    return flat.reshape(-1, *images.shape[1:]).round().astype(np.uint8), labels


def transform_of(names: set[str], data: Any) -> Any:
    """Return what policy `standard` does to such an image, written as a user would, or None."""
    if "augment" not in names:
        return None
    height, width = data.shape[:2]
    padding = round(min(height, width) / 8)
    flips = [albumentations.HorizontalFlip(p=0.5)] if data.shape[-1] == 3 else []
    return albumentations.Compose(
        [
            *flips,
            albumentations.Pad(padding),
            albumentations.RandomCrop(height, width),
            albumentations.Affine(rotate=(-15, 15), scale=(0.85, 1.15), p=0.5),
            albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
        ]
    )


def stored(data: Any, rows: np.ndarray) -> CustomDataset:
    """Return stored rows as a dataset."""
    return CustomDataset(data.features[rows], data.labels[rows], None, data.mean, data.std)


def loader_of(task: "Task") -> DataLoader[Any]:
    """Return the loader of the training images."""
    data = task.data
    transform = transform_of(task.names, data)
    return DataLoader(
        CustomDataset(task.images, task.labels, transform, data.mean, data.std),
        batch_size=task.spec.training.batch_size,
        sampler=task.sampler(),
        drop_last=True,
        num_workers=4 if task.device.type == "cuda" else 0,
    )


def train(task: "Task") -> None:
    """Train one recipe as the tutorial would."""
    loader = loader_of(task)
    model = task.model()
    optimizer = task.optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)
    done = 0
    while done < task.steps:
        model.train()
        for x, y in loader:
            if done == task.steps:
                break
            _step(model, optimizer, task.names, x.to(task.device), y.to(task.device))
            schedule.step()
            done += 1
            if done % task.every == 0:
                evaluate(model, task, task.data.rows.val)
                model.train()
    task.report(lambda rows: evaluate(model, task, rows))


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


def evaluate(model: Any, task: "Task", rows: np.ndarray) -> np.ndarray:
    model.eval()
    predicted: list[int] = []
    with torch.no_grad():
        for x, _ in DataLoader(stored(task.data, rows), batch_size=64):
            predicted += model(x.to(task.device)).argmax(1).tolist()
    return np.array(predicted)
