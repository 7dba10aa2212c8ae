"""The node on one camera: `ros2 launch depth_anything_ros depth_anything.launch.py image:=/camera/image_rect`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

ARGUMENTS = {
    "image": ("image_rect", "topic of the rectified images"),
    "camera_info": ("camera_info", "topic of their camera"),
    "namespace": ("", "namespace of the node and of what it publishes"),
    "model": ("nano", "a variant's name, a checkpoint or an exported .onnx or .xml file"),
    "device": ("cpu", "cpu, cuda, auto, or a device of the exported file's runtime"),
    "size": ("0", "shorter side at the network; 0 for the model's own"),
    "encoding": ("32FC1", "of the map: 32FC1 or 16UC1"),
    "max_rate": ("0.0", "most images a second; 0 for as many as the machine can"),
    "max_range": ("0.0", "metres beyond which there is no value; 0 for none"),
    "points": ("true", "publish a PointCloud2 where the model predicts metres"),
    "accept_license": ("false", "needed once for weights whose owner does not clearly allow commercial use"),
    "autostart": ("true", "configure and activate at once; false leaves that to a lifecycle manager"),
}
TOPICS = ("image", "camera_info")


def generate_launch_description():
    """What `ros2 launch` asks for."""
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    node = LifecycleNode(
        package="depth_anything_ros",
        executable="depth_anything_node",
        name="depth_anything",
        namespace=given["namespace"],
        parameters=[{name: given[name] for name in ARGUMENTS if name not in (*TOPICS, "namespace")}],
        remappings=[(topic, given[topic]) for topic in TOPICS],
        output="screen",
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, node])
