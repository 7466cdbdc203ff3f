"""A window that slides: columns of feature maps that stay are kept, new ones are computed."""
