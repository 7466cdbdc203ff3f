"""What a torch network loses over milliseconds."""
