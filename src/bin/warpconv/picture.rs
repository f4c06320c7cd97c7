//! Pictures as the networks take them: cut, resized, and each plane normalised.

use std::io::Cursor;
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageReader, Limits, RgbImage};
use warpconv::files;

/// Rows and columns of a picture at most: JPEG's own limit.
const MOST_SIDE: u32 = 65_535;
/// Bytes that decoding a picture may take: a few hundred bytes of PNG can say that they are gigabytes.
const MOST_DECODED: u64 = 1 << 30;

/// What a set of weights expects of its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preprocessing {
    /// Blue, green, red, each less its mean of 0 to 255: the weights of the package ndf.
    Ndf,
    /// The middle of 256 pixels; red, green, blue from 0 to 1, each less its mean and divided by its deviation.
    Torchvision,
}

impl Preprocessing {
    /// A channel of the picture, what is subtracted from it and what it is then divided by, for each plane.
    const fn planes(self) -> [(usize, f64, f64); 3] {
        match self {
            Preprocessing::Ndf => [(2, 104.0, 1.0), (1, 117.0, 1.0), (0, 123.0, 1.0)],
            Preprocessing::Torchvision => [(0, 0.485, 0.229), (1, 0.456, 0.224), (2, 0.406, 0.225)],
        }
    }

    /// What a channel's largest value, 255, stands for.
    const fn white(self) -> f64 {
        match self {
            Preprocessing::Ndf => 255.0,
            Preprocessing::Torchvision => 1.0,
        }
    }

    /// The pixels of a picture as three planes.
    pub fn normalised(self, rgb: &RgbImage) -> Vec<f64> {
        let planes = self.planes().into_iter();
        let planes = planes.flat_map(|(channel, mean, deviation)| {
            rgb.pixels().map(move |pixel| {
                // Divided first: a value of 255 is exactly one then.
                let value = f64::from(pixel[channel]) / (255.0 / self.white());
                (value - mean) / deviation
            })
        });
        planes.collect()
    }

    /// The square in the middle of a picture, resized to `size` pixels, as three planes.
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
pub fn read(path: &Path) -> Result<DynamicImage, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = files::bytes(path, files::PICTURE).map_err(|error| failed(&error))?;
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| failed(&error))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(MOST_DECODED);
    reader.limits(limits);
    reader.decode().map_err(|error| failed(&error))
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
        // A square of the right size is taken as it is, by the weights that want no other.
        let square = RgbImage::from_fn(3, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let cut = Preprocessing::Ndf.square(&DynamicImage::ImageRgb8(square.clone()), 3);
        assert_eq!(cut, Preprocessing::Ndf.normalised(&square));
    }
}
