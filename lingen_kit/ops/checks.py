"""Checks of arguments that operators make in the same words."""

import torch
from torch import Tensor


def require_shapes(
    op: str,
    x: Tensor,
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]],
    *,
    wide: tuple[str, ...] = (),
    main: str = "x",
) -> None:
    """Compare tensors with the shapes and dtypes that they must have beside the main input.

    Args:
        op: Name of the operator.
        x: Its main input.
        expected: By name of the argument, its value and its shape; None is passed over.
        wide: Names of those that may be in float32 although x is in 16 bits; the others have the dtype of x.
        main: What the operator calls its main input.

    Raises:
        ValueError: If one differs, naming the argument, what it is and what it should be.
    """
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{op}: {name} is {tuple(tensor.shape)}, expected {shape} for {main} {tuple(x.shape)}")
        allowed = {x.dtype, torch.promote_types(x.dtype, torch.float32)} if name in wide else {x.dtype}
        if tensor.dtype not in allowed:
            names = " or ".join(sorted(map(str, allowed)))
            raise ValueError(f"{op}: {name} is {tensor.dtype}, expected {names} beside {main} of {x.dtype}")


def require_finite(op: str, name: str, x: Tensor) -> None:
    """Refuse NaN and infinity on the CPU.

    On a GPU the check would make the host wait for the device at every call, so there it is left out.

    Args:
        op: Name of the operator.
        name: Name of the argument.
        x: Its value, of any shape.

    Raises:
        ValueError: If an entry is not finite, naming the argument, the first such entry and its position.
    """
    if x.device.type != "cpu" or bool(x.isfinite().all()):
        return
    position = tuple((~x.isfinite()).nonzero()[0].tolist())
    raise ValueError(
        f"{op}: {name}[{', '.join(map(str, position))}] is {x[position].item()}; every entry must be finite. "
        "Lower the learning rate or clip gradients if training produced it"
    )
