"""The methods that fairbench ships: one file each, found through the entry-point group `fairbench.methods`."""
