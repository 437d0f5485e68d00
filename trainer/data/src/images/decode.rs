//! PNG and JPEG files, decoded to the same bytes on every CPU: by integers, without instructions that only some have.

use std::io::Cursor;

use png::{BitDepth, ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Color, Image, Seen, Size};
use crate::error::{DataError, excerpt};
use crate::options::Limits;

/// The most pixels of an image. A small file can hold very many.
const PIXELS: u64 = 1 << 26;
const DAMAGED: &str = "the image is damaged: write it again, or remove it";

/// Decodes a PNG or JPEG file; its first bytes tell which.
///
/// # Errors
/// If it is neither, is damaged, or has too many pixels.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image, DataError> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes, limits),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes, limits),
        [] => Err(DataError::data("the file is empty", DAMAGED)),
        _ => {
            let found = match other_kind(bytes) {
                Some(kind) => kind.to_owned(),
                None => format!("other first bytes: {:02x?}", &bytes[..bytes.len().min(4)]),
            };
            let problem = format!("expected a PNG or JPEG image, found {found}");
            Err(DataError::data(problem, "convert it to PNG, or remove it"))
        }
    }
}

/// The size of a PNG or JPEG file, as its header says.
///
/// # Errors
/// As [`decode`], as far as the header tells.
pub(super) fn size_of(bytes: &[u8], limits: &Limits) -> Result<Size, DataError> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => {
            let mut decoder = png::Decoder::new(Cursor::new(bytes));
            let header = decoder.read_header_info().map_err(damaged)?;
            size(header.width.into(), header.height.into(), 8, limits)
        }
        [0xff, 0xd8, 0xff, ..] => jpeg_header(bytes, limits).map(|(_, size, _)| size),
        _ => decode(bytes, limits).map(|image| image.size),
    }
}

/// What a decoder says, in one line. What it says of checksums is for those who write decoders.
fn damaged(error: impl std::fmt::Display) -> DataError {
    let text = error.to_string();
    let text = match text.starts_with("CRC error") {
        true => "a checksum in it is wrong".to_owned(),
        false => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    DataError::data(excerpt(&text), DAMAGED)
}

/// What else an image file may be.
fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 7] = [
        (b"GIF8", "a GIF image"),
        (b"BM", "a BMP image"),
        (b"II*\0", "a TIFF image"),
        (b"MM\0*", "a TIFF image"),
        (b"<svg", "an SVG drawing"),
        (b"\x00\x00\x01\x00", "an icon (ICO)"),
        (b"\xff\x0a", "a JPEG XL image"),
    ];
    let found = kinds.iter().find(|(first, _)| bytes.starts_with(first));
    match found {
        Some((_, kind)) => Some(kind),
        None if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => {
            Some("a WebP image")
        }
        None if bytes.get(4..8) == Some(b"ftyp") => Some("a HEIC or AVIF image"),
        None => None,
    }
}

/// Checks a size that a header gives. Decoding takes at most so many bytes a pixel.
fn size(width: u64, height: u64, bytes: u64, limits: &Limits) -> Result<Size, DataError> {
    let pixels = width.saturating_mul(height);
    if pixels == 0 {
        return Err(DataError::data("the image has no pixels", DAMAGED));
    }
    if pixels > PIXELS {
        let problem = format!("{width} x {height} pixels are over {PIXELS}");
        return Err(DataError::limit(problem, "make the image smaller"));
    }
    limits.check_memory(pixels * bytes)?;
    let (width, height) = (width as usize, height as usize);
    Ok(Size { height, width })
}

fn png(bytes: &[u8], limits: &Limits) -> Result<Image, DataError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes become colours, and fewer bits than 8 become 8; of 16 bits the upper 8 stay.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(damaged)?;
    let size = size(header.width.into(), header.height.into(), 8, limits)?;
    let is_deep = header.bit_depth == BitDepth::Sixteen;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let length = reader.output_buffer_size();
    let mut pixels = vec![0; length.ok_or_else(|| DataError::limit("it is too large", ""))?];
    reader.next_frame(&mut pixels).map_err(damaged)?;
    let (color, samples, is_transparent) = match reader.output_color_type().0 {
        ColorType::Grayscale => (Color::Grayscale, 1, false),
        ColorType::GrayscaleAlpha => (Color::Grayscale, 2, true),
        ColorType::Rgba => (Color::Rgb, 4, true),
        ColorType::Rgb | ColorType::Indexed => (Color::Rgb, 3, false),
    };
    Ok(Image {
        size,
        color,
        pixels: planes(&pixels, samples, color),
        seen: Seen {
            transparent: is_transparent.into(),
            deep: is_deep.into(),
            ..Seen::default()
        },
    })
}

fn jpeg(bytes: &[u8], limits: &Limits) -> Result<Image, DataError> {
    let (mut decoder, size, color) = jpeg_header(bytes, limits)?;
    let out = match color {
        Color::Grayscale => ColorSpace::Luma,
        Color::Rgb => ColorSpace::RGB,
    };
    let options = decoder.options().jpeg_set_out_colorspace(out);
    decoder.set_options(options);
    let pixels = decoder.decode().map_err(damaged)?;
    Ok(Image {
        size,
        color,
        pixels: planes(&pixels, color.channels(), color),
        seen: Seen::default(),
    })
}

type Jpeg<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

/// Reads the header of a JPEG file.
fn jpeg_header<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Jpeg<'a>, Size, Color), DataError> {
    let side = u16::MAX.into();
    let options = DecoderOptions::new_safe()
        .set_max_width(side)
        .set_max_height(side)
        // Where bytes are missing, gray would stand for them.
        .set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let info = decoder.info().ok_or_else(|| damaged("it has no header"))?;
    // Coefficients of 2 bytes for up to four components, and the pixels.
    let size = size(info.width.into(), info.height.into(), 12, limits)?;
    let color = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => Color::Grayscale,
        _ => Color::Rgb,
    };
    Ok((decoder, size, color))
}

/// The channels one after the other, of pixels that have so many samples each; those beyond the channels are left out.
fn planes(pixels: &[u8], samples: usize, color: Color) -> Vec<u8> {
    if samples == 1 {
        return pixels.to_vec();
    }
    let channel = |channel| pixels.iter().skip(channel).step_by(samples).copied();
    (0..color.channels()).flat_map(channel).collect()
}
