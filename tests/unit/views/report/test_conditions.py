"""What a test ran under is told from the raw evidence of its runs, and nothing that the evidence does not say."""

from controller.views.report.conditions import conditions

SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ZSWAP = "accept_threshold_percent 90\ncompressor lzo\nenabled {}\nmax_pool_percent 20"


def test_zram_is_told_with_its_size_algorithm_and_limit() -> None:
    told = {
        "proc_swaps": f"{SWAPS}/dev/zram0                              partition\t524284\t\t41848\t\t32767\n",
        "zram_comp_algorithm": "lzo lzo-rle [lz4] zstd",
        "cgroup_memory_max": "41943040\n",
        "zswap_parameters": ZSWAP.format("N"),
        "config": "tinyconfig",
        "command": "make -j1 kernel/range.o",
    }
    assert list(conditions(told)) == [
        "swap: /dev/zram0 (lz4) of 512 MiB",
        "memory limit: 40 MiB",
        "command: make -j1 kernel/range.o",
        "config: tinyconfig",
    ]


def test_zswap_is_told_with_what_it_lies_over() -> None:
    told = {
        "proc_swaps": f"{SWAPS}/dev/nvme3n1 partition\t1073741820\t\t0\t\t32767\n",
        "zswap_parameters": ZSWAP.format("Y"),
        "cgroup_memory_max": "max",
        "cgroup_memory_limit_in_bytes": "100663296",
    }
    assert list(conditions(told)) == ["swap: ZSWAP (lzo) over /dev/nvme3n1 of 1 TiB", "memory limit: 96 MiB"]


def test_what_is_not_there_is_not_told() -> None:
    assert list(conditions({})) == []
    assert (
        list(conditions({"proc_swaps": SWAPS, "zswap_parameters": ZSWAP.format("Y"), "cgroup_memory_max": "max"})) == []
    )
