"""zstd frames that were compressed with a prefix, which the reader has already (RFC 8878: raw content dictionary)."""

from __future__ import annotations

import zstandard


class DamagedError(Exception):
    """A frame that does not decompress to what it should."""


def decompressor(prefix: bytes | memoryview, longest: int) -> zstandard.ZstdDecompressor:
    """A decompressor for frames of at most `longest` bytes that were compressed with `prefix`."""
    window = max(1 << zstandard.WINDOWLOG_MIN, 2 * (len(prefix) + longest))
    if not prefix:
        return zstandard.ZstdDecompressor(max_window_size=window)
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=window)


def promised(data: bytes) -> int:
    """How many bytes the header of a frame says that it holds; -1 when it does not say. Raises `DamagedError`."""
    try:
        return zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise DamagedError(f"does not decompress ({error})") from None


def decompress(unpacker: zstandard.ZstdDecompressor, data: bytes, length: int) -> bytes:
    """The `length` bytes in `data`. Raises `DamagedError`."""
    # A frame whose header promises another size is refused before memory is taken for it.
    size = promised(data)
    if size != length:
        raise DamagedError(f"promises {size} bytes instead of {length}")
    try:
        return unpacker.decompress(data, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedError(f"does not decompress ({error})") from None


def compress(data: bytes, prefix: bytes, level: int) -> bytes:
    """One zstd frame of `data`, compressed with `prefix`."""
    length = len(prefix) + len(data)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=length, window_log=max(zstandard.WINDOWLOG_MIN, length.bit_length()),
        write_content_size=True, write_dict_id=False,
    )  # fmt: skip
    if not prefix:
        return zstandard.ZstdCompressor(compression_params=parameters).compress(data)
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data)
