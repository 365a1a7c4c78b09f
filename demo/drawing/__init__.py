"""A very small studio: shapes, patterns, materials, light and a camera.

* ``mesh``        curves, lathes, tubes and boxes: the clay
* ``silhouettes`` the products, made of that clay
* ``patterns``    stripes, dots, petals: tiles that are laid on the clay
* ``materials``   glaze, cloth, leather, wood: how the surface answers light
* ``raster``      from triangles to visible pixels
* ``light``       lamps, shadows, reflections
* ``photo``       the camera, and everything a camera adds
"""
