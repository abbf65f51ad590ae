# mypy: disable-error-code="type-arg"
from protos import release_pb2 as _release_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_POLICY: _ClassVar[Reason]
    REASON_SCHEMA: _ClassVar[Reason]
    REASON_CONFIG: _ClassVar[Reason]
    REASON_DATA: _ClassVar[Reason]
    REASON_RELEASE: _ClassVar[Reason]
    REASON_METHOD: _ClassVar[Reason]
    REASON_MALFORMED: _ClassVar[Reason]
    REASON_INTERNAL: _ClassVar[Reason]
    REASON_BASE: _ClassVar[Reason]
REASON_UNSPECIFIED: Reason
REASON_POLICY: Reason
REASON_SCHEMA: Reason
REASON_CONFIG: Reason
REASON_DATA: Reason
REASON_RELEASE: Reason
REASON_METHOD: Reason
REASON_MALFORMED: Reason
REASON_INTERNAL: Reason
REASON_BASE: Reason

class EnrolRequest(_message.Message):
    __slots__ = ("schema_version", "experiment", "release_digest", "further_release_digests", "site_privacy")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FURTHER_RELEASE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    SITE_PRIVACY_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    experiment: str
    release_digest: str
    further_release_digests: _containers.RepeatedScalarFieldContainer[str]
    site_privacy: bool
    def __init__(self, schema_version: _Optional[int] = ..., experiment: _Optional[str] = ..., release_digest: _Optional[str] = ..., further_release_digests: _Optional[_Iterable[str]] = ..., site_privacy: _Optional[bool] = ...) -> None: ...

class Enrolment(_message.Message):
    __slots__ = ("schema_version", "site", "modality", "has_release", "further_release_digests", "counts", "scores", "parameters_sha256")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    HAS_RELEASE_FIELD_NUMBER: _ClassVar[int]
    FURTHER_RELEASE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    site: str
    modality: str
    has_release: bool
    further_release_digests: _containers.RepeatedScalarFieldContainer[str]
    counts: bool
    scores: bool
    parameters_sha256: bytes
    def __init__(self, schema_version: _Optional[int] = ..., site: _Optional[str] = ..., modality: _Optional[str] = ..., has_release: _Optional[bool] = ..., further_release_digests: _Optional[_Iterable[str]] = ..., counts: _Optional[bool] = ..., scores: _Optional[bool] = ..., parameters_sha256: _Optional[bytes] = ...) -> None: ...

class ReleaseFiles(_message.Message):
    __slots__ = ("schema_version", "manifest", "signature")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    manifest: bytes
    signature: bytes
    def __init__(self, schema_version: _Optional[int] = ..., manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RoundRequest(_message.Message):
    __slots__ = ("schema_version", "experiment", "round", "rounds", "release_digest", "experiment_json", "further_release_digests", "keep_round", "parameters_sha256", "base_sha256", "scales")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    FURTHER_RELEASE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ROUND_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    BASE_SHA256_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    experiment: str
    round: int
    rounds: int
    release_digest: str
    experiment_json: str
    further_release_digests: _containers.RepeatedScalarFieldContainer[str]
    keep_round: int
    parameters_sha256: bytes
    base_sha256: bytes
    scales: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, schema_version: _Optional[int] = ..., experiment: _Optional[str] = ..., round: _Optional[int] = ..., rounds: _Optional[int] = ..., release_digest: _Optional[str] = ..., experiment_json: _Optional[str] = ..., further_release_digests: _Optional[_Iterable[str]] = ..., keep_round: _Optional[int] = ..., parameters_sha256: _Optional[bytes] = ..., base_sha256: _Optional[bytes] = ..., scales: _Optional[_Iterable[float]] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("schema_version", "experiment", "site", "round", "tensors", "batchnorm", "examples", "delta_sha256", "scales")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    BATCHNORM_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    DELTA_SHA256_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    experiment: str
    site: str
    round: int
    tensors: _containers.RepeatedCompositeFieldContainer[_release_pb2.TensorSpec]
    batchnorm: _containers.RepeatedCompositeFieldContainer[_release_pb2.TensorSpec]
    examples: int
    delta_sha256: bytes
    scales: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, schema_version: _Optional[int] = ..., experiment: _Optional[str] = ..., site: _Optional[str] = ..., round: _Optional[int] = ..., tensors: _Optional[_Iterable[_Union[_release_pb2.TensorSpec, _Mapping]]] = ..., batchnorm: _Optional[_Iterable[_Union[_release_pb2.TensorSpec, _Mapping]]] = ..., examples: _Optional[int] = ..., delta_sha256: _Optional[bytes] = ..., scales: _Optional[_Iterable[float]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("schema_version", "experiment", "site", "round", "held_out", "transductive", "validation")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    TRANSDUCTIVE_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    experiment: str
    site: str
    round: int
    held_out: _containers.RepeatedScalarFieldContainer[int]
    transductive: _containers.RepeatedScalarFieldContainer[int]
    validation: float
    def __init__(self, schema_version: _Optional[int] = ..., experiment: _Optional[str] = ..., site: _Optional[str] = ..., round: _Optional[int] = ..., held_out: _Optional[_Iterable[int]] = ..., transductive: _Optional[_Iterable[int]] = ..., validation: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("schema_version", "site", "reason")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    site: str
    reason: Reason
    def __init__(self, schema_version: _Optional[int] = ..., site: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ...) -> None: ...
