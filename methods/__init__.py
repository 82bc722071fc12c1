"""The methods included in fairbench, one file each; entry-point group `fairbench.methods`."""
