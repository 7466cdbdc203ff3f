"""A plugin of napari: filters of image layers, with widths in the layer's units, a preview and the plan.

napari reads ``napari.yaml`` beside this file and imports nothing before the widget is opened. ``axes``,
``recipe``, ``job`` and ``slices`` know neither napari nor Qt.
"""
