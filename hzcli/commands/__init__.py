"""One verb per file: arguments in, a result out. No printing."""
