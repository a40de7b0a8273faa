"""What a notebook reads of a run: the rows of its report, each kind when asked for, and tables of what has none."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from reports import study_tables, tables
from reports.judging.counterexample import counterexample
from reports.judging.faults import fault_cells, fault_rows
from reports.judging.guarantees import guarantees
from reports.judging.laws import laws
from reports.judging.loads import load_row
from reports.judging.mutants import mutant_rows
from reports.judging.rivals import latencies
from reports.judging.targets import targets
from reports.judging.validity import validity
from reports.parts import profile_of
from reports.pictures import of_section

if TYPE_CHECKING:
    from reports.evidence import Evidence
    from reports.figures.style import Picture
    from reports.findings import (
        Counterexample,
        FaultCell,
        FaultRow,
        Guarantee,
        Latency,
        Law,
        LoadRow,
        MutantRow,
        Target,
        Validity,
    )


class Judged:
    """The rows of a run's report, under the names that they have there; of a part that is not there it has none.

    A notebook needs a few of them, and all of them take seconds.

    Attributes:
        run: what was measured.
        profile: how much of it was.
    """

    def __init__(self, run: Evidence, profile: str) -> None:
        self.run = run
        self.profile = profile

    @cached_property
    def targets(self) -> list[Target]:
        """What was to be reached."""
        return targets(self.run, self.profile)

    @cached_property
    def guarantees(self) -> list[Guarantee]:
        """What must hold."""
        return guarantees(self.run)

    @cached_property
    def validity(self) -> list[Validity]:
        """What has to be so if anything is to follow."""
        return validity(self.run, [], self.profile)

    @cached_property
    def latencies(self) -> list[Latency]:
        """How long operations took."""
        return latencies(self.run.latency) if self.run.latency else []

    @cached_property
    def faults(self) -> list[FaultRow]:
        """What each fault did."""
        return fault_rows(self.run)

    @cached_property
    def fault_cells(self) -> list[FaultCell]:
        """What each fault did to each guarantee."""
        return fault_cells(self.run)

    @cached_property
    def mutants(self) -> list[MutantRow]:
        """What noticed each broken variant."""
        return mutant_rows(self.run.validation) if self.run.validation else []

    @cached_property
    def counterexample(self) -> Counterexample | None:
        """What a violation looks like."""
        return counterexample(self.run.validation) if self.run.validation else None

    @cached_property
    def loads(self) -> list[LoadRow]:
        """What came of the load tests."""
        return [load_row(name, test, self.profile) for name, test in self.run.loads.items()]

    @cached_property
    def laws(self) -> list[Law]:
        """How throughput grows with instances."""
        return laws(self.run.studies)


def judged(run: Evidence, profile: str = "quick") -> Judged:
    """What a report says of a run.

    Args:
        run: what was measured.
        profile: what it is taken for where it does not say so itself.
    """
    return Judged(run, profile_of(run.folder) or profile)


def pictures(run: Evidence, section: str) -> list[Picture]:
    """The pictures of a section of the report."""
    return of_section(run, section)


def drain(run: Evidence) -> tables.Table | None:
    """Rows a second of the drain, beside a bare COPY."""
    return tables.drain(run.latency) if run.latency else None


def durability(run: Evidence) -> tables.Table | None:
    """An update at each level of durability."""
    return tables.durability(run.latency) if run.latency else None


def studied(run: Evidence) -> list[tables.Table]:
    """The tables of each study."""
    found = []
    for result in run.studies.values():
        found += study_tables.measured(result)
        # The law of instances has rows of its own.
        found += [table for table in (study_tables.ratios(result), study_tables.along(result)) if table.rows]
    return found
