"""Pictures from strangers: of the good ones the pixels are kept, weapons are refused before they work."""

import io
import struct
import time
import tracemalloc
import zlib
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pingvas.errors import Invalid, TooLarge, UnsupportedMedia
from pingvas.gallery import uploads
from pingvas.gallery.uploads import decode_upload

GPS, ORIENTATION = 0x8825, 0x0112


@cache
def noise(size: tuple[int, int]) -> Image.Image:
    return Image.effect_noise(size, 60)


def encoded(kind: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise(size).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + 3 * min(width, 1_000)) * min(height, 1_000))))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


def read(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png))
    picture.load()
    return picture


@pytest.mark.parametrize("kind", uploads.FORMATS)
def test_good_pictures_come_out_as_png(kind: str) -> None:
    upload = decode_upload(encoded(kind))
    assert (upload.width, upload.height) == (40, 30)
    assert read(upload.png).format == "PNG"


@pytest.mark.parametrize(
    ("mode", "out"), [("L", "RGB"), ("P", "RGB"), ("RGBA", "RGBA"), ("LA", "RGBA"), ("1", "RGB")]
)
def test_every_mode_becomes_one_that_all_can_read(mode: str, out: str) -> None:
    assert read(decode_upload(encoded("PNG", mode=mode)).png).mode == out


def test_pixels_survive() -> None:
    source = encoded("PNG")
    assert read(decode_upload(source).png).tobytes() == read(source).tobytes()


def test_nothing_but_the_pixels_is_kept() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(GPS)[1] = "N"
    exif[0x010E] = "taken at home"
    photo = encoded("JPEG", exif=exif, comment=b"a secret remark", icc_profile=b"profile" * 50)
    upload = decode_upload(photo)
    assert (upload.width, upload.height) == (30, 40)  # turned upright, as it said
    text = PngInfo()
    text.add_text("Comment", "a secret remark")
    for png in (upload.png, decode_upload(encoded("PNG", pnginfo=text, exif=exif)).png):
        assert b"secret" not in png
        assert b"home" not in png
        assert b"eXIf" not in png
        assert b"iCCP" not in png
        assert dict(read(png).getexif()) == {}


def test_other_formats_are_415_whatever_they_are_called() -> None:
    for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO"):
        with pytest.raises(UnsupportedMedia):
            decode_upload(encoded(kind))
    for text in (
        b"",
        b"<svg onload='alert(1)'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"GIF89a<script>",
    ):
        with pytest.raises(UnsupportedMedia):
            decode_upload(text)


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (4_097, 4_096), (8_193, 1), (1, 8_193), (2**31 - 1, 2**31 - 1)]
)
def test_a_header_that_promises_too_much_is_refused_before_decoding(width: int, height: int) -> None:
    bomb = png_of(width, height)
    tracemalloc.start()
    try:
        with pytest.raises((Invalid, UnsupportedMedia)):
            decode_upload(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_compressed_text_cannot_fill_the_memory() -> None:
    text = zlib.compress(b"A" * 200_000_000, 9)  # 200 kB
    bomb = png_of(8, 8, chunk(b"zTXt", b"Comment\0\0" + text), chunk(b"iCCP", b"profile\0\0" + text))
    tracemalloc.start()
    try:
        with pytest.raises((Invalid, UnsupportedMedia)):
            decode_upload(bomb)
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()


def test_a_jpeg_of_endless_scans_is_refused_at_once() -> None:
    photo = encoded("JPEG", size=(1_000, 1_000), progressive=True)
    last = photo.rindex(b"\xff\xda")
    bomb = photo[:last] + photo[last:-2] * 2_000 + photo[-2:]
    began = time.monotonic()
    with pytest.raises((Invalid, TooLarge)):
        decode_upload(bomb)
    assert time.monotonic() - began < 1


def test_too_many_bytes_are_413() -> None:
    with pytest.raises(TooLarge):
        decode_upload(encoded("PNG") + bytes(uploads.MAX_BYTES))


@pytest.mark.parametrize("kind", uploads.FORMATS)
@given(data=st.data())
def test_damage_is_a_clear_refusal_or_harmless(kind: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    damaged = bytes(whole[:cut] if data.draw(st.booleans()) else whole)
    with suppress(Invalid, UnsupportedMedia):  # anything else is a finding
        assert decode_upload(damaged).width <= uploads.MAX_SIDE
