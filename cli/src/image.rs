//! Images as inputs of the networks: cropped, resized, and each plane normalised.

use std::io::Cursor;
use std::path::Path;

use image::imageops::FilterType;
use image::{
    DynamicImage, GenericImageView, ImageDecoder, ImageError, ImageReader, Limits, RgbImage,
};
use warpconv::files;

/// Maximum rows and columns of an image: JPEG's own limit.
const MAX_SIDE: u32 = 65_535;
/// Maximum bytes of a decoded image, 89 million pixels of RGB: a PNG file of a few hundred bytes
/// can declare gigabytes.
const MAX_DECODED: u64 = 256 << 20;

/// Preprocessing that a set of weights expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preprocessing {
    /// Blue, green, red, values 0 to 255, each minus its mean: the weights of the package ndf.
    Ndf,
    /// A centre crop of an image resized to 256 pixels; red, green, blue from 0 to 1, each minus
    /// its mean and divided by its standard deviation.
    Torchvision,
}

impl Preprocessing {
    /// For each plane the channel of the image, the value subtracted from it and the divisor after
    /// that.
    const fn planes(self) -> [(usize, f64, f64); 3] {
        match self {
            Preprocessing::Ndf => [(2, 104.0, 1.0), (1, 117.0, 1.0), (0, 123.0, 1.0)],
            Preprocessing::Torchvision => [(0, 0.485, 0.229), (1, 0.456, 0.224), (2, 0.406, 0.225)],
        }
    }

    /// Normalised value of a channel's largest value, 255.
    const fn white(self) -> f64 {
        match self {
            Preprocessing::Ndf => 255.0,
            Preprocessing::Torchvision => 1.0,
        }
    }

    /// The pixels of an image as three normalised planes.
    pub fn normalised(self, rgb: &RgbImage) -> Vec<f64> {
        let planes = self.planes().into_iter();
        let planes = planes.flat_map(|(channel, mean, deviation)| {
            rgb.pixels().map(move |pixel| {
                // Divided first: a value of 255 is then exactly one.
                let value = f64::from(pixel[channel]) / (255.0 / self.white());
                (value - mean) / deviation
            })
        });
        planes.collect()
    }

    /// The centre crop of an image, resized to `size` pixels, as three planes.
    pub fn square(self, picture: &DynamicImage, size: u32) -> Vec<f64> {
        let middle = |picture: &DynamicImage, side: u32| {
            let (width, height) = picture.dimensions();
            picture.crop_imm((width - side) / 2, (height - side) / 2, side, side)
        };
        let resized = |picture: &DynamicImage, side: u32| {
            if picture.dimensions() == (side, side) {
                return picture.clone();
            }
            picture.resize_exact(side, side, FilterType::Triangle)
        };
        let short = picture.width().min(picture.height());
        let picture = middle(picture, short);
        let picture = match self {
            Preprocessing::Ndf => resized(&picture, size),
            Preprocessing::Torchvision => middle(&resized(&picture, 256), size),
        };
        self.normalised(&picture.to_rgb8())
    }
}

/// Reads a PNG or JPEG file.
///
/// # Errors
/// One sentence that names the file: if it cannot be read, has another format, is damaged, has no
/// pixels, or decodes to more than 256 MB.
pub fn read(path: &Path) -> Result<DynamicImage, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let bytes = files::bytes(path, files::PICTURE).map_err(|error| named(error.to_string()))?;
    decode(&bytes).map_err(named)
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let failed = |error: ImageError| match error {
        ImageError::Unsupported(_) => {
            "neither a PNG nor a JPEG file that can be read: save it as one of them".to_owned()
        }
        error => format!("cannot be decoded: {error}; save the picture anew"),
    };
    let reader = || {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        reader.map_err(|error| error.to_string())
    };
    let decoder = reader()?.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!(
            "has {width}x{height} pixels, none at all: give another picture"
        ));
    }
    if width.max(height) > MAX_SIDE || decoder.total_bytes() > MAX_DECODED {
        return Err(format!(
            "has {width}x{height} pixels, decoded {} bytes; the most is {MAX_SIDE} pixels per side \
             and {MAX_DECODED} bytes: scale \
             the picture down",
            decoder.total_bytes()
        ));
    }
    drop(decoder);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    // Other allocations of a decoder are at most as large as the image.
    limits.max_alloc = Some(2 * MAX_DECODED);
    let mut reader = reader()?;
    reader.limits(limits);
    reader.decode().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_normalised_in_their_order() {
        let picture = RgbImage::from_fn(2, 1, |x, _| image::Rgb([255, 100 + x as u8, 0]));
        let ndf = Preprocessing::Ndf.normalised(&picture);
        assert_eq!(ndf, [-104.0, -104.0, -17.0, -16.0, 132.0, 132.0]);
        let torch = Preprocessing::Torchvision.normalised(&picture);
        assert_eq!(torch[0], (1.0 - 0.485) / 0.229);
        assert_eq!(torch[3], (101.0 / 255.0 - 0.456) / 0.224);
        assert_eq!(torch[5], -0.406 / 0.225);
        // An image of the right size is not resized, for weights without a resizing step.
        let square = RgbImage::from_fn(3, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let cut = Preprocessing::Ndf.square(&DynamicImage::ImageRgb8(square.clone()), 3);
        assert_eq!(cut, Preprocessing::Ndf.normalised(&square));
    }
}
