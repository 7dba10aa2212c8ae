"""Modules with the signatures of rclpy and the messages that the ROS 2 node uses, from ROS 2's documentation."""

import sys
import types
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


@dataclass
class Stamp:
    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    stamp: Stamp = field(default_factory=Stamp)
    frame_id: str = ""


@dataclass
class Image:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: bytes = b""


@dataclass
class CameraInfo:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    distortion_model: str = ""
    d: list = field(default_factory=list)
    k: list = field(default_factory=lambda: [0.0] * 9)
    r: list = field(default_factory=lambda: [0.0] * 9)
    p: list = field(default_factory=lambda: [0.0] * 12)


@dataclass
class PointField:
    name: str = ""
    offset: int = 0
    datatype: int = 0
    count: int = 0

    FLOAT32 = 7


@dataclass
class PointCloud2:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    fields: list = field(default_factory=list)
    is_bigendian: bool = False
    point_step: int = 0
    row_step: int = 0
    data: bytes = b""
    is_dense: bool = False


class Return(Enum):
    SUCCESS, FAILURE, ERROR = range(3)


class Reliability(Enum):
    RELIABLE, BEST_EFFORT = range(2)


class History(Enum):
    KEEP_LAST, KEEP_ALL = range(2)


@dataclass(kw_only=True)
class QoSProfile:
    depth: int
    history: History
    reliability: Reliability


class Publisher:
    """A lifecycle publisher drops what is published while its node is not active."""

    def __init__(self, kind, topic, node):
        self.kind, self.topic, self.node, self.messages = kind, topic, node, []

    def publish(self, message):
        assert isinstance(message, self.kind)
        if self.node.active:
            self.messages.append(message)


class Logger:
    def __init__(self):
        self.lines: list[tuple[str, str]] = []

    def info(self, text):
        self.lines.append(("info", text))

    def warning(self, text, throttle_duration_sec=0.0):
        self.lines.append(("warning", text))

    def error(self, text):
        self.lines.append(("error", text))


class LifecycleNode:
    """Parameters, topics and transitions; `given` stands for what a launch file passes."""

    given: ClassVar[dict] = {}

    def __init__(self, name):
        self.name, self.active, self.parameters = name, False, {}
        self.publishers_made, self.subscriptions_made, self.logger = {}, {}, Logger()

    def declare_parameter(self, name, value):
        taken = type(self).given.get(name, value)
        assert type(taken) is type(value), f"{name}: declared {type(value)}, given {type(taken)}"
        self.parameters[name] = taken

    def get_parameter(self, name):
        return types.SimpleNamespace(value=self.parameters[name])

    def get_logger(self):
        return self.logger

    def create_lifecycle_publisher(self, kind, topic, qos):
        self.publishers_made[topic] = Publisher(kind, topic, self)
        return self.publishers_made[topic]

    def create_subscription(self, kind, topic, callback, qos):
        self.subscriptions_made[topic] = callback
        return topic

    def destroy_subscription(self, topic):
        del self.subscriptions_made[topic]

    def destroy_publisher(self, publisher):
        del self.publishers_made[publisher.topic]

    def on_activate(self, state):
        self.active = True
        return Return.SUCCESS

    def on_deactivate(self, state):
        self.active = False
        return Return.SUCCESS

    def trigger_configure(self):
        return self.on_configure(None)

    def trigger_activate(self):
        return self.on_activate(None)

    def trigger_deactivate(self):
        return self.on_deactivate(None)

    def trigger_cleanup(self):
        return self.on_cleanup(None)

    def destroy_node(self):
        self.active = False


class ExternalShutdownException(Exception):
    pass


def modules() -> dict[str, types.ModuleType]:
    """What `import rclpy`, `sensor_msgs.msg` and `std_msgs.msg` find."""
    contents = {
        "rclpy": {"init": lambda args=None: None, "spin": lambda node: None, "try_shutdown": lambda: None},
        "rclpy.executors": {"ExternalShutdownException": ExternalShutdownException},
        "rclpy.lifecycle": {"LifecycleNode": LifecycleNode, "State": object, "TransitionCallbackReturn": Return},
        "rclpy.qos": {"HistoryPolicy": History, "QoSProfile": QoSProfile, "ReliabilityPolicy": Reliability},
        "sensor_msgs": {},
        "sensor_msgs.msg": {
            "CameraInfo": CameraInfo,
            "Image": Image,
            "PointCloud2": PointCloud2,
            "PointField": PointField,
        },
        "std_msgs": {},
        "std_msgs.msg": {"Header": Header},
    }
    made = {}
    for name, attributes in contents.items():
        made[name] = types.ModuleType(name)
        vars(made[name]).update(attributes)
    return made


def installed(monkeypatch) -> None:
    """Puts the stand-ins where imports find them, for one test."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
