"""What one visitor's page can do, one module a part: model, scans, selection, prediction, pictures, remote view.

Convention. A part is made with the `Visit` that all parts of a page share (visit.py). `handlers()` names what the browser
may ask of it, `forget()` drops what belonged to a model that has gone. What arrives from a browser is checked here first.
"""
