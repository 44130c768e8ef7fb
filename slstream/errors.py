"""Every error that slstream raises on purpose.

    SlstreamError
    |-- ConfigError             what the user wrote does not fit; nothing was started
    |   |-- TopologyError       the federation file: unknown key, bad value, missing file
    |   |-- DataError           too few matches, a key file that cannot be read
    |   |   `-- TableError      a party's table: missing column, duplicate ids, NaN; stays local
    |   `-- ModelError          a model that cannot be built or does not fit the cut
    |       `-- ModelFailed     a model's own code raised on data; stays local
    |-- CodecError
    |   |-- UnknownCodec        no codec is registered under this id
    |   |-- CodecConfigError    parameters or a chain that no codec accepts
    |   |-- EncodeError         a local tensor that this codec refuses (NaN, Inf, dtype)
    |   `-- DecodeError         foreign bytes that are not what was negotiated
    |-- SchemaError
    |   |-- InvalidSchema       a document outside the closed content model
    |   |-- UnknownSchema       an id or fingerprint that the registry does not hold
    |   `-- IncompatibleSchema  a new version that breaks the compatibility rule
    |-- FrameError              foreign bytes that are not a frame of this link
    |   |-- TruncatedFrame
    |   |-- BadMagic
    |   |-- UnsupportedVersion
    |   |-- InvalidHeader       a field outside its range, or a flag that is not known
    |   |-- FrameTooLarge       above the byte budget of the reader
    |   `-- SequenceError       a gap, a repetition, or an older incarnation
    |-- ProtocolError
    |   |-- LocalProtocolError  our own bug or misuse
    |   |-- RemoteProtocolError a peer sent what its state does not allow
    |   |-- SessionRefused      a party declined to take part
    |   |-- SessionAborted      a party gave up in mid-session
    |   |-- PeerTimeout         a peer was silent for longer than the topology allows
    |   `-- Diverged            what is computed from the log again does not fit the log
    |-- TransportError
    |   |-- TransportClosed     used after aclose()
    |   |-- TransportBroken     the storage or broker failed; what was not acknowledged may be lost
    |   |-- TransportTimeout    a deadline passed (retryable)
    |   |-- TransportDenied     the broker does not know this user, or gives it no right to this
    |   |-- UnknownTopic
    |   |-- TopicExists         with other settings
    |   |-- OffsetOutOfRange    before the first or after the last record
    |   `-- RecordTooLarge
    |-- StorageError            a file of ours cannot be written or read
    |-- ArchiveError            a file that is not an intact archive of one session
    |-- CheckpointError         a checkpoint that is damaged, or not of this session
    |-- Fenced                  a newer process of the same party has taken over
    `-- Interrupted             SIGINT, SIGTERM or SIGHUP asked for a clean end

Local misuse and a peer's fault are different branches on purpose: the first is fixed here, the
second is reported to the peer. ``retryable`` says whether the same call may succeed later.
"""

from __future__ import annotations

from typing import ClassVar


class SlstreamError(Exception):
    """Root of all errors that slstream raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without any change by the caller."""

    ends_session: ClassVar[bool] = True
    """Whether a session in which it is raised is over for all. Otherwise the party's process ends,
    its peers wait, and the party may go on in a new process."""

    @property
    def reason_for_peers(self) -> str:
        """What other parties may be told: the message, unless it may quote a party's data."""
        return str(self)


class ConfigError(SlstreamError):
    """What the user wrote does not fit. The message says what, where and what was expected."""


class TopologyError(ConfigError):
    """The federation file is not valid."""


class DataError(ConfigError):
    """The parties' data cannot be used."""


class TableError(DataError):
    """A party's table cannot be used. The message may quote ids and cells."""

    @property
    def reason_for_peers(self) -> str:
        """No more than that it was so: ids and cells never leave the party."""
        return "its table cannot be used; the party itself was told why"


class ModelError(ConfigError):
    """A model cannot be built, or does not fit the cut."""


class ModelFailed(ModelError):
    """A model's own code raised while it was trained or applied. The message may quote data."""

    @property
    def reason_for_peers(self) -> str:
        """No more than that it was so."""
        return "its model failed; the party itself was told how"


class CodecError(SlstreamError):
    """A tensor cannot be turned into bytes, or bytes into a tensor."""


class UnknownCodec(CodecError):
    """No codec is registered under this id."""


class CodecConfigError(CodecError):
    """Parameters or a chain that no codec accepts."""


class EncodeError(CodecError):
    """A local tensor that the codec refuses."""


class DecodeError(CodecError):
    """Foreign bytes that do not decode to the tensor that was negotiated."""


class SchemaError(SlstreamError):
    """A schema document is wrong, missing or incompatible."""


class InvalidSchema(SchemaError):
    """A document outside the closed content model."""


class UnknownSchema(SchemaError):
    """An id or fingerprint that the registry does not hold."""


class IncompatibleSchema(SchemaError):
    """A new version breaks the compatibility rule of its subject."""


class FrameError(SlstreamError):
    """Foreign bytes that are not a frame of this link."""


class TruncatedFrame(FrameError):
    """The bytes end before the frame does."""


class BadMagic(FrameError):
    """The first byte is not the Confluent magic."""


class UnsupportedVersion(FrameError):
    """A frame version that this release does not read."""


class InvalidHeader(FrameError):
    """A header field outside its range, or a flag that is not known."""


class FrameTooLarge(FrameError):
    """The frame, with all its chunks, is above the reader's byte budget."""


class SequenceError(FrameError):
    """A gap or repetition in the sequence, or a frame of an older incarnation."""


class ProtocolError(SlstreamError):
    """The session cannot go on."""


class LocalProtocolError(ProtocolError):
    """Our own bug or misuse: an input that this side's state does not allow."""


class RemoteProtocolError(ProtocolError):
    """A peer sent what its state does not allow."""


class SessionRefused(ProtocolError):
    """A party declined to take part; the message carries its reason."""


class SessionAborted(ProtocolError):
    """A party gave up in mid-session; the message carries its reason."""


class PeerTimeout(ProtocolError):
    """A peer was silent for longer than the topology allows."""

    ends_session: ClassVar[bool] = False


class Diverged(ProtocolError):
    """What is computed from the log again does not fit the log: other code, data or machine."""

    ends_session: ClassVar[bool] = False


class TransportError(SlstreamError):
    """The log cannot be read or written."""

    ends_session: ClassVar[bool] = False


class TransportClosed(TransportError):
    """The transport was used after ``aclose()``."""


class TransportBroken(TransportError):
    """The storage or broker failed. What was not acknowledged may be lost; nothing else is."""


class TransportTimeout(TransportError):
    """A deadline passed. The operation may or may not have taken effect."""

    retryable: ClassVar[bool] = True


class TransportDenied(TransportError):
    """The broker does not know this user, or gives it no right to what it asked for."""


class UnknownTopic(TransportError):
    """The topic or partition does not exist."""


class TopicExists(TransportError):
    """The topic exists with other settings."""


class OffsetOutOfRange(TransportError):
    """The offset is before the first record that is still kept, or after the end."""


class RecordTooLarge(TransportError):
    """The record is above the topic's limit."""


class StorageError(SlstreamError):
    """A file of ours cannot be written or read; what it held before still stands."""

    ends_session: ClassVar[bool] = False


class ArchiveError(SlstreamError):
    """A file is not an intact archive of one session, or a session cannot be made into one."""


class CheckpointError(SlstreamError):
    """A checkpoint is damaged, or does not belong to the session that it was to continue."""

    ends_session: ClassVar[bool] = False


class Fenced(SlstreamError):
    """A newer process of the same party has taken over; nothing that this one does counts."""

    ends_session: ClassVar[bool] = False


class Interrupted(SlstreamError):
    """SIGINT, SIGTERM or SIGHUP asked for a clean end; the session can be continued."""

    ends_session: ClassVar[bool] = False
