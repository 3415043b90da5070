"""What `make noise` measures in guests: whole, in an order that no drift favours, and as a controller orders it."""

import pytest
from lab_cells import ARCHITECTURES, BOOTS, CELLS, PAIR, SERIES, Cell, plan

from agent.adapters.wire.order_messages import order_of
from agent.workloads.registry import KINDS


def test_every_workload_runs_on_both_kernels_of_both_architectures_in_every_boot() -> None:
    pieces = plan(ARCHITECTURES, ())
    assert len({(piece.machine, piece.cell.name) for piece in pieces}) == len(pieces)
    for architecture in ARCHITECTURES:
        for version in PAIR:
            for boot in range(1, BOOTS + 1):
                found = {piece.cell.workload for piece in pieces if piece.machine == (architecture, version, boot)}
                # A drill ends the boot and measures nothing; selftests pass or fail, and have no figures that scatter.
                assert found == set(KINDS) - {"panic_drill", "mm_selftests"}
        for version in SERIES:
            found = [piece.boot for piece in pieces if (piece.architecture, piece.version) == (architecture, version)]
            assert found == list(range(1, BOOTS + 1))


def test_old_and_new_take_turns_at_being_first() -> None:
    machines = list(dict.fromkeys(piece.machine for piece in plan(("arm64",), ("anon_sweep",))))
    old, new = PAIR
    assert [version for _, version, _ in machines] == [old, new, new, old, old, new]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_an_agent_understands_every_order(cell: Cell) -> None:
    message = cell.order()
    assert (message.repetitions, message.warmups) == (cell.runs, cell.warmups)
    order = order_of(message)
    assert order.workload == cell.workload
