"""Which data a detector learns from: one set, or several joined, each with what it does not label."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import InputError

Ratio = Annotated[float, Field(gt=0, le=8)]


class DataSet(BaseModel):
    """One labelled set, as a table ``[[set]]`` of a TOML file describes it.

    Attributes:
        data: Folder or zip, see `edge.labelled.objects`; relative to the TOML file.
        rename: Class names of the set that mean a class of ours. Names that are none of ours are left out.
        unlabelled: Classes that the set shows but does not label: nothing is learned about their absence.
        teacher: Files of ``edge detect --json`` over the set's pictures, joined.
        teacher_classes: Classes whose objects are taken from the teacher. Where such a class is not in `unlabelled`,
            the teacher's silence counts as absence.
        repeat: How often a picture of the set is seen in an epoch.
        aspect: Range of a random stretch, width over height, in training; a set whose pictures were squeezed to a
            square wants a wide one.
        splits: Which of train and val take part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    rename: dict[str, str] = {}
    unlabelled: tuple[str, ...] = ()
    teacher: tuple[Path, ...] = ()
    teacher_classes: tuple[str, ...] = ()
    repeat: Ratio = 1.0
    aspect: tuple[Ratio, Ratio] = (0.8, 1.25)
    splits: tuple[str, ...] = ("train", "val")


class DataSets(BaseModel):
    """The sets of a run.

    Attributes:
        classes: Our classes, in order; () for those of the only set.
        sets: The sets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    classes: tuple[str, ...] = ()
    sets: Annotated[tuple[DataSet, ...], Field(alias="set", min_length=1)]

    @model_validator(mode="after")
    def _makes_sense(self) -> DataSets:
        if len(self.sets) > 1 and not self.classes:
            raise ValueError("several sets need `classes = [...]`: what the detector is to tell apart")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes are named twice")
        for data in self.sets:
            named = {*data.unlabelled, *data.teacher_classes, *data.rename.values()}
            unknown = sorted(named - set(self.classes)) if self.classes else []
            if unknown:
                raise ValueError(f"{data.data}: {', '.join(unknown)} is none of the classes")
            if bool(data.teacher) != bool(data.teacher_classes):
                raise ValueError(f"{data.data}: teacher and teacher_classes belong together")
        return self


def read_sets(path: Path) -> DataSets:
    """Read a TOML file of sets, or take a data set as it is.

    Args:
        path: A ``.toml`` with ``classes`` and ``[[set]]`` tables, or a folder or zip.

    Raises:
        InputError: The TOML cannot be read or contradicts itself.
    """
    if path.suffix != ".toml":
        return DataSets.model_validate({"set": [{"data": path}]})
    try:
        with path.open("rb") as file:
            found = DataSets.model_validate(tomllib.load(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no TOML ({error})") from error
    except ValidationError as error:
        raise InputError(f"{path}: {_words(error.errors()[0])}") from error
    return found.model_copy(update={"sets": tuple(_absolute(data, path.parent) for data in found.sets)})


def _absolute(data: DataSet, folder: Path) -> DataSet:
    paths: dict[str, Any] = {"data": folder / data.data, "teacher": tuple(folder / name for name in data.teacher)}
    return data.model_copy(update=paths)


def _words(error: Any) -> str:
    said = error["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {said}" if place else said
