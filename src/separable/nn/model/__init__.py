"""Running a torch model and watching what it does."""
