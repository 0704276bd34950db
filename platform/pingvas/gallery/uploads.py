"""Pictures that people send: decoded within limits, encoded anew so that only the pixels are kept."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from pingvas.errors import Invalid, TooLarge, UnsupportedMedia

FORMATS: Final = ("PNG", "JPEG", "WEBP")
MAX_BYTES: Final = 20 * 1_048_576
MAX_PIXELS: Final = 4_096 * 4_096
MAX_SIDE: Final = 8_192
MAX_SCANS: Final = 100
"""Of a JPEG. Each scan of a progressive one may be a few bytes and costs a pass over all pixels."""

_SCAN = b"\xff\xda"  # inside coded data 0xff is always followed by 0x00, so this is a marker
# What Pillow's decoders raise on damaged files; it promises no list.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Upload:
    """A picture as it may be stored and shown: PNG without metadata, RGB or RGBA, sides in pixels."""

    png: bytes
    width: int
    height: int


def decode_upload(data: bytes) -> Upload:
    """Return the picture in `data`, turned upright as its EXIF says; of an animation the first frame.

    Raises:
        TooLarge: more bytes than `MAX_BYTES`.
        UnsupportedMedia: no PNG, JPEG or WEBP, whatever it is called.
        Invalid: damaged, or more pixels than `MAX_PIXELS`, a side above `MAX_SIDE`, or a decompression bomb.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge(f"A picture may have {MAX_BYTES} bytes at most")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                _check(opened, data)
                return _encode(_pixels(opened))
        except UnidentifiedImageError:
            raise UnsupportedMedia(f"A picture must be {', '.join(FORMATS)}") from None
        except _DAMAGED as error:
            raise Invalid("The picture is damaged or too large to be decoded") from error


def _check(opened: Image.Image, data: bytes) -> None:
    """See that decoding is worth its cost; the header alone has been read so far."""
    width, height = opened.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Invalid(f"A picture may have {MAX_PIXELS} pixels at most and sides up to {MAX_SIDE}")
    if opened.format == "JPEG" and data.count(_SCAN) > MAX_SCANS:
        raise Invalid(f"A JPEG may have {MAX_SCANS} scans at most")


def _pixels(opened: Image.Image) -> Image.Image:
    opened.load()
    upright = ImageOps.exif_transpose(opened)
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _encode(pixels: Image.Image) -> Upload:
    pixels.info = {}  # EXIF with its places and names, colour profiles, comments: the encoder would keep some
    pixels.getexif().clear()
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return Upload(buffer.getvalue(), *pixels.size)
