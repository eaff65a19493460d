"""The embedded arena: a strict fake LMArena server, with scripted answers and injectable faults.

It is a second, independent implementation of the protocol: it shares no code with the client in `upstream`.
"""

from upstream.arena.accounts import Session
from upstream.arena.calls import Call
from upstream.arena.evaluations import Entry, Evaluation, Message, Turn
from upstream.arena.faults import FAULTS
from upstream.arena.models import Model, builtin_models
from upstream.arena.server import Arena
from upstream.arena.steps import Abort, Close, Eof, Line, Pause, Raw, Step, Unframed, Until
from upstream.arena.storage import StorageCall, StoredObject
from upstream.arena.tool_models import JSON_MODEL, tool_models
from upstream.arena.traits import Era

__all__ = [
    "FAULTS",
    "JSON_MODEL",
    "Abort",
    "Arena",
    "Call",
    "Close",
    "Entry",
    "Eof",
    "Era",
    "Evaluation",
    "Line",
    "Message",
    "Model",
    "Pause",
    "Raw",
    "Session",
    "Step",
    "StorageCall",
    "StoredObject",
    "Turn",
    "Unframed",
    "Until",
    "builtin_models",
    "tool_models",
]
