"""What a person reads of costs that grow."""

from lightning_polycom.benchmarking.growth.growth import Growth


def growth_lines(growth: Growth) -> list[str]:
    """A table of one axis: size, seconds, and both ratios to the first size."""
    lines = [growth.axis, f"  {'size':>16}{'seconds':>12}{'expected':>12}{'measured':>12}"]
    rows = zip(growth.sizes, growth.seconds, growth.expected_ratios, growth.measured_ratios, strict=True)
    return lines + [
        f"  {size:>16,}{s:>12.4g}{expected:>12.2f}{measured:>12.2f}" for size, s, expected, measured in rows
    ]


def slope_lines(growths: list[Growth]) -> list[str]:
    """A table of all axes: the slope that the work has, and that of the seconds."""
    lines = [f"  {'axis':<18}{'expected slope':>16}{'measured slope':>16}"]
    return lines + [f"  {g.axis:<18}{g.expected_slope:>16.2f}{g.measured_slope:>16.2f}" for g in growths]
