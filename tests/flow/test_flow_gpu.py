"""Cells on a real GPU, from the command line."""

import pytest
from flow_files import HOOK, content

pytestmark = pytest.mark.gpu
ON_ONE = ("--device", "cuda", "--executor", "local", "--gpus", "0", "--seeds", "0", "--epochs", "3")

# The first that takes most of the memory keeps it until another one has asked for as much.
GREEDY = """if ctx.epoch == 1 and not hasattr(self, "held"):
            import pathlib, time, torch
            refused = pathlib.Path({folder!r}, "refused")
            try:
                total = torch.cuda.get_device_properties(0).total_memory
                self.held = torch.empty(int(0.6 * total), dtype=torch.uint8, device="cuda")
            except torch.OutOfMemoryError:
                refused.touch()
                raise
            end = time.monotonic() + 60
            while not refused.exists() and time.monotonic() < end:
                time.sleep(0.1)
"""


def test_processes_that_share_a_gpu_find_what_one_after_the_other_finds(bench):
    methods = ("--methods", "trades,dafa,trix")
    bench.run(*methods, *ON_ONE, "--pack", "3")
    packed, bench.results = bench.results, bench.folder / "alone"
    bench.run(*methods, "--device", "cuda", "--seeds", "0", "--epochs", "3")
    for method in ("trades", "dafa", "trix"):
        alone = bench.folder_of(method)
        assert content(packed / "runs" / alone.name) == content(alone)
        assert bench.record(method)["state"] == "done"


def test_a_gpu_whose_memory_runs_out_takes_fewer_cells_and_all_are_done(bench, write_plugin):
    plugin = write_plugin()
    greedy = GREEDY.format(folder=str(bench.folder))
    plugin.write_text(plugin.read_text().replace(HOOK, f"{greedy}        {HOOK}"))
    mine = ("--registry", str(plugin), "--methods", "mine")
    out, error = bench.run(*mine, *ON_ONE, "--seeds", "0,1", "--pack", "2")
    assert "memory ran out" in out + error
    assert (bench.folder / "refused").exists()
    assert set(bench.states(*mine, "--seeds", "0,1", "--epochs", "3").values()) == {"done"}
