"""That requests do not become dearer: counted, because time on a shared machine says little."""
