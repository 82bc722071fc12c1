"""FLOOR fulfils the contract of fairbench."""

import fairbench.testing


class TestFloor(fairbench.testing.ContractSuite):
    method = "floor"
