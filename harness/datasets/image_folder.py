"""Images in class folders, directly or under train, val and test."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from harness.datasets.base import NotIdentity, dataset
from harness.datasets.images import ImageFiles, Source, class_source
from harness.errors import DataError, listing


@dataset("image_folder")
class ImageFolder(ImageFiles):
    """Images in one folder for each class, directly or under train, val and test."""

    path: Annotated[Path, NotIdentity()]
    """The folder that holds the class folders, or train, val and test."""
    group: str | None = None
    """Regular expression searched in the file name: its first group, or all that it matches, names
    the patient, lesion or scene; images of one group never straddle a split."""

    @field_validator("group")
    @classmethod
    def _group_compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    def source(self) -> Source:
        """Return the images in the class folders.

        Raises:
            DataError: There is no such folder, no image in it, or a name outside every group.
        """
        source = class_source(self.path)
        return source if self.group is None else replace(source, group=self._groups(source))

    def _groups(self, source: Source) -> NDArray[np.int64]:
        pattern = re.compile(self.group or "")
        matches = [pattern.search(path.name) for path in source.files]
        found = [match and match[1 if pattern.groups else 0] for match in matches]
        outside = [name for name, group in zip(source.ids, found, strict=True) if not group]
        if outside:
            raise DataError(
                f"dataset '{self.display()}': no group in {len(outside)} of {len(found)} file "
                f"names by the pattern '{self.group}': {listing(outside, 3)}"
            )
        _, groups = np.unique(np.array(found, dtype=str), return_inverse=True)
        return groups.astype(np.int64)
