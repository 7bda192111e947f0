"""Near twins of two splits, against a loop over all pairs."""

from __future__ import annotations

import numpy as np

from models.detection import check


def looks(thumbnails: np.ndarray, prefix: str) -> check._Looks:
    small = thumbnails.reshape(-1, 8, 9)
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(-1, 64)
    names = [f"{prefix}{i}" for i in range(len(small))]
    digests = [row.tobytes() for row in thumbnails]
    return check._Looks(names, digests, np.where(bits, 1, -1).astype(np.float32), thumbnails)


def nearest(one: check._Looks, other: check._Looks) -> list[str]:
    found = []
    for j, name in enumerate(other.names):
        twins = []
        for i, twin in enumerate(one.names):
            bits = int((one.hashes[i] != other.hashes[j]).sum())
            grey = float(np.abs(one.thumbnails[i] - other.thumbnails[j]).mean())
            if bits <= 5 and grey <= 8:
                twins.append((grey, twin))
        if twins and other.digests[j] not in one.digests:
            found.append(f"{name} ~ {min(twins)[1]}")
    return found


def test_near_twins() -> None:
    """Four scenes, each seen many times with a little noise, brighter or darker; some pictures are exact copies."""
    rng = np.random.default_rng(3)
    scenes = rng.uniform(20, 230, (4, 72)).astype(np.float32)

    def seen(count: int, noise: float) -> np.ndarray:
        pictures = scenes[rng.integers(0, len(scenes), count)] + rng.normal(0, noise, (count, 72))
        return np.asarray(pictures + rng.uniform(-12, 12, (count, 1)), np.float32)

    train, test = seen(200, 3.0), seen(600, 9.0)
    test[::50] = train[:12]
    one, other = looks(train, "train/"), looks(test, "test/")
    expected = nearest(one, other)
    assert 50 < len(expected) < 550
    assert check._near(one, other) == expected


def test_no_pictures() -> None:
    none, some = looks(np.zeros((0, 72), np.float32), "a"), looks(np.zeros((3, 72), np.float32), "b")
    assert check._near(none, some) == check._near(some, none) == []
