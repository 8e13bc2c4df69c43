"""Images in class folders, directly or under train, val and test."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from harness.datasets.base import NotIdentity, dataset
from harness.datasets.images import ImageFiles, Source, class_source
from harness.datasets.name_groups import compiles, groups_of
from harness.errors import DataError


@dataset("image_folder")
class ImageFolder(ImageFiles):
    """Images in one folder for each class, directly or under train, val and test."""

    path: Annotated[Path, NotIdentity()]
    """The folder that holds the class folders, or train, val and test."""
    allow_outside: Annotated[bool, NotIdentity()] = False
    """Whether images may lie out of that folder, by symbolic links below it."""
    group: Annotated[str | None, AfterValidator(compiles)] = None
    """Regular expression searched in the file name: its first group, or all that it matches, names
    the patient, lesion or scene; images of one group never straddle a split."""

    def source(self) -> Source:
        """Return the images in the class folders.

        Raises:
            DataError: There is no such folder, no image in it, or a name outside every group.
        """
        source = class_source(self.path, self.allow_outside)
        return source if self.group is None else replace(source, group=self._groups(source))

    def _groups(self, source: Source) -> NDArray[np.int64]:
        try:
            return groups_of([path.name for path in source.files], self.group or "", source.ids)
        except DataError as error:
            raise error.within(f"dataset '{self.display()}'") from None
