"""The engine beside other runtimes: who they are, and all of them measured on the same models."""
