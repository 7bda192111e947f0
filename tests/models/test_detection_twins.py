"""Near twins of two splits, against a loop over all pairs."""

from __future__ import annotations

import numpy as np

from models.detection import check


def looks(thumbnails: np.ndarray, prefix: str) -> check._Looks:
    names = [f"{prefix}{i}" for i in range(len(thumbnails))]
    return check._Looks(names, [row.tobytes() for row in thumbnails], thumbnails.reshape(-1, 8, 9))


def brighter(thumbnail: np.ndarray) -> np.ndarray:
    return thumbnail[:, 1:] > thumbnail[:, :-1]


def nearest(one: check._Looks, other: check._Looks) -> list[str]:
    found = []
    for j, name in enumerate(other.names):
        twins = []
        for i, twin in enumerate(one.names):
            for side, thumbnail in (("", one.thumbnails[i]), (", mirrored", one.thumbnails[i][:, ::-1])):
                bits = int((brighter(thumbnail) != brighter(other.thumbnails[j])).sum())
                grey = float(np.abs(thumbnail - other.thumbnails[j]).mean())
                if bits <= 5 and grey <= 8:
                    twins.append((grey, twin + side))
        if twins and other.digests[j] not in one.digests:
            found.append(f"{name} ~ {min(twins)[1]}")
    return found


def test_near_twins() -> None:
    """Four scenes, each seen many times with a little noise, brighter or darker; some pictures are exact
    copies, some mirrored.
    """
    rng = np.random.default_rng(3)
    scenes = rng.uniform(20, 230, (4, 72)).astype(np.float32)

    def seen(count: int, noise: float) -> np.ndarray:
        pictures = scenes[rng.integers(0, len(scenes), count)] + rng.normal(0, noise, (count, 72))
        return np.asarray(pictures + rng.uniform(-12, 12, (count, 1)), np.float32)

    train, test = seen(200, 3.0), seen(600, 9.0)
    test[::50] = train[:12]
    test[1::4] = test[1::4].reshape(-1, 8, 9)[:, :, ::-1].reshape(-1, 72)
    one, other = looks(train, "train/"), looks(test, "test/")
    expected = nearest(one, other)
    assert 50 < len(expected) < 550 and 10 < sum("mirrored" in line for line in expected) < 200
    assert check._near(one, other) == expected


def test_no_pictures() -> None:
    none, some = looks(np.zeros((0, 72), np.float32), "a"), looks(np.zeros((3, 72), np.float32), "b")
    assert check._near(none, some) == check._near(some, none) == []
