//! Published figures of the cards and the training of 2012.

use warpconv::plan::PeakRates;

/// Peak rates of a GeForce GTX 580 (NVIDIA, GeForce GTX 580 specifications, 2010): 512 cores at
/// 1544 MHz, two operations per clock; 384 bits of memory at 4008 million transfers per second.
pub const GTX_580: PeakRates = PeakRates {
    flops: 512.0 * 1544e6 * 2.0,
    bytes: 384.0 / 8.0 * 4008e6,
};

/// Number of cards that AlexNet was trained on, 3 GB each (Krizhevsky et al. 2012, section 3.2).
pub const CARDS: u32 = 2;

/// Duration of the training in days, at least and at most (section 1).
pub const DAYS: [f64; 2] = [5.0, 6.0];

/// Epochs of the training (section 5: "roughly 90").
pub const CYCLES: f64 = 90.0;

/// Number of images in the training set (section 5).
pub const IMAGES: f64 = 1.2e6;

/// Images per second of the training, forward and backward, on both cards: at least and at most.
pub fn training_images_per_second() -> [f64; 2] {
    let [least, most] = DAYS.map(|days| CYCLES * IMAGES / (days * 86_400.0));
    [most, least]
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn the_card_is_the_one_of_the_data_sheet() {
        assert_abs_diff_eq!(GTX_580.flops, 1.581e12, epsilon = 1e9);
        assert_abs_diff_eq!(GTX_580.bytes, 192.4e9, epsilon = 1e8);
        let [least, most] = training_images_per_second();
        assert!((208.0..209.0).contains(&least) && (249.0..251.0).contains(&most));
    }
}
