"""Parse, call, print; no logic worth testing elsewhere. No torch."""
