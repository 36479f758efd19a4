"""What a workload is: how it is measured, by whom, and what corral wants to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.subjects import Contestant

WORKERS = 2


class Workload(NamedTuple):
    """One line (or a few) of the report.

    Attributes:
        section: The heading it stands under; a section's workloads have the same contestants.
        name: What is measured.
        unit: Of all its figures; ``x`` for ratios.
        measure: The function that does it.
        size: How much of it, in a full run.
        targets: Figure -> goal.
        scaled: Whether `size` counts small tasks, which slow subjects get fewer of.
        divisible: Whether a quick run does less of it.
        more_is_better: Which way the figures are to be read.
        pools_only: Whether it has nothing to do with executors.
        rounds: In how many rounds it is measured; 0: all.
        among: Who is measured, if not those who run tasks (`benchmarks.subjects`).
    """

    section: str
    name: str
    unit: str
    measure: Callable[[type[Any], int], Mapping[str, float]]
    size: int
    targets: Mapping[str, float]
    scaled: bool = False
    divisible: bool = True
    more_is_better: bool = False
    pools_only: bool = False
    rounds: int = 0
    among: tuple[type[Contestant], ...] = ()

    @property
    def key(self) -> str:
        """Its name on the command line and in the JSON."""
        return f"{self.section}: {self.name}"
