"""What leaves the program: pictures now; movies, web pages, VR scenes and neuroimaging files later. No torch, no web."""
