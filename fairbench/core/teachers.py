"""The names of the teachers that a method can ask; each is a component of a registry entry."""

TEACHERS = ("teacher", "natural_teacher")
