# mypy: disable-error-code="type-arg"
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TensorSpec(_message.Message):
    __slots__ = ("key", "dtype", "shape")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    key: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, key: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Preprocessing(_message.Message):
    __slots__ = ("mean", "std")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class Training(_message.Message):
    __slots__ = ("epochs", "seed", "best_epoch", "settings_digest")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BEST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    seed: int
    best_epoch: int
    settings_digest: str
    def __init__(self, epochs: _Optional[int] = ..., seed: _Optional[int] = ..., best_epoch: _Optional[int] = ..., settings_digest: _Optional[str] = ...) -> None: ...

class ReleaseManifest(_message.Message):
    __slots__ = ("schema_version", "name", "created_at", "backbone", "bottleneck_dim", "classes", "image_size", "preprocessing", "tensors", "weights_sha256", "weights_bytes", "source_accuracy", "training", "publishes_batchnorm_statistics", "owner_statement", "public_key_id")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DIM_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    PUBLISHES_BATCHNORM_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    OWNER_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    name: str
    created_at: int
    backbone: str
    bottleneck_dim: int
    classes: _containers.RepeatedScalarFieldContainer[str]
    image_size: int
    preprocessing: Preprocessing
    tensors: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    weights_sha256: bytes
    weights_bytes: int
    source_accuracy: float
    training: Training
    publishes_batchnorm_statistics: bool
    owner_statement: str
    public_key_id: bytes
    def __init__(self, schema_version: _Optional[int] = ..., name: _Optional[str] = ..., created_at: _Optional[int] = ..., backbone: _Optional[str] = ..., bottleneck_dim: _Optional[int] = ..., classes: _Optional[_Iterable[str]] = ..., image_size: _Optional[int] = ..., preprocessing: _Optional[_Union[Preprocessing, _Mapping]] = ..., tensors: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., weights_sha256: _Optional[bytes] = ..., weights_bytes: _Optional[int] = ..., source_accuracy: _Optional[float] = ..., training: _Optional[_Union[Training, _Mapping]] = ..., publishes_batchnorm_statistics: _Optional[bool] = ..., owner_statement: _Optional[str] = ..., public_key_id: _Optional[bytes] = ...) -> None: ...
