"""How fast training is, against a plain loop and against the device. The room behind `fairbench bench`."""
