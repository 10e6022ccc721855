"""The commands of the installed package that evaluate: one module each."""
