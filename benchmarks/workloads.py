"""All workloads, in the order of the report: a new section is a module of its own, named here.

Runs in: a fresh process per cell (`benchmarks.cell`). A workload's function takes a contestant's class and a
size and returns its figures by name, in the workload's unit; it repeats what is short and gives the median.
"""

from __future__ import annotations

from benchmarks import data, pipes, queues, synchronisation, task_workloads, values
from benchmarks.subjects import TASK_RUNNERS

WORKLOADS = (
    *task_workloads.OF_TASKS,
    *data.OF_DATA,
    *queues.OF_QUEUES,
    *pipes.OF_PIPES,
    *values.OF_VALUES,
    *synchronisation.OF_PRIMITIVES,
)
BY_KEY = {workload.key: workload for workload in WORKLOADS}
CONTESTANTS = {
    contestant.name: contestant for workload in WORKLOADS for contestant in (workload.among or TASK_RUNNERS)
}
