"""Installation by colcon (ament_python)."""

from setuptools import setup

NAME = "depth_anything_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/depth_anything.launch.py"]),
    ],
    install_requires=["setuptools", "depth-anything"],
    zip_safe=True,
    license="Apache-2.0",
    description="Depth or disparity maps of camera images by Depth Anything, as a ROS 2 node.",
    entry_points={"console_scripts": [f"depth_anything_node = {NAME}.node:main"]},
)
