"""Stateless randomness: a random number is a function of where it is used, not of what was drawn before.

The order of an epoch is f(seed, epoch) and the augmentation of an image f(seed, epoch, image), so a resumed run,
another batch size or another number of workers sees the same images. The mixing function is the finaliser of
SplitMix64 (Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195), applied to one word after another.
"""

from __future__ import annotations

import numpy as np

Words = np.ndarray  # uint64, any shape

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _finalise(x: Words) -> Words:
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


def mix(*words: int | np.ndarray) -> Words:
    """Hash integers, or arrays of them that broadcast together, to uint64 words of the broadcast shape."""
    with np.errstate(over="ignore"):
        state = np.zeros((), np.uint64)
        for word in words:
            as_words = np.asarray(word)
            if as_words.dtype != np.uint64:
                as_words = as_words.astype(np.int64).view(np.uint64)
            state = _finalise((state + _GOLDEN) ^ _finalise(as_words + _GOLDEN))
    return state


def seed_of(*words: int) -> int:
    """One seed of 63 bits for a library's own generator."""
    return int(mix(*words) >> np.uint64(1))


def uniforms(seed: int, epoch: int, keys_B: np.ndarray, slots: int) -> np.ndarray:
    """Uniform numbers in [0, 1): float64 (B, slots), row b a function of (seed, epoch, keys_B[b]) alone."""
    words = mix(seed, epoch, keys_B[:, None], np.arange(slots)[None, :])
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def distinct(keys_N: np.ndarray) -> np.ndarray:
    """The keys, but for second and later copies of one: those get a word of their own from (key, number of copy)."""
    _, first, inverse, counts = np.unique(keys_N, return_index=True, return_inverse=True, return_counts=True)
    if len(first) == len(keys_N):
        return keys_N
    by_key = np.argsort(inverse, kind="stable")
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    copy = np.empty(len(keys_N), np.int64)
    copy[by_key] = np.arange(len(keys_N)) - starts
    return np.where(copy > 0, mix(keys_N, copy), keys_N)


def order(seed: int, epoch: int, keys_N: np.ndarray) -> np.ndarray:
    """A permutation of range(N) as int64: a function of seed, epoch and the images' keys."""
    return np.argsort(mix(seed, epoch, 0x6F72646572, keys_N), kind="stable")


def order_in_blocks(seed: int, epoch: int, keys_N: np.ndarray, blocks_N: np.ndarray, together: int) -> np.ndarray:
    """A permutation of range(N) that reads ``together`` blocks at a time: int64, a function of what it is given.

    Blocks, which have any numbers, come in a random order; the images of so many blocks that follow each other are
    mixed as ``order`` mixes them. So no image is far, in time, from its neighbours, and few blocks are open at once.
    """
    names, block = np.unique(blocks_N, return_inverse=True)
    place = np.empty(len(names), np.int64)
    place[np.argsort(mix(seed, epoch, 0x626C6F636B, names), kind="stable")] = np.arange(len(names))
    return np.lexsort((mix(seed, epoch, 0x6F72646572, keys_N), place[block] // together))
