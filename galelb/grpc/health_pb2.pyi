# SPDX-License-Identifier: Apache-2.0
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HealthStatus(_message.Message):
    __slots__ = ("service", "status", "message", "name", "weight", "load", "addresses", "services", "state", "config_version")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    service: str
    status: int
    message: str
    name: str
    weight: int
    load: float
    addresses: _containers.RepeatedScalarFieldContainer[str]
    services: _containers.RepeatedScalarFieldContainer[str]
    state: str
    config_version: str
    def __init__(self, service: _Optional[str] = ..., status: _Optional[int] = ..., message: _Optional[str] = ..., name: _Optional[str] = ..., weight: _Optional[int] = ..., load: _Optional[float] = ..., addresses: _Optional[_Iterable[str]] = ..., services: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., config_version: _Optional[str] = ...) -> None: ...

class ConfigResponse(_message.Message):
    __slots__ = ("checks_before_routing", "health_check_timeout", "black_list_after_fails", "black_list_expiry", "setups", "version")
    CHECKS_BEFORE_ROUTING_FIELD_NUMBER: _ClassVar[int]
    HEALTH_CHECK_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    BLACK_LIST_AFTER_FAILS_FIELD_NUMBER: _ClassVar[int]
    BLACK_LIST_EXPIRY_FIELD_NUMBER: _ClassVar[int]
    SETUPS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    checks_before_routing: int
    health_check_timeout: int
    black_list_after_fails: int
    black_list_expiry: int
    setups: _containers.RepeatedCompositeFieldContainer[NodeSetup]
    version: str
    def __init__(self, checks_before_routing: _Optional[int] = ..., health_check_timeout: _Optional[int] = ..., black_list_after_fails: _Optional[int] = ..., black_list_expiry: _Optional[int] = ..., setups: _Optional[_Iterable[_Union[NodeSetup, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class NodeSetup(_message.Message):
    __slots__ = ("kind", "vip", "port")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VIP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    vip: str
    port: int
    def __init__(self, kind: _Optional[str] = ..., vip: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...
