"""``d-back schema``: what clients and files may contain, for programs to read.

It is in d-back-testing because developers of clients need it and a running gateway does not. It
reads private modules of the core, with which this package is released.
"""
