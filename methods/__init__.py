"""The built-in methods, one module per family. The registry imports the methods from this package."""
