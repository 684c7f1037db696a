"""Speaks English with eSpeak NG, a real if plain synthesizer. Standard library only."""

from __future__ import annotations

import ctypes
import io
import tempfile
import threading
import wave
from pathlib import Path

_RETRIEVAL = 1  # samples are given to a callback as they are made, nothing is played
_UTF8 = 1
_RATE_PARAMETER = 1
_WORDS_A_MINUTE = 140

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """The library, of which a process has one: it speaks one text at a time."""

    def __init__(self, folder: Path) -> None:
        """Load it.

        Args:
            folder: of the package espeakng-loader: the library and its data.
        """
        self._library = ctypes.CDLL(str(folder / "libespeak-ng.so"))
        # It takes paths of 160 bytes at the most, and a container's files lie deeper.
        data = Path(tempfile.mkdtemp(prefix="speech-")) / "data"
        data.symlink_to(folder / "espeak-ng-data")
        self.sample_rate: int = self._library.espeak_Initialize(_RETRIEVAL, 0, str(data).encode(), 0)
        self._samples = bytearray()
        self._callback = Callback(self._take)  # kept, because the library calls it as long as it is loaded
        self._library.espeak_SetSynthCallback(self._callback)
        self._lock = threading.Lock()

    def wav(self, text: str) -> bytes:
        """Return a text as speech: a WAV file of one channel of 16 bits."""
        encoded = text.encode()
        with self._lock:
            self._samples.clear()
            self._library.espeak_SetVoiceByName(b"en-us")
            self._library.espeak_SetParameter(_RATE_PARAMETER, _WORDS_A_MINUTE, 0)
            self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
            self._library.espeak_Synchronize()
            samples = bytes(self._samples)
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.sample_rate)
            file.writeframes(samples)
        return buffer.getvalue()

    def _take(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            self._samples += ctypes.string_at(samples, 2 * count)
        return 0


def installed() -> Path:
    """Return the folder of the package in this environment."""
    import espeakng_loader  # type: ignore[import-untyped]

    return Path(espeakng_loader.__file__).parent


def words(text: str) -> list[str]:
    """Return a text's words, so that what was said can be compared with what was heard."""
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter.isspace()).split()
