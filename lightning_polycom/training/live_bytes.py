"""Bytes of live tensors, counted operation by operation; on a CPU nothing else says so exactly."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves


class _Storage(NamedTuple):
    """A live storage, its size in bytes, and what it was counted as."""

    reference: weakref.ref
    size: int
    kind: str


class LiveBytes(TorchDispatchMode):
    """Inside, counts the bytes of every storage that an operation returns, until it is freed or resized.

    Works for tensors with and without values (meta device, FakeTensorMode entered before), and for each rank's part of
    a DTensor. What a kernel allocates for itself and frees before it returns is not seen, nor what is computed inside
    an operation on DTensors.

    Args:
        held: Tensors that were there before and count from the start.

    Attributes:
        now, peak: Bytes that are live, and the most that were.
        kind: What storages are counted as from here on; free text.
        by_kind, at_peak: The parts of `now` and of `peak` by kind.
    """

    def __init__(self, held: Iterable[Tensor] = ()):
        super().__init__()
        self.now, self.kind, self.by_kind = 0, "held", Counter()
        self._alive: dict[int, _Storage] = {}
        self.restart()
        for tensor in held:
            self.count(tensor)

    def restart(self) -> None:
        """Forgets the peak so far."""
        self.peak, self.at_peak = self.now, Counter(self.by_kind)

    def count(self, tensor: Tensor, kind: str | None = None) -> None:
        """Counts a tensor's storage, once; with `kind` as that from now on, also if it was counted before."""
        for plain in _plain_tensors(tensor):
            storage = plain.untyped_storage()
            known = self._alive.get(id(storage))
            if known is None:
                self._set(storage, storage.nbytes(), kind or self.kind)
            elif kind is not None and known.kind != kind:
                self._set(storage, known.size, kind)

    def __enter__(self) -> "LiveBytes":
        """Begins to count; resizing a storage is no operation, so that the method itself is watched."""
        self._resize, watch = torch.UntypedStorage.resize_, self

        def resize_(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
            found = watch._resize(storage, size)
            if (known := watch._alive.get(id(storage))) is not None:
                watch._set(storage, size, known.kind)
            return found

        torch.UntypedStorage.resize_ = resize_
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Ends it."""
        torch.UntypedStorage.resize_ = self._resize
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Runs the operation and counts what it returns."""
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return found

    def _set(self, storage: torch.UntypedStorage, size: int, kind: str) -> None:
        """Makes the storage count as `size` bytes of `kind`, whatever it counted as."""
        key = id(storage)
        if (known := self._alive.get(key)) is not None:
            self._add(known.kind, -known.size)
        self._alive[key] = _Storage(weakref.ref(storage, lambda _: self._free(key)), size, kind)
        self._add(kind, size)

    def _free(self, key: int) -> None:
        freed = self._alive.pop(key)
        self._add(freed.kind, -freed.size)

    def _add(self, kind: str, size: int) -> None:
        self.now += size
        self.by_kind[kind] += size
        if self.now > self.peak:
            self.restart()


def peak_bytes(run: Callable[[], object], held: Iterable[Tensor] = ()) -> int:
    """The most bytes of live tensors while `run` runs, with those of `held`."""
    with LiveBytes(held) as counted, torch.autograd.set_multithreading_enabled(False):
        run()
    return counted.peak


def _plain_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor itself, or those that a wrapper such as DTensor is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    parts = (getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
    for part in parts:
        if isinstance(part, Tensor):  # a DTensor names its mesh too
            yield from _plain_tensors(part)
