"""`multiprocessing.popen_spawn_win32`: for Windows, where Shoal does not run."""

raise ImportError("popen_spawn_win32 is for Windows")
