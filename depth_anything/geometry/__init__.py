"""The camera, metres from disparity, point clouds and meshes."""
