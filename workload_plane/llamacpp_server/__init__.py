"""llama.cpp's own HTTP server as a program: `python -m workload_plane.llamacpp_server`."""
