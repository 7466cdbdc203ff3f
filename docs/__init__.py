"""The sources of the site. `docs.drawings` has the inks and axes that the figures of the studies share."""
