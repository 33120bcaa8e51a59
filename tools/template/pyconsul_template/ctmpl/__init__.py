"""Go templates (``.ctmpl``): read as text/template reads them, run as Python.

``lexer`` and ``parser`` give a tree, ``compiler`` turns the tree into one Python
function a template, ``functions`` has what a template may call, ``values`` the
rules of Go's values. ``template`` binds all to a source of data.
"""
