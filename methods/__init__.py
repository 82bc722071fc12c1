"""The methods that fairbench ships, one file each, found by the entry-point group `fairbench.methods`."""
