"""The built-in tasks, one module per family. Modules with a leading underscore hold code that families share."""
