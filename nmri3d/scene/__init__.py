"""The picture: color maps, the texture that paints the brain, and the PyVista/VTK scene. No web, no torch.

Cheap to import; `nmri3d.scene.brain` is the module that needs VTK.
"""
